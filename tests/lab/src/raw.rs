//! Owns scripted TCP servers: greet or not, record every byte exactly as it
//! came, answer by script, end politely or not. For smuggling, server-first,
//! half-close and reset tests. Never interprets what it reads.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::error::LabError;
use crate::internet::Ground;

/// Bytes remembered of each connection.
const BYTES: usize = 1 << 20;
/// Connections remembered; later ones are served but not recorded.
const CONNECTIONS: usize = 4096;

/// How a scripted server ends what it has to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// It reads on until the client ends, then closes.
    #[default]
    Hold,
    /// It closes both directions at once.
    Close,
    /// It closes its own direction and reads on.
    HalfClose,
    /// It resets the connection.
    Reset,
}

/// When a scripted server answers.
#[derive(Debug, Clone, Default)]
enum Reply {
    #[default]
    Never,
    Echo,
    /// Once for each time `mark` has arrived.
    To {
        mark: Vec<u8>,
        text: Vec<u8>,
    },
    /// Once the client has closed its direction.
    AtEnd(Vec<u8>),
}

/// What a scripted TCP server does with every connection.
#[derive(Debug, Clone, Default)]
pub struct Script {
    banner: Vec<u8>,
    reply: Reply,
    ending: Ending,
}

impl Script {
    /// Reads and says nothing.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Sends back what it reads.
    pub fn echo() -> Self {
        let reply = Reply::Echo;
        Self {
            reply,
            ..Self::default()
        }
    }

    /// Sends `text` each time that `mark` (e.g. `\r\n\r\n`) has arrived.
    pub fn reply_to(mark: impl Into<Vec<u8>>, text: impl Into<Vec<u8>>) -> Self {
        let (mark, text) = (mark.into(), text.into());
        assert!(!mark.is_empty(), "a mark has bytes");
        let reply = Reply::To { mark, text };
        Self {
            reply,
            ..Self::default()
        }
    }

    /// Sends `text` once the client has closed its direction.
    pub fn reply_at_end(text: impl Into<Vec<u8>>) -> Self {
        let reply = Reply::AtEnd(text.into());
        Self {
            reply,
            ..Self::default()
        }
    }

    /// Speaks first.
    #[must_use]
    pub fn banner(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.banner = text.into();
        self
    }

    /// How it ends after its first reply; after the banner if it never replies.
    #[must_use]
    pub fn then(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

/// One connection to a scripted server.
#[derive(Debug, Clone)]
pub struct RawConnection {
    /// Who opened it.
    pub peer: SocketAddr,
    /// The bytes that came, in order; the first MiB.
    pub received: Vec<u8>,
    /// How many bytes came in all.
    pub length: u64,
    /// Whether the client closed its direction in order (FIN).
    pub ended: bool,
    /// What broke it, e.g. a reset by the client.
    pub error: Option<String>,
}

/// A scripted TCP server, running as long as the lab. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct RawServer {
    connections: Arc<Mutex<Vec<RawConnection>>>,
}

impl RawServer {
    pub(crate) fn start(ground: &Ground, address: SocketAddr, script: Script) -> Result<Self, LabError> {
        let server = Self::default();
        let listener = ground.tcp(address)?;
        ground.spawn(server.clone().accept(listener, Arc::new(script)));
        Ok(server)
    }

    /// Every connection so far, oldest first.
    pub fn connections(&self) -> Vec<RawConnection> {
        self.connections.lock().clone()
    }

    async fn accept(self, listener: TcpListener, script: Arc<Script>) {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                continue;
            };
            let record = self.record(peer);
            let script = Arc::clone(&script);
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &script, &record).await {
                    record.amend(|connection| connection.error = Some(error.to_string()));
                }
            });
        }
    }

    fn record(&self, peer: SocketAddr) -> Record {
        let mut connections = self.connections.lock();
        let index = connections.len();
        if index < CONNECTIONS {
            connections.push(RawConnection {
                peer,
                received: Vec::new(),
                length: 0,
                ended: false,
                error: None,
            });
        }
        Record {
            server: self.clone(),
            index,
        }
    }
}

/// Where a connection's doings are written down.
struct Record {
    server: RawServer,
    index: usize,
}

impl Record {
    fn amend(&self, change: impl FnOnce(&mut RawConnection)) {
        if let Some(connection) = self.server.connections.lock().get_mut(self.index) {
            change(connection);
        }
    }

    fn received(&self, bytes: &[u8]) {
        self.amend(|connection| {
            let room = BYTES - connection.received.len();
            let kept = &bytes[..bytes.len().min(room)];
            connection.received.extend_from_slice(kept);
            connection.length += bytes.len() as u64;
        });
    }
}

async fn converse(mut stream: TcpStream, script: &Script, record: &Record) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&script.banner).await?;
    let mut said = matches!(script.reply, Reply::Never);
    let mut buffer = vec![0; 64 << 10];
    // What has come since the last mark, short of one mark's length.
    let mut pending = Vec::new();
    loop {
        if said {
            match script.ending {
                Ending::Hold => {}
                Ending::Close => return Ok(()),
                Ending::Reset => return stream.set_zero_linger(),
                Ending::HalfClose => stream.shutdown().await?,
            }
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            record.amend(|connection| connection.ended = true);
            if let Reply::AtEnd(text) = &script.reply {
                stream.write_all(text).await?;
            }
            return Ok(());
        }
        let bytes = &buffer[..read];
        record.received(bytes);
        said = match &script.reply {
            Reply::Never | Reply::AtEnd(_) => false,
            Reply::Echo => stream.write_all(bytes).await.map(|()| true)?,
            Reply::To { mark, text } => {
                pending.extend_from_slice(bytes);
                let times = take_marks(&mut pending, mark);
                for _ in 0..times {
                    stream.write_all(text).await?;
                }
                times > 0
            }
        };
    }
}

/// Counts the marks in `pending` and leaves what could begin the next one.
fn take_marks(pending: &mut Vec<u8>, mark: &[u8]) -> usize {
    let mut times = 0;
    while let Some(at) = pending.windows(mark.len()).position(|part| part == mark) {
        pending.drain(..at + mark.len());
        times += 1;
    }
    let kept = pending.len().min(mark.len() - 1);
    pending.drain(..pending.len() - kept);
    times
}

#[cfg(test)]
mod tests {
    use super::take_marks;

    #[test]
    fn marks_are_found_across_pieces() {
        let mut pending = Vec::new();
        let mut times = Vec::new();
        for piece in ["a\r\n", "\r", "\nb\r\n\r\n\r\n", "\r\n"] {
            pending.extend_from_slice(piece.as_bytes());
            times.push(take_marks(&mut pending, b"\r\n\r\n"));
        }
        assert_eq!(times, [0, 0, 2, 1]);
    }
}
