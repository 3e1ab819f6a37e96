//! What a form sends.

use axum::Form;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::error::{Failure, Problem};

/// Fields of one form: as many scopes as the API takes at once, ticked and kept, and some.
pub(crate) const MOST_FIELDS: usize = 8_192;

/// The fields of a form in their order, repeated ones too. Bounded by the route's body limit and by [`MOST_FIELDS`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// A field, trimmed; empty when it is missing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// A field as it was typed, but for its line ends, which browsers send as CRLF.
    pub(crate) fn document(&self, name: &str) -> String {
        self.raw(name).replace("\r\n", "\n")
    }

    /// Every value of a field, such as the ticked boxes of a list.
    pub(crate) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        let ours = move |(found, _): &&(String, String)| found == name;
        self.0.iter().filter(ours).map(|(_, value)| value.as_str())
    }

    /// True when the field was sent with some text.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    fn raw(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map_or("", |(_, value)| value)
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        pairs(request, state).await.map(Self)
    }
}

/// The fields of a form. How many they are is looked at before they are taken apart: each costs far more than its bytes.
pub(crate) async fn pairs<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Vec<(String, String)>, Response> {
    let (parts, body) = request.into_parts();
    let body = Request::from_parts(parts.clone(), body);
    let bytes = Bytes::from_request(body, state)
        .await
        .map_err(IntoResponse::into_response)?;
    if bytes.split(|byte| *byte == b'&').nth(MOST_FIELDS).is_some() {
        let detail = format!("a form has at most {MOST_FIELDS} fields; do it in parts");
        return Err(Failure::from(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)).into_response());
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    let Form(fields) = Form::from_request(request, state)
        .await
        .map_err(IntoResponse::into_response)?;
    Ok(fields)
}
