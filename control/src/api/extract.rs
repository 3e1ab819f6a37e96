//! What requests carry: names in the path, parameters, bodies; each refused with what is wrong and where.
//!
//! Owns the strictness of the API: unknown fields and parameters are named with the nearest that is known, a NUL reaches
//! nothing, no body is read beyond its bound.

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tidegate_policy::document::MAX_BYTES;
use tidegate_policy::document::keys::nearest;

use super::problem::{Code, Refused};
use crate::body::{self, BodyError};

/// Largest body from somebody who has shown no token yet, in bytes.
pub(super) const MAX_SMALL: usize = 4 << 10;
/// Largest body that is no document, in bytes.
pub(super) const MAX_BODY: usize = 64 << 10;
/// Largest JSON body around a document: every byte of it may be written as six.
pub(super) const MAX_WRAPPED: usize = MAX_BYTES * 6 + MAX_BODY;
/// Longest name in a path, in bytes.
const MAX_NAME: usize = 255;

/// Names in the path, percent-decoded.
pub(super) struct Names<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Names<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let wrong = |rejection: PathRejection| Refused::bad("path", rejection.body_text());
        let Path(raw) = Path::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(wrong)?;
        for (field, value) in &raw {
            check_name(field, value)?;
        }
        let Path(names) = Path::from_request_parts(parts, state).await.map_err(wrong)?;
        Ok(Self(names))
    }
}

/// A name that can be looked up. Which names may be given is the store's to say.
fn check_name(field: &str, value: &str) -> Result<(), Refused> {
    if value.len() > MAX_NAME {
        let detail = format!("{field} has {} bytes; names have at most {MAX_NAME}", value.len());
        return Err(Refused::bad(field, detail));
    }
    match value.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => {
            let detail = format!("{field} has the control character U+{:04X}", u32::from(c));
            Err(Refused::bad(field, detail))
        }
    }
}

/// Parameters of the query.
pub(super) struct Params<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Params<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Refused::bad(
                "query",
                "a parameter has the control character U+0000",
            ));
        }
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(wrong_params(&rejection)),
        }
    }
}

fn wrong_params(rejection: &QueryRejection) -> Refused {
    let text = rejection.body_text();
    let text = text
        .rsplit_once("query string: ")
        .map_or(text.as_str(), |(_, rest)| rest);
    let (detail, field) = humane(text);
    let code = if text.contains("unknown field") {
        Code::UnknownField
    } else {
        Code::Invalid
    };
    let refused = Refused::new(StatusCode::BAD_REQUEST, code, detail);
    // `limit: invalid digit found in string`.
    let before = text.split_once(": ").map(|(name, _)| name.to_owned());
    match field.or(before) {
        Some(field) => refused.field(&field),
        None => refused,
    }
}

/// A JSON body of at most [`MAX_BODY`].
pub(super) struct Json<T>(pub(super) T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        json(request, MAX_BODY).await.map(Self)
    }
}

/// A JSON body of at most [`MAX_SMALL`].
pub(super) struct SmallJson<T>(pub(super) T);

impl<T, S> FromRequest<S> for SmallJson<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        json(request, MAX_SMALL).await.map(Self)
    }
}

/// A JSON body with a document in it.
pub(super) struct LargeJson<T>(pub(super) T);

impl<T, S> FromRequest<S> for LargeJson<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        json(request, MAX_WRAPPED).await.map(Self)
    }
}

async fn json<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, Refused> {
    if media_type(request.headers())? != Some(Media::Json) {
        return Err(unsupported("application/json"));
    }
    from_json(&read(request, limit).await?)
}

/// Kinds of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// `application/yaml` and its older names.
    Yaml,
    /// `text/plain`, `application/x-rpz`.
    List,
}

