//! One side of a flow: a connection that is reset when it is dropped, unless its end was orderly. Owns that
//! rule alone, so that no path out of a flow (an error, a verdict, a cancelled task) makes cut-off bytes
//! look complete. Used for the runner's side and the dialled one.

use std::io;
use std::ops::Deref;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::relay::way;

/// Bytes that a client may still send after an explanation; the rest is answered by a reset.
const MOST_DRAINED: usize = 256 << 10;

/// One connection of a flow.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: TcpStream,
}

impl Leg {
    /// Wraps a connection; dropping it resets it.
    pub(crate) fn new(stream: TcpStream) -> Self {
        set_linger(&stream, Some(Duration::ZERO));
        Self { stream }
    }

    /// From here on, dropping it closes it in order.
    pub(crate) fn orderly(&self) {
        set_linger(&self.stream, None);
    }

    /// Gives the connection away, with its ordinary close.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.orderly();
        self.stream
    }

    /// Says `words`, then closes in order: ends the write side and reads on for at most `patience`,
    /// because bytes that nobody reads turn the close into a reset that overtakes the words.
    pub(crate) async fn farewell(&self, words: &[u8], patience: Duration) {
        let said = async {
            way::write_all(&self.stream, words).await?;
            way::end_writes(&self.stream);
            // Unread words are still delivered after the close; only a flood is cut off.
            self.orderly();
            self.drain().await
        };
        if matches!(tokio::time::timeout(patience, said).await, Ok(Err(_))) {
            set_linger(&self.stream, Some(Duration::ZERO));
        }
    }

    async fn drain(&self) -> io::Result<()> {
        let mut left = MOST_DRAINED;
        loop {
            self.stream.readable().await?;
            let mut piece = [0; 4096];
            match self.stream.try_read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => left = left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A linger of zero makes the close a reset (socket(7)). It is set from the start: whatever drops the
/// socket, the kernel knows.
fn set_linger(stream: &TcpStream, linger: Option<Duration>) {
    let _ = SockRef::from(stream).set_linger(linger);
}

impl Deref for Leg {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}
