//! Audit over TCP: a stream to a foreign server is relayed, its queries recorded, its answers read.
//!
//! Bytes pass as they came. What the global block list refuses is answered here and not passed on. A
//! stream that turns out not to be DNS is relayed as it is: audit closes no port that would have worked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::Client;
use super::frame::{Frames, FramingError};
use super::handler::DnsHandler;
use super::relay::{self, Watch};
use super::steps::Step;
use super::tcp::{StreamError, write};

/// For the server to accept the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence of both sides after which the stream is closed; servers close sooner (RFC 7766 §6.2.3).
const IDLE: Duration = Duration::from_mins(5);
/// Queries that wait for answers; past this the oldest are forgotten, not the queries stopped.
const MAX_WATCHED: usize = 256;
/// Octets of one read.
const CHUNK: usize = 16 << 10;

/// Relays one stream of a client in audit to the server that it chose, `client.asked`, to its end.
pub async fn relay_stream<S>(handler: &Arc<DnsHandler>, runner: S, client: &Client) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = handler.clock.now();
    let subject = handler.subject(client);
    let Some(dial) = relay::server(client, &subject, &subject.rulebook(), now) else {
        // Never dialled, or globally blocked: the gateway answers in its stead, under the same policy.
        return super::tcp::serve_stream(handler, runner, client).await;
    };
    let server = TcpStream::connect(SocketAddr::new(dial.address(), dial.port()));
    let server = timeout(CONNECT, server).await.map_err(|_| StreamError::Idle)??;
    let relay = Relay {
        handler,
        client,
        runner,
        server,
        watched: HashMap::new(),
        to_server: Way::Framed(Frames::default()),
    };
    relay.run().await
}

/// What is known of the bytes towards the server.
enum Way {
    /// DNS, so far.
    Framed(Frames),
    /// Not DNS: passed as they are.
    Raw,
}

struct Relay<'a, S> {
    handler: &'a Arc<DnsHandler>,
    client: &'a Client,
    runner: S,
    server: TcpStream,
    watched: HashMap<u16, Watch>,
    to_server: Way,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<'_, S> {
    async fn run(mut self) -> Result<(), StreamError> {
        let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut answers = Answers::default();
        let (mut runner_open, mut deadline) = (true, Instant::now() + IDLE);
        loop {
            tokio::select! {
                read = self.runner.read(&mut up), if runner_open => match read? {
                    0 => {
                        runner_open = false;
                        self.server.shutdown().await?;
                    }
                    length => self.runner_sent(up.get(..length).unwrap_or_default()).await?,
                },
                read = self.server.read(&mut down) => match read? {
                    0 => return self.end(&answers).await,
                    length => self.server_sent(&mut answers, down.get(..length).unwrap_or_default()).await?,
                },
                () = sleep_until(deadline) => return Err(StreamError::Idle),
            }
            deadline = Instant::now() + IDLE;
        }
    }

    async fn runner_sent(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let Way::Framed(frames) = &mut self.to_server else {
            return pass(&mut self.server, bytes).await;
        };
        frames.push(bytes);
        loop {
            let Way::Framed(frames) = &mut self.to_server else {
                return Ok(());
            };
            match frames.next() {
                Ok(Some(query)) => self.query(&query).await?,
                Ok(None) => return Ok(()),
                Err(FramingError::Io(error)) => return Err(error.into()),
                Err(FramingError::NotDns(why)) => {
                    let rest = frames.rest().to_vec();
                    self.to_server = Way::Raw;
                    let judgement = Judgement::WouldRefuse(Refusal::because(Reason::MalformedDns));
                    self.handler.record_malformed(self.client, why, None, &judgement);
                    return pass(&mut self.server, &rest).await;
                }
            }
        }
    }

    async fn query(&mut self, query: &[u8]) -> Result<(), StreamError> {
        let step = self
            .handler
            .read(query, self.client)
            .map(|ask| self.handler.watch(ask));
        match step {
            Ok(Step::Reply(told)) => return write(&mut self.runner, &told.reply).await,
            Ok(Step::Relay(watch)) => {
                if self.watched.len() < MAX_WATCHED
                    && let Some(id) = watch.id()
                {
                    self.watched.insert(id, watch);
                }
            }
            // A mode that changed meanwhile, or bytes that are no query: passed like the rest.
            Ok(Step::Resolve(..)) | Err(_) => {}
        }
        write(&mut self.server, query).await
    }

    async fn server_sent(&mut self, answers: &mut Answers, bytes: &[u8]) -> Result<(), StreamError> {
        if matches!(self.to_server, Way::Raw) {
            let held = std::mem::take(&mut answers.0);
            pass(&mut self.runner, &held).await?;
            return pass(&mut self.runner, bytes).await;
        }
        answers.0.extend_from_slice(bytes);
        while let Some(answer) = answers.next() {
            let watch = answer
                .first_chunk()
                .and_then(|id| self.watched.remove(&u16::from_be_bytes(*id)));
            let passed = match watch {
                Some(watch) => self.handler.relayed(watch, Some(answer)),
                None => Some(answer),
            };
            write(&mut self.runner, &passed.unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// The server closed: what it sent last goes out, and unanswered queries are recorded.
    async fn end(mut self, answers: &Answers) -> Result<(), StreamError> {
        for (_, watch) in self.watched.drain() {
            self.handler.relayed(watch, None);
        }
        pass(&mut self.runner, &answers.0).await?;
        Ok(self.runner.shutdown().await?)
    }
}

/// Bytes from the server that are no whole message yet: at most one message and one read.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Answers {
    fn next(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes(*self.0.first_chunk()?));
        if self.0.len() < 2 + length {
            return None;
        }
        let rest = self.0.split_off(2 + length);
        let mut message = std::mem::replace(&mut self.0, rest);
        message.drain(..2);
        Some(message)
    }
}

async fn pass<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> Result<(), StreamError> {
    match timeout(IDLE, to.write_all(bytes)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(StreamError::Io(io::ErrorKind::TimedOut.into())),
    }
}
