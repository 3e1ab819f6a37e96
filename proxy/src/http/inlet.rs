//! Bytes that were read from one side and not used yet. Owns that buffer and its bound of one read; never
//! looks into it. Driven by whoever reads messages from a connection.

use std::io;

use crate::stream::{self, Stream};

/// Bytes read at once, and looked ahead at most.
pub(super) const PIECE: usize = stream::PIECE;

/// What came from one side.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    bytes: Vec<u8>,
    used: usize,
    ended: bool,
}

impl Inlet {
    /// An inlet that holds these bytes already.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            used: 0,
            ended: false,
        }
    }

    /// What is not used yet.
    pub(super) fn held(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    /// Uses the first `octets` of what is held.
    pub(super) fn take(&mut self, octets: usize) {
        self.used = self.bytes.len().min(self.used + octets);
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Everything that is not used yet; nothing is held afterwards.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.bytes);
        all.drain(..std::mem::take(&mut self.used));
        all
    }

    /// Whether the side has ended.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Gives memory back where nothing is held: the connection falls idle.
    pub(super) fn rest(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Waits for the next bytes; 0 at the end of the side. Dropping the future loses nothing.
    pub(super) async fn fill(&mut self, source: &Stream) -> io::Result<usize> {
        loop {
            source.readable().await;
            match self.read(source) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    fn read(&mut self, source: &Stream) -> io::Result<usize> {
        self.bytes.drain(..std::mem::take(&mut self.used));
        let read = source.try_take(|bytes| {
            self.bytes.extend_from_slice(bytes);
            bytes.len()
        })?;
        self.ended = read == 0;
        Ok(read)
    }
}
