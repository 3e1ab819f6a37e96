//! Requests seen in passing: what a client asks on a connection whose bytes go on unchanged. Owns following
//! the client's side from request to request; never fails the flow: it stops to see where its reading and the
//! server's could differ. Pure. Driven by [`super::onlook`].

use crate::http1::body::BodyReader;
use crate::http1::head::{
    HeadError, HeadProgress, RequestFraming, RequestHead, RequestReader, TargetForm, Upgrade,
};

/// What was seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// A request.
    Request(Box<RequestHead>),
    /// Something else. Nothing more is seen after it.
    Malformed(Box<HeadError>),
}

/// Follows the client's side of a connection.
#[derive(Debug)]
pub(super) struct RequestObserver(State);

#[derive(Debug)]
enum State {
    /// In a head, of which so much has come: at most its bound and one push.
    Head(RequestReader, Vec<u8>),
    Body(BodyReader),
    Blind,
}

impl RequestObserver {
    /// An observer at the start of a request.
    pub(super) fn new() -> Self {
        Self(State::head())
    }

    /// True when nothing more will be seen.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self.0, State::Blind)
    }

    /// Takes the client's next bytes; `seen` is shown each request whose head is complete.
    pub(super) fn push(&mut self, bytes: &[u8], mut seen: impl FnMut(Seen)) {
        let mut rest = bytes.to_vec();
        while !rest.is_empty() {
            rest = match &mut self.0 {
                State::Blind => return,
                State::Head(reader, held) => {
                    held.append(&mut rest);
                    match reader.advance(held) {
                        HeadProgress::NeedMore => return,
                        HeadProgress::Done(head) => {
                            let behind = held.split_off(head.consumed);
                            self.0 = State::behind(&head);
                            seen(Seen::Request(head));
                            behind
                        }
                        HeadProgress::Refused(error) => {
                            self.0 = State::Blind;
                            return seen(Seen::Malformed(error));
                        }
                    }
                }
                State::Body(body) => {
                    let Some(used) = skip(body, &rest) else {
                        self.0 = State::Blind;
                        return;
                    };
                    rest.split_off(used)
                }
            };
            if matches!(&self.0, State::Body(body) if body.is_done()) {
                self.0 = State::head();
            }
        }
    }
}

impl State {
    fn head() -> Self {
        Self::Head(RequestReader::new(), Vec::new())
    }

    /// What follows a request. Whether a tunnel or another protocol does, the server's answer says, which is
    /// not seen here.
    fn behind(head: &RequestHead) -> Self {
        if head.target_form == TargetForm::Authority || head.upgrade != Upgrade::None {
            return Self::Blind;
        }
        match head.framing {
            RequestFraming::Empty | RequestFraming::Length(0) => Self::head(),
            framing @ (RequestFraming::Length(_) | RequestFraming::Chunked) => {
                Self::Body(BodyReader::for_request(framing))
            }
        }
    }
}

/// Passes over the next bytes of a body; `None` where it is not framed as its head says.
fn skip(body: &mut BodyReader, bytes: &[u8]) -> Option<usize> {
    let (mut used, mut nowhere) = (0, Vec::new());
    while used < bytes.len() && !body.is_done() {
        let rest = bytes.get(used..).unwrap_or_default();
        let plain = usize::try_from(body.plain())
            .unwrap_or(usize::MAX)
            .min(rest.len());
        if plain > 0 {
            body.passed(plain as u64);
            used += plain;
            continue;
        }
        // Between runs of data: up to the end of a chunk line, so that no data is copied.
        let line = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |end| end + 1);
        nowhere.clear();
        let advance = body
            .advance(rest.get(..line).unwrap_or_default(), &mut nowhere)
            .ok()?;
        used += advance.consumed;
    }
    Some(used)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    /// The targets of all requests seen when the bytes come in pieces of these sizes, again and again.
    fn seen(bytes: &[u8], sizes: &[usize]) -> (Vec<String>, bool) {
        let (mut observer, mut targets) = (RequestObserver::new(), Vec::new());
        let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = behind;
            observer.push(piece, |seen| match seen {
                Seen::Request(head) => targets.push(String::from_utf8_lossy(head.target()).into_owned()),
                Seen::Malformed(error) => targets.push(error.what.to_owned()),
            });
        }
        (targets, observer.is_blind())
    }

    const MANY: &str = "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: b.test\r\nContent-Length: 20\r\n\r\nGET /no HTTP/1.1\r\n\r\n\
        PUT /3 HTTP/1.1\r\nHost: c.test\r\nTransfer-Encoding: chunked\r\n\r\n\
        12\r\nGET /no HTTP/1.1\r\n\r\n1;x=y\r\n.\r\n0\r\nT: 1\r\n\r\n\
        PUT /4 HTTP/1.1\r\nHost: c.test\r\nContent-Length: 0\r\n\r\n\
        GET /5 HTTP/1.1\r\nHost: a.test\r\n\r\n";

    proptest! {
        #[test]
        fn requests_are_seen_in_every_segmentation_and_bodies_are_not(sizes in prop::collection::vec(1_usize..80, 1..8)) {
            prop_assert_eq!(seen(MANY.as_bytes(), &sizes), (vec!["/1".into(), "/2".into(), "/3".into(), "/4".into(), "/5".into()], false));
        }

        #[test]
        fn any_bytes_are_followed_or_given_up(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1_usize..50) {
            seen(&bytes, &[size]);
        }
    }

    #[test]
    fn where_the_next_bytes_could_be_anything_nothing_more_is_seen() {
        for (first, what) in [
            (
                "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "/ws",
            ),
            (
                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
                "a.test:443",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
                "more than one Host",
            ),
        ] {
            let all = format!("{first}GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert_eq!(
                seen(all.as_bytes(), &[7]),
                (vec![what.to_owned()], true),
                "{first}"
            );
        }
        let broken = "POST /1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(seen(broken.as_bytes(), &[11]), (vec!["/1".to_owned()], true));
    }
}
