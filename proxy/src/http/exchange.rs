//! One request and its response between two connections: both bodies stream at once, re-framed and with
//! back-pressure. Owns the ends of messages, early and missing ones too; never judges and never dials.
//! Driven by `session`.

use std::io;
use std::pin::Pin;

use tokio_util::sync::CancellationToken;

use super::inlet::{Inlet, PIECE};
use super::pool::Server;
use super::tally::Tally;
use crate::http1::body::BodyReader;
use crate::http1::head::{
    Asked, HeadProgress, RequestFraming, RequestHead, ResponseFraming, ResponseHead, ResponseReader, Upgrade,
};
use crate::leg::Leg;
use crate::relay::Direction;

/// One exchange to be made. Its future may be dropped at any moment; both connections are then to be reset.
pub(super) struct Exchange<'a> {
    pub(super) client: &'a Leg,
    pub(super) inlet: &'a mut Inlet,
    pub(super) server: &'a mut Server,
    pub(super) head: &'a RequestHead,
    pub(super) tally: &'a Tally<'a>,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Request and response are complete.
    Done {
        /// Whether both connections take another exchange.
        lasting: bool,
    },
    /// The response is complete, the request is not: what follows from the client is no next request.
    Early,
    /// The response ends before its own end; the server closed in order.
    Cut,
    /// What follows is no HTTP any more: 101, or a granted CONNECT.
    Tunnel,
    /// The server closed without a word.
    Silent,
    /// The server's answer can't be read; nothing final of it was passed on.
    Bad(&'static str),
    /// The client's body can't be read; nothing final of a response was passed on.
    BadBody(&'static str),
    /// One side failed, or the client broke the framing while it was answered.
    Broken,
}

/// Why the request's side stopped before its end.
enum Halt {
    /// The client's connection failed.
    Client,
    /// The client ended its side within its request.
    Truncated,
    /// The client's chunks can't be read.
    Framing(&'static str),
    /// The server takes no more.
    Server,
}

/// Where the two directions tell each other how far they are.
#[derive(Default)]
struct Progress {
    /// The client has begun its body.
    begun: CancellationToken,
    /// The whole request went to the server.
    sent: CancellationToken,
    /// A final response began to go to the client.
    answering: CancellationToken,
}

impl Exchange<'_> {
    /// Relays the exchange to its end.
    pub(super) async fn run(self) -> Outcome {
        let Self {
            client,
            inlet,
            server,
            head,
            tally,
        } = self;
        let Server {
            upstream,
            inlet: outlet,
            ..
        } = server;
        let (leg, progress) = (&upstream.leg, &Progress::default());
        let up = Upload {
            client,
            inlet,
            leg,
            tally,
            progress,
        };
        let down = Download {
            client,
            outlet,
            leg,
            tally,
            progress,
        };
        tokio::pin! {
            let up = up.run(head);
            let down = down.run(head);
        }
        let (answered, halted) = match both(up.as_mut(), down, leg, progress).await {
            Ok(answered) => answered,
            Err(outcome) => return outcome,
        };
        let Outcome::Done { lasting } = answered else {
            return answered;
        };
        if progress.sent.is_cancelled() {
            return Outcome::Done { lasting };
        }
        // RFC 9110 §10.1.1: a client that waited to be told so may never send the body.
        let withheld = head.expects_continue && !progress.begun.is_cancelled();
        if halted || !lasting || withheld {
            return Outcome::Early;
        }
        tokio::select! {
            halt = up => match halt {
                Halt::Client | Halt::Framing(_) => Outcome::Broken,
                Halt::Truncated | Halt::Server => Outcome::Early,
            },
            () = progress.sent.cancelled() => Outcome::Done { lasting },
        }
    }
}

/// Runs both ways until the response is over; whether the request was halted comes with it.
async fn both(
    mut up: Pin<&mut impl Future<Output = Halt>>,
    mut down: Pin<&mut impl Future<Output = Outcome>>,
    leg: &Leg,
    progress: &Progress,
) -> Result<(Outcome, bool), Outcome> {
    let mut halted = false;
    loop {
        tokio::select! {
            answered = &mut down => return Ok((answered, halted)),
            halt = &mut up, if !halted => match halt {
                Halt::Client => return Err(Outcome::Broken),
                Halt::Framing(_) if progress.answering.is_cancelled() => return Err(Outcome::Broken),
                Halt::Framing(what) => return Err(Outcome::BadBody(what)),
                // The response may be on its way all the same.
                Halt::Truncated => {
                    leg.end_writes();
                    halted = true;
                }
                Halt::Server => halted = true,
            },
        }
    }
}

/// The request's way.
struct Upload<'a> {
    client: &'a Leg,
    inlet: &'a mut Inlet,
    leg: &'a Leg,
    tally: &'a Tally<'a>,
    progress: &'a Progress,
}

