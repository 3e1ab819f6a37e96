//! Requests of an HTTP/2 connection seen in passing: whom each asks for. Owns following the client's frames
//! (RFC 9113 §4.1); never fails the flow: it stops to see where it can't follow. Pure. Driven by
//! [`super::onlook`].

#![deny(clippy::indexing_slicing)]

use tidegate_policy::detection::{Authority, HttpHost};

use super::hpack::{Decoder, Name};
use crate::detect::h2c::PREFACE;
use crate::http1::head::{MAX_HEAD, parse_authority};

/// Octets of a frame's header.
const HEADER: usize = 9;
/// Frame types that carry field blocks.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Flags of theirs.
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// Follows the client's side of an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct FrameObserver {
    state: State,
    decoder: Decoder,
    /// The field block that is under way: at most [`MAX_HEAD`] octets.
    block: Vec<u8>,
    /// The newest stream: a later block of an older one is its trailers.
    newest: u32,
}

#[derive(Debug)]
enum State {
    /// In the preface, a frame's header, or a payload that matters; with what has come of it.
    Gathering(Wanted, Vec<u8>),
    /// In a payload that doesn't matter: so many octets to come.
    Skipping(usize),
    Blind,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Preface,
    Header,
    Fields(Frame),
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    octets: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Wanted {
    fn octets(self) -> usize {
        match self {
            Self::Preface => PREFACE.len(),
            Self::Header => HEADER,
            Self::Fields(frame) => frame.octets,
        }
    }
}

impl FrameObserver {
    /// An observer at the start of a connection.
    pub(super) fn new() -> Self {
        Self {
            state: State::Gathering(Wanted::Preface, Vec::new()),
            decoder: Decoder::default(),
            block: Vec::new(),
            newest: 0,
        }
    }

    /// True when nothing more will be seen.
    pub(super) fn is_blind(&self) -> bool {
        matches!(self.state, State::Blind)
    }

    /// Takes the client's next bytes; `seen` is shown the authority of each request.
    pub(super) fn push(&mut self, bytes: &[u8], mut seen: impl FnMut(Authority)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let complete = match &mut self.state {
                State::Blind => return,
                State::Skipping(left) => {
                    let used = rest.len().min(*left);
                    rest = rest.get(used..).unwrap_or_default();
                    *left -= used;
                    (*left == 0).then_some((Wanted::Header, None))
                }
                State::Gathering(wanted, held) => {
                    let used = rest.len().min(wanted.octets() - held.len());
                    let (now, behind) = rest.split_at_checked(used).unwrap_or((rest, &[]));
                    held.extend_from_slice(now);
                    rest = behind;
                    (held.len() == wanted.octets()).then(|| (*wanted, Some(std::mem::take(held))))
                }
            };
            if let Some((wanted, held)) = complete {
                self.state = match held {
                    Some(held) => self.gathered(wanted, &held, &mut seen).unwrap_or(State::Blind),
                    None => State::Gathering(wanted, Vec::new()),
                };
            }
        }
    }

    /// What comes behind something that is complete; `None` where it can't be followed.
    fn gathered(&mut self, wanted: Wanted, held: &[u8], seen: &mut impl FnMut(Authority)) -> Option<State> {
        match wanted {
            Wanted::Preface if held != PREFACE => return None,
            Wanted::Preface => {}
            Wanted::Header => return self.frame(held),
            Wanted::Fields(frame) => self.fields(frame, held, seen)?,
        }
        Some(State::Gathering(Wanted::Header, Vec::new()))
    }

    fn frame(&mut self, header: &[u8]) -> Option<State> {
        let (&[high, middle, low], rest) = header.split_first_chunk()?;
        let (&[kind, flags], stream) = rest.split_first_chunk()?;
        let frame = Frame {
            octets: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream.try_into().ok()?) & 0x7fff_ffff,
        };
        // RFC 9113 §6.10: nothing comes between the frames of one block.
        let inside = !self.block.is_empty();
        let fields = matches!(kind, HEADERS | CONTINUATION);
        if inside != (kind == CONTINUATION) || fields && self.block.len() + frame.octets > MAX_HEAD {
            return None;
        }
        Some(match (kind, frame.octets) {
            (HEADERS | CONTINUATION, 1..) => State::Gathering(Wanted::Fields(frame), Vec::new()),
            (HEADERS | CONTINUATION, 0) => return None,
            (_, 0) => State::Gathering(Wanted::Header, Vec::new()),
            (_, octets) => State::Skipping(octets),
        })
    }

    fn fields(&mut self, frame: Frame, payload: &[u8], seen: &mut impl FnMut(Authority)) -> Option<()> {
        let fragment = if frame.kind == HEADERS {
            fragment(frame.flags, payload)?
        } else {
            payload
        };
        self.block.extend_from_slice(fragment);
        if frame.flags & END_HEADERS == 0 {
            // An empty one would look like none.
            return (!self.block.is_empty()).then_some(());
        }
        let block = std::mem::take(&mut self.block);
        let mut named: [Option<Vec<u8>>; 2] = [None, None];
        self.decoder.block(&block, |name, value| {
            let [authority, host] = &mut named;
            match name {
                Name::Authority => *authority = Some(value.to_vec()),
                Name::Host => *host = Some(value.to_vec()),
                Name::Other(_) => {}
            }
        })?;
        if frame.stream > self.newest {
            self.newest = frame.stream;
            let [authority, host] = named;
            let asked = authority.or(host).and_then(|text| parse_authority(&text).ok());
            seen(asked.unwrap_or(Authority {
                host: HttpHost::Absent,
                port: None,
            }));
        }
        Some(())
    }
}

