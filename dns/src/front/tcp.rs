//! Queries over TCP (RFC 7766): every query of a stream is judged by itself, in any framing.
//!
//! The loop is ours rather than hickory-server's: that one knows no local address, answers serially and
//! caps neither connections nor queries. Connections, queries, waits and the octets of a message are
//! all bounded here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::client::{Client, Transport};
use super::frame::{Frames, FramingError};
use super::handler::{Begun, DnsHandler};
use super::metrics::Dropped;

/// Queries of one connection; a client with more opens another one.
const MAX_QUERIES: usize = 1_000;
/// Queries of one connection that wait for upstreams at once.
const MAX_PIPELINED: usize = 16;
/// From one whole query to the next: a length prefix sent an octet at a time does not prolong it.
const IDLE: Duration = Duration::from_secs(10);
/// For a client to take one answer.
const WRITE: Duration = Duration::from_secs(5);
/// Wait after an error of the listener itself (out of descriptors), so that it does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// How a stream ended otherwise than by the client's close.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The stream broke.
    #[error("the stream broke")]
    Io(#[from] io::Error),
    /// What came is not DNS.
    #[error("not DNS: {0}")]
    NotDns(&'static str),
    /// The client was silent, or slow, for too long.
    #[error("the client was silent for too long")]
    Idle,
}

impl From<FramingError> for StreamError {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::Io(error) => Self::Io(error),
            FramingError::NotDns(what) => Self::NotDns(what),
        }
    }
}

/// Accepts connections until the future is dropped, at most so many in all and a source.
pub async fn serve_tcp(handler: Arc<DnsHandler>, listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept DNS connections");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = handler.connections.take(source.ip()) else {
            handler.metrics.dropped(Dropped::Limit, 1);
            continue;
        };
        let Ok(asked) = stream.local_addr() else { continue };
        let client = Client {
            source,
            asked,
            transport: Transport::Tcp,
            spoofed: false,
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = serve_stream(&handler, stream, &client).await {
                debug!(%source, %error, "a DNS connection ended");
            }
        });
    }
}

/// Serves one stream of length-prefixed queries, to `client.asked` or any foreign server, to its end.
pub async fn serve_stream<S>(
    handler: &Arc<DnsHandler>,
    mut stream: S,
    client: &Client,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outcome = converse(handler, &mut stream, client).await;
    if let Err(StreamError::NotDns(what)) = outcome {
        handler.malformed(client, what, None);
    }
    outcome
}

async fn converse<S>(handler: &Arc<DnsHandler>, stream: &mut S, client: &Client) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frames = Frames::default();
    let mut waiting = FuturesUnordered::new();
    let (mut queries, mut ended) = (0, false);
    let mut deadline = Instant::now() + IDLE;
    loop {
        // Frames that are there already come before any wait.
        while waiting.len() < MAX_PIPELINED
            && queries < MAX_QUERIES
            && let Some(query) = frames.next()?
        {
            queries += 1;
            deadline = Instant::now() + IDLE;
            match handler.begin(&query, client) {
                Begun::Done(Some(reply)) => write(stream, &reply).await?,
                Begun::Done(None) => return Err(StreamError::NotDns("a message that is no query")),
                Begun::Later(pending) => waiting.push(pending.finish()),
            }
        }
        ended = ended || queries >= MAX_QUERIES;
        if ended && waiting.is_empty() {
            return Ok(stream.shutdown().await?);
        }
        let reading = !ended && waiting.len() < MAX_PIPELINED;
        tokio::select! {
            Some(reply) = waiting.next(), if !waiting.is_empty() => {
                if let Some(reply) = reply {
                    write(stream, &reply).await?;
                }
                deadline = Instant::now() + IDLE;
            }
            read = frames.fill(stream), if reading => ended = read? == 0,
            () = sleep_until(deadline) => return Err(StreamError::Idle),
        }
    }
}

/// Writes one framed message.
pub(crate) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) -> Result<(), StreamError> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::other("an answer over 65535 octets"))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend_from_slice(message);
    timeout(WRITE, stream.write_all(&framed))
        .await
        .map_err(|_| StreamError::Idle)??;
    Ok(())
}
