//! Owns serving a git repository over HTTP: one run of git's own CGI program
//! (`git http-backend`) a request. Never serves outside its root, which that
//! program checks. `pages` drives it.

use std::path::Path;
use std::process::{Output, Stdio};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The largest request body that is taken.
const LIMIT: usize = 64 << 20;

/// Answers one request of a git client below `root`. `None` is a failure of
/// the server.
pub(super) async fn answer(root: &Path, request: Request<Incoming>) -> Option<Response<Bytes>> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LIMIT).collect().await.ok()?.to_bytes();
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear();
    command.env("PATH", crate::machine::PATH);
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("GIT_PROJECT_ROOT", root);
    command.env("HOME", root);
    command.env("PATH_INFO", head.uri.path());
    command.env("QUERY_STRING", head.uri.query().unwrap_or_default());
    command.env("REQUEST_METHOD", head.method.as_str());
    command.env("CONTENT_LENGTH", body.len().to_string());
    pass(&head.headers, &mut command);
    let Output { stdout, .. } = run(command, body).await.ok()?;
    response(stdout.into())
}

fn pass(headers: &HeaderMap, command: &mut Command) {
    let passed = [
        (header::CONTENT_TYPE, "CONTENT_TYPE"),
        (header::CONTENT_ENCODING, "HTTP_CONTENT_ENCODING"),
        (HeaderName::from_static("git-protocol"), "GIT_PROTOCOL"),
    ];
    for (name, variable) in passed {
        if let Some(Ok(value)) = headers.get(name).map(HeaderValue::to_str) {
            command.env(variable, value);
        }
    }
}

async fn run(mut command: Command, input: Bytes) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // It may have refused already; its answer says so.
            let _refused = stdin.write_all(&input).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    output
}

/// CGI's answer (RFC 3875 section 6): headers, an empty line, the body.
fn response(mut answer: Bytes) -> Option<Response<Bytes>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = answer.split_to(end + 4);
    let mut response = Response::new(answer);
    for line in std::str::from_utf8(&head).ok()?.lines() {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next()?;
            *response.status_mut() = StatusCode::from_bytes(code.as_bytes()).ok()?;
        } else {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            response.headers_mut().append(name, value.parse().ok()?);
        }
    }
    Some(response)
}