/// What the body is said to be; `None` when nothing is said. A kind that nobody here reads, an encoding, or another
/// character set than UTF-8 is refused.
pub(super) fn media_type(headers: &HeaderMap) -> Result<Option<Media>, Refused> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity")
    {
        let detail = "bodies are read as they are, without a Content-Encoding";
        return Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::UnsupportedMediaType,
            detail,
        ));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let media = match parts.next().unwrap_or_default() {
        "application/json" => Media::Json,
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => Media::Yaml,
        "text/plain" | "application/x-rpz" => Media::List,
        _ => return Err(unsupported("application/json")),
    };
    let charset = parts.find_map(|part| part.strip_prefix("charset="));
    match charset.map(|charset| charset.trim_matches('"')) {
        None | Some("utf-8" | "us-ascii") => Ok(Some(media)),
        Some(_) => Err(unsupported("UTF-8")),
    }
}

/// 415, naming what is read instead.
pub(super) fn unsupported(instead: &str) -> Refused {
    let detail = format!("a body of this kind is not read here; send {instead} and say so in Content-Type");
    Refused::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::UnsupportedMediaType,
        detail,
    )
    .field("Content-Type")
}

/// The body, when it is not larger than `limit`.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, Refused> {
    body::read(request, limit).await.map_err(|error| match error {
        BodyError::TooLarge => too_large("the body", limit),
        BodyError::CutOff => Refused::new(StatusCode::BAD_REQUEST, Code::Syntax, "the body was cut off"),
    })
}

/// 413.
pub(super) fn too_large(what: &str, limit: usize) -> Refused {
    let detail = match limit >> 20 {
        0 => format!("{what} is larger than {} KiB", limit >> 10),
        mebibytes => format!("{what} is larger than {mebibytes} MiB"),
    };
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, detail)
}

/// Reads JSON: an object, every field known, none twice, nothing after the end, no NUL in any text.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    // Serde would take a list for an object whose fields come in order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let detail = "the body is a list; an object is read here";
        return Err(Refused::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            Code::Invalid,
            detail,
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        wrong_json(error.inner(), Some(path.as_str()).filter(|path| *path != "."))
    })?;
    reader.end().map_err(|error| wrong_json(&error, None))?;
    match nul_in(bytes) {
        None => Ok(value),
        Some(field) => Err(Refused::invalid(
            &field,
            "the text has the control character U+0000",
        )),
    }
}

fn wrong_json(error: &serde_json::Error, path: Option<&str>) -> Refused {
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    let place = (error.line(), error.column());
    let refused = match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            let detail = format!(
                "the body is no JSON: {text}, line {}, column {}",
                place.0, place.1
            );
            return Refused::new(StatusCode::BAD_REQUEST, Code::Syntax, detail).place(place.0, place.1);
        }
        Category::Data => {
            let (detail, named) = humane(text);
            let code = if text.starts_with("unknown field") {
                Code::UnknownField
            } else {
                Code::Invalid
            };
            let refused = Refused::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail);
            match (path, named) {
                (Some(path), Some(named)) if !path.ends_with(&named) => {
                    refused.field(&format!("{path}.{named}"))
                }
                (Some(path), _) => refused.field(path),
                (None, Some(named)) => refused.field(&named),
                (None, None) => refused,
            }
        }
    };
    refused.place(place.0, place.1)
}

/// Serde's sentence about a field with the nearest known one, and the field that it names.
fn humane(text: &str) -> (String, Option<String>) {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let named = |named: Option<&str>| named.map(str::to_owned);
    if text.contains("missing field") || text.contains("duplicate field") {
        return (text.to_owned(), named(quoted.next()));
    }
    if !text.contains("unknown field") && !text.contains("unknown variant") {
        return (text.to_owned(), None);
    }
    let Some(unknown) = quoted.next() else {
        return (text.to_owned(), None);
    };
    let detail = match nearest(unknown, quoted) {
        Some(near) => format!("{text}; did you mean `{near}`?"),
        None => text.to_owned(),
    };
    (
        detail,
        named(Some(unknown)).filter(|_| text.contains("unknown field")),
    )
}

