//! One direction of a relayed connection: from one socket to the other until the end, by `splice(2)`
//! while the pool has pipes, by copying while it has none. Owns no socket; never looks at bytes. Driven by
//! `relay::Relay`, two of them a connection.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipes::{Lent, PipePool};
use super::{Meter, Path};

/// Bytes copied at once, a thread. Small, because what a slow sink did not take is kept for it.
const SCRATCH: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Which end of a direction failed.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The end that bytes come from: usually a reset.
    #[error("the sending side failed")]
    Source(#[source] io::Error),
    /// The end that bytes go to.
    #[error("the receiving side failed")]
    Sink(#[source] io::Error),
}

/// Carries everything from `source` to `sink`, then ends the sink's write side.
pub async fn carry(
    source: &TcpStream,
    sink: &TcpStream,
    pool: &Arc<PipePool>,
    meter: &Meter<'_>,
) -> Result<(), Broken> {
    loop {
        // Waiting holds neither a pipe nor a buffer.
        source.readable().await.map_err(Broken::Source)?;
        let ended = match pool.take() {
            Some(pipe) => splice(source, sink, pipe, meter).await?,
            None => copy(source, sink, meter).await?,
        };
        if ended {
            break;
        }
    }
    end_writes(sink);
    Ok(())
}

/// Half-closes. A sink that is gone already has nothing to be told.
pub fn end_writes(sink: &TcpStream) {
    let _ = SockRef::from(sink).shutdown(Shutdown::Write);
}

/// Splices while the source has bytes; true at its end.
async fn splice(
    source: &TcpStream,
    sink: &TcpStream,
    mut pipe: Lent,
    meter: &Meter<'_>,
) -> Result<bool, Broken> {
    loop {
        match source.try_io(Interest::READABLE, || pipe.fill(source)) {
            Ok(0) => return Ok(true),
            Ok(moved) => meter.moved(moved, Path::Splice),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(Broken::Source(error)),
        }
        // Emptied wholly before it is filled again: see `Lent::fill`.
        while pipe.held() > 0 {
            sink.async_io(Interest::WRITABLE, || pipe.drain(sink))
                .await
                .map_err(Broken::Sink)?;
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Copies what the source has at this moment; true at its end.
async fn copy(source: &TcpStream, sink: &TcpStream, meter: &Meter<'_>) -> Result<bool, Broken> {
    let copied = BUFFER.with_borrow_mut(|buffer| copy_now(source, sink, buffer));
    let rest = match copied {
        Ok(Copied::End) => return Ok(true),
        Ok(Copied::Some { bytes, rest }) => {
            meter.moved(bytes, Path::Copy);
            rest
        }
        Err(Broken::Source(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(broken) => return Err(broken),
    };
    write_all(sink, &rest).await.map_err(Broken::Sink)?;
    tokio::task::coop::consume_budget().await;
    Ok(false)
}

enum Copied {
    End,
    Some { bytes: usize, rest: Vec<u8> },
}

fn copy_now(source: &TcpStream, sink: &TcpStream, buffer: &mut [u8]) -> Result<Copied, Broken> {
    let bytes = source.try_read(buffer).map_err(Broken::Source)?;
    if bytes == 0 {
        return Ok(Copied::End);
    }
    let read = &buffer[..bytes];
    let written = match sink.try_write(read) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(Broken::Sink(error)),
    };
    Ok(Copied::Some {
        bytes,
        rest: read[written..].to_vec(),
    })
}

/// Writes all of `bytes` through a shared reference.
pub async fn write_all(sink: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        sink.writable().await?;
        match sink.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
