//! ClientHellos as bytes, honest and not: what no real client can be made to send.
//!
//! Owns the crafting, byte by byte; completes no handshake and holds no crypto: a share is a generator
//! point, good enough for a server to answer. Never opens a socket ([`client`](self::Client) does). Tests
//! drive it.

mod client;
mod outcome;

pub use self::client::{Client, exchange, send, send_in_pieces};
pub use self::outcome::{End, Outcome};

/// Extension `server_name` (RFC 6066 §3).
pub const SERVER_NAME: u16 = 0;
/// Extension `supported_groups` (RFC 8446 §4.2.7).
const SUPPORTED_GROUPS: u16 = 10;
/// Extension `signature_algorithms` (RFC 8446 §4.2.3).
const SIGNATURE_ALGORITHMS: u16 = 13;
/// Extension `padding` (RFC 7685).
const PADDING: u16 = 21;
/// Extension `supported_versions` (RFC 8446 §4.2.1).
const SUPPORTED_VERSIONS: u16 = 43;
/// Extension `key_share` (RFC 8446 §4.2.8).
const KEY_SHARE: u16 = 51;
/// Extension `application_layer_protocol_negotiation` (RFC 7301).
const ALPN: u16 = 16;
/// Extension `encrypted_client_hello` (RFC 9849 §5).
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Extension `encrypted_server_name`, ECH's draft predecessor.
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// Longest body of a TLS record in the clear (RFC 8446 §5.1).
pub const RECORD: usize = 1 << 14;
/// Suites of GREASE and beyond, enough to fill a hello past what extensions can hold.
const MOST_SUITES: usize = 0x7fff;

/// A group in which a hello may offer a key share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// secp256r1.
    P256,
    /// secp384r1, for which common clients send no share.
    P384,
    /// x25519.
    X25519,
}

impl Group {
    const ALL: [Self; 3] = [Self::X25519, Self::P256, Self::P384];

    const fn id(self) -> u16 {
        match self {
            Self::P256 => 0x0017,
            Self::P384 => 0x0018,
            Self::X25519 => 0x001d,
        }
    }

    /// The group's generator, as a key share carries a point.
    fn point(self) -> Vec<u8> {
        match self {
            Self::P256 => from_hex(
                "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                 4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            ),
            Self::P384 => from_hex(
                "04aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a38\
                 5502f25dbf55296c3a545e3872760ab73617de4a96262c6f5d9e98bf9292dc29f8\
                 f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
            ),
            Self::X25519 => {
                let mut point = vec![0; 32];
                point[0] = 9;
                point
            }
        }
    }
}

/// A ClientHello to be written; every part can be made wrong.
#[derive(Debug, Clone)]
#[must_use]
pub struct Hello {
    version: u16,
    session: Vec<u8>,
    suites: Vec<u16>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Default for Hello {
    fn default() -> Self {
        Self::nameless()
    }
}

impl Hello {
    /// TLS 1.3 and 1.2 with a share for x25519, and no server name.
    pub fn nameless() -> Self {
        let groups: Vec<u8> = Group::ALL
            .iter()
            .flat_map(|group| group.id().to_be_bytes())
            .collect();
        let hello = Self {
            version: 0x0303,
            session: vec![9; 32],
            suites: vec![0x1301, 0x1302, 0xc02b, 0xc02f],
            extensions: vec![
                (SUPPORTED_GROUPS, vector16(&groups)),
                (SIGNATURE_ALGORITHMS, vector16(&[4, 3, 5, 3, 8, 4, 4, 1, 8, 7])),
                (SUPPORTED_VERSIONS, vec![4, 3, 4, 3, 3]),
            ],
        };
        hello.share(Group::X25519)
    }

    /// The same for a name.
    pub fn named(name: impl AsRef<[u8]>) -> Self {
        Self::nameless().with(SERVER_NAME, server_names(&[(0, name.as_ref())]))
    }

    /// Adds an extension in front of the others.
    pub fn with(mut self, kind: u16, data: Vec<u8>) -> Self {
        self.extensions.insert(0, (kind, data));
        self
    }

    /// Offers a share in this group and in no other. All groups stay supported.
    pub fn share(mut self, group: Group) -> Self {
        let mut share = group.id().to_be_bytes().to_vec();
        share.extend(vector16(&group.point()));
        self.extensions.retain(|(kind, _)| *kind != KEY_SHARE);
        self.extensions.push((KEY_SHARE, vector16(&share)));
        self
    }