/// The first field whose text, or whose own name, has a NUL, which no database keeps.
fn nul_in(bytes: &[u8]) -> Option<String> {
    // Raw ones are a syntax error; escaped ones are rare enough to look twice.
    const ESCAPED: &[u8] = b"\\u0000";
    if !bytes.windows(ESCAPED.len()).any(|window| window == ESCAPED) {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    nul_below(&value, "body")
}

fn nul_below(value: &serde_json::Value, name: &str) -> Option<String> {
    match value {
        serde_json::Value::String(text) => text.contains('\0').then(|| name.to_owned()),
        serde_json::Value::Array(items) => items.iter().find_map(|item| nul_below(item, name)),
        serde_json::Value::Object(fields) => fields.iter().find_map(|(field, value)| {
            let own = field.contains('\0').then(|| name.to_owned());
            own.or_else(|| nul_below(value, field))
        }),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use axum::body::to_bytes;
    use axum::response::IntoResponse;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "name")]
        _name: String,
        #[serde(default, rename = "inner")]
        _inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "since")]
        _since: u32,
    }

    async fn told(text: &[u8]) -> serde_json::Value {
        let refused = from_json::<Sample>(text).expect_err("it is refused");
        let body = to_bytes(refused.into_response().into_body(), 1 << 20)
            .await
            .unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn what_is_wrong_with_json_is_said_with_its_place_and_field() {
        let cases: [(&[u8], u16, &str, &str, &str); 10] = [
            (
                b"{\"name\": \"x\",\n  oops}",
                400,
                "syntax",
                "",
                "line 2, column 3",
            ),
            (b"{\"name\": \"x\"", 400, "syntax", "", "EOF"),
            (b"{\"name\": \"x\"} {}", 400, "syntax", "", "trailing characters"),
            (b"{\"name\": \"\xff\"}", 400, "syntax", "", "invalid unicode"),
            (
                b"{\"nmae\": \"x\"}",
                422,
                "unknown-field",
                "nmae",
                "did you mean `name`?",
            ),
            (
                b"{\"name\": \"x\", \"name\": \"y\"}",
                422,
                "invalid",
                "name",
                "duplicate field `name`",
            ),
            (b"{}", 422, "invalid", "name", "missing field `name`"),
            (b"{\"name\": 7}", 422, "invalid", "name", "expected a string"),
            (
                b"{\"name\": \"x\", \"inner\": {\"since\": -1}}",
                422,
                "invalid",
                "inner.since",
                "expected u32",
            ),
            (
                b"{\"name\": \"x\", \"inner\": {\"sice\": 1}}",
                422,
                "unknown-field",
                "inner.sice",
                "`since`",
            ),
        ];
        for (text, status, code, field, detail) in cases {
            let told = told(text).await;
            let shown = String::from_utf8_lossy(text);
            assert_eq!(told["status"], status, "{shown}: {told}");
            assert_eq!(told["code"], code, "{shown}: {told}");
            assert_eq!(
                told["field"].as_str().unwrap_or_default(),
                field,
                "{shown}: {told}"
            );
            assert!(
                told["detail"].as_str().unwrap().contains(detail),
                "{shown}: {told}"
            );
            assert!(told["line"].as_u64().unwrap() >= 1, "{shown}: {told}");
        }
    }

    #[tokio::test]
    async fn a_nul_is_refused_wherever_it_hides_and_an_escaped_backslash_is_none() {
        assert_eq!(told(b"{\"name\": \"a\\u0000b\"}").await["field"], "name");
        from_json::<Sample>(b"{\"name\": \"a\\\\u0000b\"}").unwrap();
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            media_type(&headers).map_err(|refused| refused.status())
        };
        assert_eq!(read("Application/JSON; Charset=UTF-8"), Ok(Some(Media::Json)));
        assert_eq!(read("application/yaml"), Ok(Some(Media::Yaml)));
        assert_eq!(read("text/plain; charset=\"utf-8\""), Ok(Some(Media::List)));
        assert_eq!(read("application/json; charset=latin1"), Err(415));
        assert_eq!(read("application/xml"), Err(415));
        assert_eq!(read(""), Err(415));
        assert_eq!(media_type(&HeaderMap::new()).unwrap(), None);
    }
}
