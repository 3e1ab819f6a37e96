//! HTTP/2 over the sockets of a flow: the client's bytes replayed, and bodies counted as they pass. Owns these
//! adapters; never looks into a frame. Driven by hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::servers::Held;
use crate::Proxy;
use crate::context::FlowContext;
use crate::leg::Leg;
use crate::relay::{Direction, Traffic};

/// A body that is answered: the gateway's own words, or a server's.
pub(super) type Reply = Either<Full<Bytes>, Counted>;

/// Another handle of a leg's connection, for a library that wants to own one. The leg still decides how the
/// connection ends.
pub(super) fn twin(leg: &Leg) -> io::Result<TcpStream> {
    let twin = leg.twin()?;
    leg.retire()?;
    Ok(twin)
}

/// The client's connection, with what was read from it before.
pub(super) struct ClientIo {
    stream: TcpStream,
    first: Bytes,
    proxy: Arc<Proxy>,
    traffic: Arc<Traffic>,
}

impl ClientIo {
    pub(super) fn new(context: &FlowContext, client: &Leg, first: Vec<u8>) -> io::Result<Self> {
        let traffic = Arc::clone(context.traffic());
        Ok(Self {
            stream: twin(client)?,
            first: first.into(),
            proxy: Arc::clone(&context.proxy),
            traffic,
        })
    }

    fn count(&self, direction: Direction, bytes: usize) {
        self.proxy.means.count(&self.traffic, direction, bytes);
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.first.is_empty() {
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let now = self.first.len().min(buffer.remaining());
            buffer.put_slice(self.first.get(..now).unwrap_or_default());
            self.first.advance(now);
        }
        self.count(Direction::Up, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.count(Direction::Down, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces))?;
        self.count(Direction::Down, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A body on its way through, one side's window at a time.
#[derive(Debug)]
pub(super) struct Counted {
    body: Incoming,
    direction: Direction,
    event: Arc<Traffic>,
    /// Keeps the server in use until the body has passed.
    _held: Arc<Held>,
}

impl Counted {
    pub(super) fn new(body: Incoming, direction: Direction, event: &Arc<Traffic>, held: &Arc<Held>) -> Self {
        Self {
            body,
            direction,
            event: Arc::clone(event),
            _held: Arc::clone(held),
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.event.count(self.direction, data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