    /// Offers these protocols.
    pub fn alpn(self, protocols: &[&str]) -> Self {
        let list: Vec<u8> = protocols
            .iter()
            .flat_map(|name| vector8(name.as_bytes()))
            .collect();
        self.with(ALPN, vector16(&list))
    }

    /// Carries an outer `encrypted_client_hello` with this config id: real or GREASE, nobody can tell.
    pub fn ech(self, config_id: u8) -> Self {
        let mut data = vec![0, 0, 1, 0, 1, config_id];
        data.extend(vector16(&[3; 32]));
        data.extend(vector16(&[4; 144]));
        self.with(ENCRYPTED_CLIENT_HELLO, data)
    }

    /// Carries ESNI, ECH's draft predecessor.
    pub fn esni(self) -> Self {
        self.with(ENCRYPTED_SERVER_NAME, vec![0x13, 1, 0, 0x1d, 0, 0, 0, 0, 0, 0])
    }

    /// Another `legacy_version`.
    pub fn version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// Another session id, to tell hellos apart.
    pub fn session(mut self, session: &[u8]) -> Self {
        self.session = session.to_vec();
        self
    }

    /// Grows the message to `size` octets: padding as far as extensions go, unknown cipher suites beyond.
    pub fn padded(mut self, size: usize) -> Self {
        let extension = 4;
        let missing = |hello: &Self| size.saturating_sub(hello.message().len());
        let room = usize::from(u16::MAX) - self.extension_bytes().len() - extension;
        let padding = missing(&self).saturating_sub(extension).min(room);
        self.extensions.push((PADDING, vec![0; padding]));
        let suites = missing(&self).div_ceil(2).min(MOST_SUITES - self.suites.len());
        self.suites.extend(std::iter::repeat_n(0x5a5a, suites));
        self
    }

    /// The handshake message: type, 24-bit length, body.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([5; 32]);
        body.extend(vector8(&self.session));
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        body.extend(vector16(&suites));
        body.extend([1, 0]);
        body.extend(vector16(&self.extension_bytes()));
        handshake(1, &body)
    }

    /// The message in as few records as it needs.
    pub fn wire(&self) -> Vec<u8> {
        records(0x0301, &self.message(), RECORD)
    }

    fn extension_bytes(&self) -> Vec<u8> {
        let written = self.extensions.iter().flat_map(|(kind, data)| {
            let mut extension = kind.to_be_bytes().to_vec();
            extension.extend(vector16(data));
            extension
        });
        written.collect()
    }
}

/// An honest hello for a name, on the wire.
pub fn plain(name: &str) -> Vec<u8> {
    Hello::named(name).wire()
}

/// A hello whose only key share is for x25519: a server that wants another group asks for a second hello.
pub fn with_unusable_share(name: &str) -> Vec<u8> {
    Hello::named(name).share(Group::X25519).wire()
}

/// A hello with a share for secp384r1.
pub fn with_p384_share(name: &str) -> Vec<u8> {
    Hello::named(name).share(Group::P384).wire()
}

/// A handshake message of any type.
pub fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u32).to_be_bytes().to_vec();
    message[0] = kind;
    message.extend(body);
    message
}

/// Handshake records of at most `size` octets each.
pub fn records(version: u16, message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|piece| record(22, version, piece))
        .collect()
}

/// One record.
pub fn record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend(version.to_be_bytes());
    record.extend(vector16(body));
    record
}

/// The data of a server_name extension with any list of (type, name).
pub fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|(kind, name)| {
            let mut entry = vec![*kind];
            entry.extend(vector16(name));
            entry
        })
        .collect();
    vector16(&list)
}

fn vector8(bytes: &[u8]) -> Vec<u8> {
    let mut vector = vec![bytes.len() as u8];
    vector.extend(bytes);
    vector
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    let mut vector = (bytes.len() as u16).to_be_bytes().to_vec();
    vector.extend(bytes);
    vector
}

/// Only for the constants above.
fn from_hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal constant") as u8;
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_reaches_the_size_wanted_within_a_suite() {
        for size in [600, 12 << 10, 16 << 10, 60 << 10, 100 << 10, 128 << 10] {
            let message = Hello::named("a.test").padded(size).message();
            assert!(message.len().abs_diff(size) <= 1, "{} for {size}", message.len());
        }
    }

    #[test]
    fn records_of_any_size_hold_the_message_again() {
        let message = Hello::named("a.test").message();
        for size in [1, 7, 100, RECORD] {
            let wire = records(0x0301, &message, size);
            let bodies: Vec<u8> = wire
                .chunks(size + 5)
                .flat_map(|record| record[5..].to_vec())
                .collect();
            assert_eq!(bodies, message);
        }
    }
}
