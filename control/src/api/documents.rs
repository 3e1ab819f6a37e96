//! Documents in requests and answers: YAML as it is, or in JSON; what is wrong with them, with lines and carets.

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_policy::document::MAX_BYTES;

use super::errors;
use super::etag::{self, Tag};
use super::extract::{MAX_WRAPPED, Media, from_json, media_type, read, too_large, unsupported};
use super::problem::{Code, Refused};
use crate::store::StoreError;

/// YAML's media type (RFC 9512).
const YAML: &str = "application/yaml";

/// A body that is a document, or wraps one.
pub(super) enum Written<T> {
    /// JSON.
    Json(T),
    /// The document itself.
    Yaml(String),
}

/// Reads a body that is YAML, or JSON with YAML in it.
pub(super) async fn written<T: DeserializeOwned>(request: Request) -> Result<Written<T>, Refused> {
    match media_type(request.headers())? {
        Some(Media::Json) => from_json(&read(request, MAX_WRAPPED).await?).map(Written::Json),
        Some(Media::Yaml) => Ok(Written::Yaml(text(read(request, MAX_BYTES).await?)?)),
        Some(Media::List) | None => Err(unsupported("application/json or application/yaml")),
    }
}

/// A body as text.
pub(super) fn text(bytes: Bytes) -> Result<String, Refused> {
    String::from_utf8(bytes.into()).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..good];
        let before = String::from_utf8_lossy(before);
        let start = before.rsplit_once('\n').map_or(&*before, |(_, start)| start);
        let line = before.matches('\n').count() + 1;
        let column = start.chars().count() + 1;
        let detail = format!("the body is not in UTF-8: line {line}, column {column}");
        Refused::new(StatusCode::BAD_REQUEST, Code::Syntax, detail).place(line, column)
    })
}

/// A document is not larger than is read anywhere.
pub(super) fn check_size(yaml: &str) -> Result<(), Refused> {
    if yaml.len() <= MAX_BYTES {
        return Ok(());
    }
    Err(too_large("the document", MAX_BYTES).field("yaml"))
}

/// An error of an operation that was given this document; `name` is what diagnostics call it.
pub(super) fn wrong(yaml: &str, name: &str) -> impl FnOnce(StoreError) -> Refused {
    let (yaml, name) = (yaml.to_owned(), name.to_owned());
    move |error| {
        if let StoreError::Document(diagnostics) = &error {
            return Refused::document(diagnostics, &yaml, &name);
        }
        errors::of_body(error)
    }
}

/// How a document is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// With everything that is known about it.
    Json,
    /// As written.
    Yaml,
}

/// What `Accept` asks for (RFC 9110 §12.5.1); JSON when it leaves the choice.
pub(super) fn accepted(headers: &HeaderMap) -> Result<Form, Refused> {
    let mut best: Option<(u16, Form)> = None;
    let mut said = false;
    for value in headers.get_all(ACCEPT) {
        let text = value.to_str().unwrap_or_default();
        for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            said = true;
            let (weight, form) = media_range(range);
            if let Some(form) = form
                && weight > 0
                && best.is_none_or(|(known, _)| weight > known)
            {
                best = Some((weight, form));
            }
        }
    }
    match (best, said) {
        (Some((_, form)), _) => Ok(form),
        (None, false) => Ok(Form::Json),
        (None, true) => {
            let detail = "this comes as application/json and as application/yaml";
            Err(Refused::new(StatusCode::NOT_ACCEPTABLE, Code::NotAcceptable, detail).field("Accept"))
        }
    }
}

/// The weight of a media range in thousandths, and what it stands for here.
fn media_range(range: &str) -> (u16, Option<Form>) {
    let range = range.to_ascii_lowercase();
    let mut parts = range.split(';').map(str::trim);
    let form = match parts.next().unwrap_or_default() {
        "*/*" | "application/*" | "application/json" => Some(Form::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" | "text/*" => {
            Some(Form::Yaml)
        }
        _ => None,
    };
    let weight = parts
        .find_map(|part| part.strip_prefix("q="))
        .map_or(1_000, |weight| {
            let weight: f32 = weight.parse().unwrap_or(0.0);
            (weight.clamp(0.0, 1.0) * 1_000.0) as u16
        });
    (weight, form)
}

/// Something with a document, as it was asked for. 304 when whoever asks has it.
pub(super) fn shown<T: Serialize>(
    headers: &HeaderMap,
    (version, identity): (u32, &str),
    yaml: &str,
    whole: &T,
) -> Result<Response, Refused> {
    let form = accepted(headers)?;
    let (body, tag, media) = match form {
        Form::Yaml => (yaml.as_bytes().to_vec(), Tag::new(version, identity, b""), YAML),
        Form::Json => {
            // Plain data with text keys always serializes.
            let body = serde_json::to_vec(whole).unwrap_or_default();
            let tag = Tag::new(version, identity, &body);
            (body, tag, "application/json")
        }
    };
    let told = [
        (ETAG, tag.header()),
        (VARY, HeaderValue::from_static("Accept, Authorization")),
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    if etag::if_none_match(headers)?.is_some_and(|condition| condition.names(&tag)) {
        return Ok((StatusCode::NOT_MODIFIED, told).into_response());
    }
    let media = HeaderValue::from_static(media);
    Ok((told, [(CONTENT_TYPE, media)], body).into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(values: &[&str]) -> Result<Form, u16> {
        let values = values.iter().map(|value| (ACCEPT, value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        accepted(&headers).map_err(|refused| refused.status())
    }

    #[test]
    fn rfc_9110_section_12_5_1_the_heaviest_range_that_is_known_wins() {
        assert_eq!(read(&[]), Ok(Form::Json));
        assert_eq!(read(&["*/*"]), Ok(Form::Json));
        assert_eq!(read(&["application/yaml"]), Ok(Form::Yaml));
        assert_eq!(read(&["Text/YAML; charset=utf-8"]), Ok(Form::Yaml));
        assert_eq!(
            read(&["application/json;q=0.5, application/yaml"]),
            Ok(Form::Yaml)
        );
        assert_eq!(read(&["text/html, application/json;q=0.5"]), Ok(Form::Json));
        assert_eq!(read(&["text/html", "application/yaml;q=0.1"]), Ok(Form::Yaml));
        assert_eq!(read(&["text/html"]), Err(406));
        assert_eq!(read(&["application/json;q=0"]), Err(406));
        assert_eq!(read(&["application/json;q=nonsense"]), Err(406));
    }

    #[test]
    fn a_body_that_is_no_text_is_told_where() {
        assert_eq!(text(Bytes::from_static("é".as_bytes())).unwrap(), "é");
        let refused = text(Bytes::from_static(b"a: b\n\xc3\xa9\xff")).unwrap_err();
        assert_eq!(refused.status(), 400);
        assert!(format!("{refused:?}").contains("line 2, column 2"), "{refused:?}");
    }
}
