//! Responses that the gateway gives itself where no policy refused anything: a permitted server that can't be
//! reached or understood. Owns their words; refusals are `explain`'s. Never writes to a socket.

use crate::dial::{DialCause, DialError};
use crate::http1::head::RequestHead;

/// A response without a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u16,
    pub(super) what: String,
}

impl Failure {
    /// The server's answer is missing or can't be read.
    pub(super) fn answer(what: &str) -> Self {
        Self {
            status: 502,
            what: format!("its server gave no answer that can be passed on: {what}"),
        }
    }

    /// The client's body can't be read.
    pub(super) fn body(what: &str) -> Self {
        Self {
            status: 400,
            what: format!("the request can't be passed on: {what}"),
        }
    }

    /// The server can't be reached.
    pub(super) fn dial(error: &DialError) -> Self {
        let (status, why) = match error.cause {
            DialCause::Refused => (502, "the server refused the connection"),
            DialCause::Timeout => (504, "the server did not answer in time"),
            DialCause::Unreachable => (502, "there is no route to the server"),
            DialCause::Ports | DialCause::Resources => {
                (503, "the gateway has no room for another connection")
            }
            DialCause::Other => (502, "the connection failed"),
        };
        Self {
            status,
            what: format!("{why} ({})", error.address),
        }
    }

    /// Too many connections at once.
    pub(super) fn full() -> Self {
        Self {
            status: 503,
            what: "too many servers are asked at once over this connection".into(),
        }
    }

    /// The words of the page.
    pub(super) fn text(&self) -> String {
        format!("Tidegate permits this request, but {}.\n", self.what)
    }

    /// A whole HTTP/1.1 response that closes the connection.
    pub(super) fn page(&self, head: &RequestHead) -> Vec<u8> {
        let text = self.text();
        let body = if head.method() == b"HEAD" {
            ""
        } else {
            text.as_str()
        };
        format!(
            "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            self.status,
            self.phrase(),
            text.len(),
        )
        .into_bytes()
    }

    fn phrase(&self) -> &'static str {
        match self.status {
            400 => "Bad Request",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            _ => "Bad Gateway",
        }
    }
}
