//! Answers that are read while they are made, line by line.
//!
//! Owns their bounds: of a line, and of the silence before it.

use std::time::Duration;

use reqwest::Response;

use crate::remote::client::{CallError, Client};

/// Longest line, in bytes: well above the longest event.
const MAX_LINE: usize = 1 << 20;
/// How long nothing may come. A stream says every few seconds that it is alive; an export looks for long at what it does
/// not show.
const SILENCE: Duration = Duration::from_mins(10);

/// An answer's lines.
pub(super) struct Lines<'c> {
    client: &'c Client,
    response: Response,
    read: Vec<u8>,
    silence: Duration,
}

impl<'c> Lines<'c> {
    pub(super) fn new(response: Response, client: &'c Client) -> Self {
        Self {
            client,
            response,
            read: Vec::new(),
            silence: SILENCE,
        }
    }

    /// Gives up sooner.
    pub(super) fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The next line without its end; nothing at the end of the answer. What stands behind the last line's end is dropped:
    /// it is half a line.
    pub(super) async fn next(&mut self) -> Result<Option<String>, CallError> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.read[looked..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=looked + end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return Ok(Some(String::from_utf8_lossy(line).into_owned()));
            }
            looked = self.read.len();
            if looked > MAX_LINE {
                return Err(self.client.strange("a line is longer than any event"));
            }
            let chunk = tokio::time::timeout(self.silence, self.response.chunk()).await;
            let chunk = chunk.map_err(|_| {
                let reason = format!("nothing came for {} s", self.silence.as_secs());
                self.client.unreachable(reason)
            })?;
            match chunk.map_err(|error| self.client.broken(&error))? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// A text of bounded length.
pub(super) async fn whole(response: Response, client: &Client, limit: usize) -> Result<String, CallError> {
    let mut response = response;
    let mut text = Vec::new();
    loop {
        let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
        let chunk = chunk.map_err(|_| client.unreachable("the answer stopped in its middle".to_owned()))?;
        match chunk.map_err(|error| client.broken(&error))? {
            Some(chunk) if text.len() + chunk.len() > limit => {
                return Err(client.strange("it is longer than any summary"));
            }
            Some(chunk) => text.extend_from_slice(&chunk),
            None => return Ok(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}
