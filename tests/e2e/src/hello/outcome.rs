//! What a client heard, and what of it is TLS. Owns the reading of plaintext records; never a socket.

/// How a connection stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// Nobody has closed it.
    #[default]
    Open,
    /// The far end closed its direction in order (FIN).
    Closed,
    /// It was reset, or could not be made.
    Reset,
}

/// Content type `alert` (RFC 8446 §5.1).
const ALERT: u8 = 21;
/// Content type `handshake`.
const HANDSHAKE: u8 = 22;
/// Handshake type `server_hello`.
const SERVER_HELLO: u8 = 2;
/// The random that makes a ServerHello a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What came back so far.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Every byte, in order.
    pub received: Vec<u8>,
    /// How the connection stands.
    pub end: End,
}

impl Outcome {
    /// The description of the first alert in the clear.
    pub fn alert(&self) -> Option<u8> {
        let mut records = self.records();
        records
            .find(|(kind, _)| *kind == ALERT)
            .and_then(|(_, body)| body.get(1).copied())
    }

    /// The server asked for a second hello.
    pub fn retried(&self) -> bool {
        self.server_hellos().any(|body| body.get(6..38) == Some(&RETRY))
    }

    /// A server answered a hello for good.
    pub fn accepted(&self) -> bool {
        self.server_hellos()
            .any(|body| body.get(6..38).is_some_and(|random| random != RETRY))
    }

    /// The far end has closed or reset the connection.
    pub fn closed(&self) -> bool {
        self.end != End::Open
    }

    /// As text, for protocols that are text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// The complete records so far: type and body. Ends at what is none.
    fn records(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &self.received[..];
        std::iter::from_fn(move || {
            let ([kind, 3, _, high, low], after) = rest.split_first_chunk::<5>()? else {
                return None;
            };
            let (body, next) = after.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
            rest = next;
            Some((*kind, body))
        })
    }

    fn server_hellos(&self) -> impl Iterator<Item = &[u8]> {
        let hellos = self
            .records()
            .filter(|(kind, body)| *kind == HANDSHAKE && body.first() == Some(&SERVER_HELLO));
        hellos.map(|(_, body)| body)
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.received[..self.received.len().min(256)];
        let (end, length) = (self.end, self.received.len());
        write!(f, "{end:?} after {length} bytes: ")?;
        write!(f, "alert {:?}, retried {}, ", self.alert(), self.retried())?;
        write!(f, "accepted {}, \"{}\"", self.accepted(), shown.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{handshake, record};
    use super::*;

    fn server_hello(random: [u8; 32]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend(random);
        body.extend([0, 0x13, 1, 0, 0, 0]);
        record(22, 0x0303, &handshake(2, &body))
    }

    #[test]
    fn tells_a_retry_from_an_answer_and_finds_the_alert_behind_it() {
        let mut outcome = Outcome {
            received: server_hello(RETRY),
            end: End::Open,
        };
        assert!(outcome.retried() && !outcome.accepted() && outcome.alert().is_none());
        outcome.received.extend(record(20, 0x0303, &[1]));
        outcome.received.extend(record(21, 0x0303, &[2, 49]));
        assert_eq!(outcome.alert(), Some(49));
        outcome.received.extend(server_hello([7; 32]));
        assert!(outcome.accepted());
        assert!(
            !Outcome {
                received: b"HTTP/1.1 403 Forbidden\r\n".to_vec(),
                end: End::Closed
            }
            .accepted()
        );
    }
}
