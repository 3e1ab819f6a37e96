//! Owns what the sites answer: one small page per need of a test, and files.
//! Never looks at who asks. `serve` drives it; `Site` documents it.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::cgi;
use super::site::Running;

/// A body of any kind.
type Body = BoxBody<Bytes, hyper::Error>;

/// The largest piece of a long body.
const PIECE: usize = 64 << 10;
/// How many pieces a slow download has.
const SLOW_PIECES: usize = 100;

/// Answers a request as `site`. `released` ends the slowness of downloads.
pub(super) async fn answer(
    site: &Running,
    request: Request<Incoming>,
    released: watch::Receiver<bool>,
) -> Response<Body> {
    if let Some(root) = &site.site.files
        && let Some(file) = file_below(root, request.uri().path()).await
    {
        return file;
    }
    if let Some(root) = &site.site.repositories {
        let answer = cgi::answer(root, request).await;
        let failed = || status(StatusCode::INTERNAL_SERVER_ERROR);
        return answer.map_or_else(failed, |answer| answer.map(whole));
    }
    let wants = request.headers().get(header::UPGRADE);
    if wants.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return upgraded(request);
    }
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (page, argument) = path.split_once('/').unwrap_or((&path, ""));
    match (page, argument.parse::<usize>()) {
        ("", _) => text(format!("hello from {}\n", site.name())),
        ("bytes", Ok(length)) => sized(length, length.div_ceil(PIECE), Duration::ZERO, released),
        ("slow", Ok(length)) => {
            let pace = parameter(&query, "pace").and_then(|pace| pace.parse().ok());
            let pace = Duration::from_millis(pace.unwrap_or(100));
            sized(length, SLOW_PIECES, pace, released)
        }
        ("echo", _) => Response::new(request.into_body().boxed()),
        ("headers", _) => {
            let lines = header_lines(request.headers()).into_iter();
            let lines: Vec<_> = lines.map(|(name, value)| name + ": " + &value).collect();
            text(lines.join("\n") + "\n")
        }
        ("status", Ok(code)) => match StatusCode::from_u16(code as u16) {
            Ok(code) => status(code),
            Err(_) => status(StatusCode::BAD_REQUEST),
        },
        ("redirect", _) => redirect(&query),
        ("trailers", _) => with_trailers(),
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Header names and values as text, in the order they came.
pub(super) fn header_lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.iter();
    lines
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        })
        .collect()
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(whole(text.into()));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = text(format!("{code}\n"));
    *response.status_mut() = code;
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// `length` zero bytes in `pieces`, a `pace` between two until released.
fn sized(length: usize, pieces: usize, pace: Duration, released: watch::Receiver<bool>) -> Response<Body> {
    let piece = length.div_ceil(pieces.max(1)).clamp(1, PIECE);
    let zeros = Bytes::from(vec![0; piece]);
    let start = (length, false, released);
    let pieces = stream::unfold(start, move |(left, started, mut released)| {
        let zeros = zeros.clone();
        async move {
            if left == 0 {
                return None;
            }
            if started && !pace.is_zero() {
                let release = released.wait_for(|released| *released);
                let _paced_or_released = tokio::time::timeout(pace, release).await;
            }
            let now = left.min(zeros.len());
            let frame = Frame::data(zeros.slice(..now));
            Some((Ok(frame), (left - now, true, released)))
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    response
}

fn redirect(query: &str) -> Response<Body> {
    let target = parameter(query, "to").map(|to| HeaderValue::from_bytes(&unescape(to)));
    let Some(Ok(target)) = target else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut response = status(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, target);
    response
}

fn with_trailers() -> Response<Body> {
    let name = HeaderName::from_static("x-lab-trailer");
    let trailers = HeaderMap::from_iter([(name, HeaderValue::from_static("end"))]);
    let frames = [
        Frame::data(Bytes::from_static(b"one\n")),
        Frame::data(Bytes::from_static(b"two\n")),
        Frame::trailers(trailers),
    ];
    let body = StreamBody::new(stream::iter(frames.map(Ok)));
    let mut response = Response::new(body.boxed());
    let announced = HeaderValue::from_static("x-lab-trailer");
    response.headers_mut().insert(header::TRAILER, announced);
    response
}

/// 101, then every byte comes back.
fn upgraded(mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
            let _ended = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// A file below `root`; a directory is its `index.html`.
async fn file_below(root: &Path, path: &str) -> Option<Response<Body>> {
    let decoded = String::from_utf8(unescape(path)).ok()?;
    let relative = PathBuf::from(decoded.trim_start_matches('/'));
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !relative.components().all(plain) {
        return None;
    }
    let mut file = root.join(relative);
    if file.is_dir() {
        file.push("index.html");
    }
    let html = file.extension().is_some_and(|extension| extension == "html");
    let bytes = tokio::fs::read(file).await.ok()?;
    let mut response = Response::new(whole(bytes.into()));
    let kind = if html {
        "text/html"
    } else {
        "application/octet-stream"
    };
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Some(response)
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Undoes percent-encoding; what is not an escape stays as it is.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail.get(..2).filter(|_| *first == b'%');
        let digits = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(unescape("a%2Fb%252f%zz%4"), b"a/b%2f%zz%4");
        assert_eq!(parameter("x=1&to=a=b", "to"), Some("a=b"));
    }
}
