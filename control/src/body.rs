//! Bodies of requests: read as a whole, never beyond a bound.
//!
//! Owns what happens to one that is too large: it is read on and thrown away, within bounds of its own, so that its
//! client reads why. Driven by the API's extractors and by the gateways' batches of events.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// What is read, and thrown away, of a body that is too large, and for how long.
const MAX_DRAINED: usize = 64 << 20;
const DRAIN: Duration = Duration::from_secs(10);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// It ended before its end.
    CutOff,
}

/// The body, when it is not larger than `limit` bytes.
pub(crate) async fn read(request: Request, limit: usize) -> Result<Bytes, BodyError> {
    let said = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    let too_long = said
        .and_then(|text| text.parse::<usize>().ok())
        .is_some_and(|length| length > limit);
    // Who waits for a word before it sends is told at once; a client that is cut off while it writes never reads why.
    let waits = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if too_long && waits {
        return Err(BodyError::TooLarge);
    }
    let limit_here = if too_long { 0 } else { limit };
    match Limited::new(&mut body, limit_here).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drop(tokio::time::timeout(DRAIN, drain(body)).await);
            Err(BodyError::TooLarge)
        }
        Err(_) => Err(BodyError::CutOff),
    }
}

/// Reads on to the end of a body, or until [`MAX_DRAINED`] bytes have come.
async fn drain(body: Body) {
    let mut rest = Limited::new(body, MAX_DRAINED);
    while let Some(Ok(_)) = rest.frame().await {}
}
