//! The second hello: keeps a judged TLS flow in sight until its hello is final (evasion T65). Owns the
//! carrying out of what `detect`'s watch says; never parses. Driven by the relay.

use crate::detect::tls::{ClientHello, ClientStep, SecondHelloWatch, ServerStep};
use crate::relay::{Direction, Inspect, Look};

/// The inspector of a TLS flow after its verdict.
pub(crate) struct TlsWatch {
    watch: SecondHelloWatch,
    /// Block: holds back and ends. Audit: only notes.
    strict: bool,
    held: Vec<u8>,
    over: bool,
    differs: Option<&'static str>,
}

impl TlsWatch {
    /// A watch that begins right behind `hello`.
    pub(crate) fn new(hello: &ClientHello, strict: bool) -> Self {
        let watch = SecondHelloWatch::new(hello.hello.clone());
        Self {
            watch,
            strict,
            held: Vec::new(),
            over: false,
            differs: None,
        }
    }

    /// Why the second hello is not the first one's, when it isn't.
    pub(crate) fn differs(&self) -> Option<&'static str> {
        self.differs
    }

    fn client(&mut self, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        match self.watch.client(bytes) {
            ClientStep::Forward(forward) if self.strict => pass.extend(forward),
            ClientStep::Forward(_) => pass.extend_from_slice(bytes),
            ClientStep::Close { what } => {
                self.differs = Some(what);
                if self.strict {
                    return Look::Stop;
                }
                pass.extend_from_slice(bytes);
                return Look::Enough;
            }
        }
        Look::More
    }
}

impl Inspect for TlsWatch {
    fn look(&mut self, direction: Direction, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        match direction {
            // The server answered for good while these were read: they go behind what was held.
            Direction::Up if self.over => {
                pass.append(&mut self.held);
                pass.extend_from_slice(bytes);
                Look::Enough
            }
            Direction::Up => self.client(bytes, pass),
            Direction::Down => {
                pass.extend_from_slice(bytes);
                match self.watch.server(bytes) {
                    ServerStep::Watching => Look::More,
                    ServerStep::NotTls if self.strict => Look::More,
                    ServerStep::NotTls => Look::Enough,
                    ServerStep::Over(held) => {
                        self.over = true;
                        if self.strict {
                            self.held = held;
                        }
                        Look::Enough
                    }
                }
            }
        }
    }

    fn release(&mut self, direction: Direction) -> Vec<u8> {
        match direction {
            Direction::Up => std::mem::take(&mut self.held),
            Direction::Down => Vec::new(),
        }
    }
}