impl Upload<'_> {
    /// Sends the request, then looks whether the client is still there; returns only when something stops
    /// it.
    async fn run(mut self, head: &RequestHead) -> Halt {
        match self.send(head).await {
            Ok(()) => {
                self.progress.sent.cancel();
                self.watch().await
            }
            Err(halt) => halt,
        }
    }

    async fn send(&mut self, head: &RequestHead) -> Result<(), Halt> {
        let mut out = Vec::new();
        head.forward(&mut out);
        self.put(&out).await?;
        let mut body = BodyReader::for_request(head.framing);
        if head.framing == RequestFraming::Empty {
            return Ok(());
        }
        while !body.is_done() {
            if self.inlet.held().is_empty() {
                let read = self.inlet.fill(self.client).await.map_err(|_| Halt::Client)?;
                if read == 0 {
                    return Err(Halt::Truncated);
                }
            }
            self.progress.begun.cancel();
            out.clear();
            let used = step(&mut body, self.inlet.held(), &mut out).map_err(Halt::Framing)?;
            match used {
                Used::AsItIs(octets) => self.pass(octets).await?,
                Used::Anew(octets) => {
                    self.put(&out).await?;
                    self.inlet.take(octets);
                }
            }
        }
        Ok(())
    }

    async fn pass(&mut self, octets: usize) -> Result<(), Halt> {
        let bytes = self.inlet.held().get(..octets).unwrap_or_default();
        self.leg.write_all(bytes).await.map_err(|_| Halt::Server)?;
        self.tally.count(Direction::Up, octets);
        self.inlet.take(octets);
        Ok(())
    }

    async fn put(&self, bytes: &[u8]) -> Result<(), Halt> {
        self.leg.write_all(bytes).await.map_err(|_| Halt::Server)?;
        self.tally.count(Direction::Up, bytes.len());
        Ok(())
    }

    /// Looks one piece ahead, so that a client that is gone is noticed while its server thinks. A client
    /// that only ended its side still waits for the response.
    async fn watch(&mut self) -> Halt {
        while !self.inlet.ended() && self.inlet.held().len() < PIECE {
            if self.inlet.fill(self.client).await.is_err() {
                return Halt::Client;
            }
        }
        std::future::pending().await
    }
}

/// The response's way.
struct Download<'a> {
    client: &'a Leg,
    outlet: &'a mut Inlet,
    leg: &'a Leg,
    tally: &'a Tally<'a>,
    progress: &'a Progress,
}

