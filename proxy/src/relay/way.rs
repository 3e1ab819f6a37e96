//! One direction of a relayed connection: from one side to the other until the end. What is small is copied
//! through the thread's buffer; once a read fills that buffer, `splice(2)` moves the bytes for as long as they come in
//! such amounts and the pool has pipes. Owns no socket; never looks at bytes. Driven by `relay::Relay`, two of
//! them a connection.

use std::io;
use std::sync::Arc;

use super::pipes::{Lent, PipePool};
use super::{Meter, Path};
use crate::leg::Leg;
use crate::stream::PIECE;

/// Which end of a direction failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The end that bytes come from: usually a reset.
    #[error("the sending side failed")]
    Source(#[source] io::Error),
    /// The end that bytes go to.
    #[error("the receiving side failed")]
    Sink(#[source] io::Error),
}

/// What moving bytes came to.
enum Moved {
    /// The source has ended.
    End,
    /// It has nothing more for now, or may have; so many bytes were moved.
    Some(usize),
}

/// Carries everything from `source` to `sink`. That the source has ended is for the caller to pass on.
pub(super) async fn carry(
    source: &Leg,
    sink: &Leg,
    pool: &Arc<PipePool>,
    meter: &Meter<'_>,
) -> Result<(), Broken> {
    let mut bulky = false;
    loop {
        // Waiting holds neither a pipe nor a buffer.
        source.readable().await;
        let pipe = if bulky { pool.take() } else { None };
        let moved = match pipe {
            Some(pipe) => splice(source, sink, pipe, meter).await?,
            None => copy(source, sink, meter).await?,
        };
        match moved {
            Moved::End => return Ok(()),
            Moved::Some(bytes) => bulky = bytes >= PIECE,
        }
        if bulky {
            // What is cut off from here on is much.
            source.guard();
            sink.guard();
        }
    }
}

/// Splices while the source has bytes.
async fn splice(source: &Leg, sink: &Leg, mut pipe: Lent, meter: &Meter<'_>) -> Result<Moved, Broken> {
    let mut all = 0;
    loop {
        match source.try_fill(|source| pipe.fill(source)) {
            Ok(0) => return Ok(Moved::End),
            Ok(moved) => {
                meter.moved(moved, Path::Splice);
                all += moved;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Some(all)),
            Err(error) => return Err(Broken::Source(error)),
        }
        // Emptied wholly before it is filled again: see `Lent::fill`.
        while pipe.held() > 0 {
            sink.drain(pipe.held(), |sink| pipe.drain(sink))
                .await
                .map_err(Broken::Sink)?;
        }
        tokio::task::coop::consume_budget().await;
    }
}

/// Copies what the source has at this moment.
async fn copy(source: &Leg, sink: &Leg, meter: &Meter<'_>) -> Result<Moved, Broken> {
    let copied = source.try_take(|bytes| {
        if bytes.is_empty() {
            return Ok((0, Vec::new()));
        }
        let written = match sink.try_write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        Ok((bytes.len(), bytes[written..].to_vec()))
    });
    let (bytes, rest) = match copied {
        Ok(Ok((0, _))) => return Ok(Moved::End),
        Ok(Ok(copied)) => copied,
        Ok(Err(error)) => return Err(Broken::Sink(error)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Some(0)),
        Err(error) => return Err(Broken::Source(error)),
    };
    meter.moved(bytes, Path::Copy);
    sink.write_all(&rest).await.map_err(Broken::Sink)?;
    Ok(Moved::Some(bytes))
}