/// The field block in the payload of a HEADERS frame (RFC 9113 §6.2).
fn fragment(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    let (padding, rest) = match flags & PADDED {
        0 => (0, payload),
        _ => payload
            .split_first()
            .map(|(padding, rest)| (usize::from(*padding), rest))?,
    };
    let rest = rest.get(if flags & PRIORITY == 0 { 0 } else { 5 }..)?;
    rest.get(..rest.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What hyper's client says when it asks for these, and the server says nothing but that it is one.
    async fn spoken(urls: &[&str]) -> Vec<u8> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let io = TokioIo::new(ours);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), io)
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        for url in urls {
            let long = "x".repeat(20_000);
            let request = Request::post(*url)
                .header("x-long", long)
                .header("user-agent", "u");
            let request = request.body(Full::new(Bytes::from(vec![b'.'; 1000]))).unwrap();
            let answer = sender.send_request(request);
            drop(tokio::spawn(answer));
        }
        let mut all = Vec::new();
        // Each request ends with its body's last frame.
        while bodies(&all) < urls.len() {
            assert!(theirs.read_buf(&mut all).await.unwrap() > 0);
        }
        connection.abort();
        all
    }

    fn bodies(bytes: &[u8]) -> usize {
        bytes
            .windows(1000)
            .filter(|run| run.iter().all(|byte| *byte == b'.'))
            .count()
    }

    fn seen(bytes: &[u8], sizes: &[usize]) -> (Vec<String>, bool) {
        let (mut observer, mut hosts) = (FrameObserver::new(), Vec::new());
        let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = behind;
            observer.push(piece, |authority| {
                hosts.push(match authority.host {
                    HttpHost::Name(name) => name.to_string(),
                    HttpHost::Address(address) => address.to_string(),
                    HttpHost::Absent => "nobody".into(),
                });
            });
        }
        (hosts, observer.is_blind())
    }

    #[tokio::test]
    async fn authorities_are_seen_in_every_segmentation_continuations_and_tables_included() {
        let urls = [
            "http://a.test/",
            "http://b.test:8080/",
            "http://a.test/x",
            "http://192.0.2.1/",
            "http://b.test:8080/",
        ];
        let bytes = spoken(&urls).await;
        for sizes in [&[1_usize][..], &[9, 1], &[7, 1000], &[1 << 20]] {
            let (hosts, blind) = seen(&bytes, sizes);
            assert_eq!(hosts, ["a.test", "b.test", "a.test", "192.0.2.1", "b.test"]);
            assert!(!blind);
        }
    }

    #[test]
    fn what_can_not_be_followed_is_given_up() {
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
            bytes.extend_from_slice(payload);
            bytes
        };
        let all = |frames: &[Vec<u8>]| [PREFACE.to_vec(), frames.concat()].concat();
        let block = b"\x41\x06a.test";
        assert_eq!(
            seen(&all(&[frame(HEADERS, END_HEADERS, block)]), &[5]).0,
            ["a.test"]
        );
        let padded = [&[2, 0, 0, 0, 0, 0][..], block, &[0, 0]].concat();
        assert_eq!(
            seen(
                &all(&[frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded)]),
                &[5]
            )
            .0,
            ["a.test"]
        );
        for frames in [
            vec![frame(HEADERS, END_HEADERS, b"\xff\xff\xff\xff\xff\xff")],
            vec![frame(HEADERS, END_HEADERS | PADDED, b"\x20")],
            vec![frame(HEADERS, 0, block), frame(0, 0, b"data")],
            vec![frame(CONTINUATION, END_HEADERS, block)],
        ] {
            assert_eq!(seen(&all(&frames), &[5]), (Vec::new(), true), "{frames:?}");
        }
        assert!(seen(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[3]).1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_followed_or_given_up(bytes in prop::collection::vec(any::<u8>(), 0..500), size in 1_usize..50) {
            seen(&[PREFACE.to_vec(), bytes].concat(), &[size]);
        }
    }
}