impl Download<'_> {
    async fn run(mut self, head: &RequestHead) -> Outcome {
        let answered = loop {
            match self.head(head.asked()).await {
                Ok(answer) if answer.is_interim() => {
                    if self.forward(&answer).await.is_err() {
                        return Outcome::Broken;
                    }
                }
                Ok(answer) => break answer,
                Err(outcome) => return outcome,
            }
        };
        if answered.status == 101 && matches!(head.upgrade, Upgrade::None | Upgrade::H2c) {
            return Outcome::Bad("101 to a request that asked for no upgrade");
        }
        self.progress.answering.cancel();
        if self.forward(&answered).await.is_err() {
            return Outcome::Broken;
        }
        if answered.framing == ResponseFraming::Tunnel {
            return Outcome::Tunnel;
        }
        self.body(answered.framing, answered.keep_alive && head.keep_alive)
            .await
    }

    async fn head(&mut self, asked: Asked) -> Result<Box<ResponseHead>, Outcome> {
        let mut reader = ResponseReader::new(asked);
        loop {
            match reader.advance(self.outlet.held()) {
                HeadProgress::Done(head) => {
                    self.outlet.take(head.consumed);
                    return Ok(head);
                }
                HeadProgress::Refused(error) => return Err(Outcome::Bad(error.what)),
                HeadProgress::NeedMore => match self.outlet.fill(self.leg).await {
                    Ok(1..) => {}
                    Ok(_) | Err(_) if self.outlet.held().is_empty() => return Err(Outcome::Silent),
                    Ok(_) | Err(_) => {
                        return Err(Outcome::Bad("a connection that ends within the response's head"));
                    }
                },
            }
        }
    }

    async fn forward(&self, head: &ResponseHead) -> io::Result<()> {
        let mut out = Vec::new();
        head.forward(&mut out);
        self.put(&out).await
    }

    async fn body(&mut self, framing: ResponseFraming, lasting: bool) -> Outcome {
        let mut body = BodyReader::for_response(framing);
        let mut out = Vec::new();
        while !body.is_done() {
            if self.outlet.held().is_empty() {
                match self.outlet.fill(self.leg).await {
                    Ok(1..) => {}
                    Ok(_) if framing == ResponseFraming::UntilClose => {
                        return Outcome::Done { lasting: false };
                    }
                    Ok(_) => return Outcome::Cut,
                    Err(_) => return Outcome::Broken,
                }
            }
            out.clear();
            let Ok(used) = step(&mut body, self.outlet.held(), &mut out) else {
                return Outcome::Broken;
            };
            let (Used::AsItIs(octets) | Used::Anew(octets)) = used;
            let bytes = match used {
                Used::AsItIs(_) => self.outlet.held().get(..octets).unwrap_or_default(),
                Used::Anew(_) => out.as_slice(),
            };
            if self.put(bytes).await.is_err() {
                return Outcome::Broken;
            }
            self.outlet.take(octets);
        }
        // What comes behind a response that is complete belongs to nobody.
        Outcome::Done {
            lasting: lasting && self.outlet.held().is_empty(),
        }
    }

    async fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.client.write_all(bytes).await?;
        self.tally.count(Direction::Down, bytes.len());
        Ok(())
    }
}

/// What became of the next bytes of a body.
#[derive(Clone, Copy)]
enum Used {
    /// So many pass as they are.
    AsItIs(usize),
    /// So many were used up, and what is to be passed was written anew.
    Anew(usize),
}

/// Takes the next bytes of a body. Long runs of data are not copied.
fn step(body: &mut BodyReader, held: &[u8], out: &mut Vec<u8>) -> Result<Used, &'static str> {
    let plain = usize::try_from(body.plain())
        .unwrap_or(usize::MAX)
        .min(held.len());
    // A short run amid chunk lines goes with them in one write.
    if plain > 0 && (plain == held.len() || plain > PIECE / 4) {
        body.passed(plain as u64);
        return Ok(Used::AsItIs(plain));
    }
    let advance = body
        .advance(held, out)
        .map_err(|_| "a body that is not framed as its head says")?;
    Ok(Used::Anew(advance.consumed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn all(framing: ResponseFraming, input: &[u8], cut: usize) -> (Vec<u8>, usize, bool) {
        let (mut body, mut passed, mut at) = (BodyReader::for_response(framing), Vec::new(), 0);
        let mut out = Vec::new();
        while at < input.len() && !body.is_done() {
            let held = &input[at..input.len().min(at + cut)];
            out.clear();
            match step(&mut body, held, &mut out).unwrap() {
                Used::AsItIs(octets) => {
                    passed.extend_from_slice(&held[..octets]);
                    at += octets;
                }
                Used::Anew(octets) => {
                    passed.extend_from_slice(&out);
                    at += octets;
                }
            }
        }
        (passed, at, body.is_done())
    }

    #[test]
    fn bodies_end_where_their_framing_says_in_every_segmentation() {
        let chunked = b"5;x=y\r\nhello\r\n3\r\n, w\r\n0\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n";
        for cut in 1..=chunked.len() {
            let (passed, used, done) = all(ResponseFraming::Chunked, chunked, cut);
            assert_eq!(
                passed, b"5\r\nhello\r\n3\r\n, w\r\n0\r\nA: b\r\n\r\n",
                "cut {cut}"
            );
            assert!(done && chunked[used..].starts_with(b"HTTP"), "cut {cut}");
            let (passed, used, done) = all(ResponseFraming::Length(5), b"helloHTTP", cut);
            assert_eq!(
                (passed.as_slice(), used, done),
                (&b"hello"[..], 5, true),
                "cut {cut}"
            );
        }
    }
}
