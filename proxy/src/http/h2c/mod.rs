//! Cleartext HTTP/2 with prior knowledge (RFC 9113 §3.3) in block mode: each stream is judged by its own
//! `:authority` and goes to its own server. Owns both ends of HTTP/2 (hyper's); never decides. Driven by
//! [`super::serve`].

mod servers;
mod tasks;
mod wire;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use http::uri::{Authority as UriAuthority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_policy::verdict::{Reason, Refusal};
use tokio_util::sync::CancellationToken;

use super::answer::Failure;
use super::decide::{Asked, Decision, Via};
use super::ledger::Ledger;
use super::servers::Unserved;
use crate::context::FlowContext;
use crate::explain::PageFormat;
use crate::http1::head::parse_authority;
use crate::leg::Leg;
use crate::relay::{Direction, Traffic};
use crate::route::Early;
use servers::{Server, Servers};
use tasks::{Spawner, Tasks};
use wire::{ClientIo, Counted, Reply};

/// Streams of one client at once; more are told to wait (RFC 9113 §5.1.2).
const MOST_STREAMS: u32 = 128;
/// Octets that one stream may send ahead of what the other side has taken.
const WINDOW: u32 = 256 << 10;
/// The same of all streams of one connection.
const WINDOWS: u32 = 512 << 10;
/// Octets of one request's fields, as RFC 9113 §6.5.2 counts them. Every open stream may hold as many.
const MOST_FIELDS: u32 = 32 << 10;
/// Octets of one stream that wait to be written.
const FRAME_BUFFER: usize = 64 << 10;

/// Serves the connection to its end. `first` is what the client said so far, the preface included.
pub(super) async fn serve(context: &FlowContext, client: &Leg, first: Vec<u8>, early: Option<Early>) {
    let Ok(io) = ClientIo::new(context, client, first) else {
        return;
    };
    let shared = Shared {
        context,
        ledger: Mutex::new(Ledger::new(context)),
        servers: Servers::new(early),
    };
    let mut tasks = Tasks::default();
    let handler = Handler {
        shared: &shared,
        spawner: tasks.spawner(),
    };
    let mut builder = http2::Builder::new(tasks.spawner());
    builder
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_send_buf_size(FRAME_BUFFER)
        .max_header_list_size(MOST_FIELDS)
        .auto_date_header(false);
    let served = builder.serve_connection(TokioIo::new(io), handler);
    tokio::select! {
        ended = drained(served, &context.proxy.closing) => {
            if ended.is_ok() {
                client.orderly();
            }
        }
        () = tasks.run() => {}
        () = context.traffic().silence(context.proxy.config.timeouts.idle) => {}
    }
}

/// Serves a connection to its end; it takes no new stream once `closing` is cancelled.
async fn drained<'s>(
    served: http2::Connection<TokioIo<ClientIo>, Handler<'s, '_>, Spawner<'s>>,
    closing: &CancellationToken,
) -> hyper::Result<()> {
    tokio::pin!(served);
    tokio::select! {
        ended = &mut served => return ended,
        () = closing.cancelled() => served.as_mut().graceful_shutdown(),
    }
    served.await
}

/// What all streams of a client share.
struct Shared<'a> {
    context: &'a FlowContext,
    ledger: Mutex<Ledger<'a>>,
    servers: Servers,
}

/// Answers streams.
#[derive(Clone)]
struct Handler<'s, 'a> {
    shared: &'s Shared<'a>,
    spawner: Spawner<'s>,
}

impl<'s> Service<Request<Incoming>> for Handler<'s, '_> {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send + 's>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.answer(request).await) })
    }
}

impl Handler<'_, '_> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Reply> {
        let context = self.shared.context;
        let format = PageFormat::by_accept(
            request
                .headers()
                .get_all(ACCEPT)
                .iter()
                .map(HeaderValue::as_bytes),
        );
        let (asked, flaw) = asked(&request);
        let mut decision = asked.decide(context, &Via::Flow);
        if let Some(what) = flaw {
            decision.refuse(
                Refusal::because(Reason::MalformedHttp),
                400,
                format!("malformed: {what}"),
            );
        } else if request.method() == Method::CONNECT {
            decision.refuse(
                Refusal::because(Reason::ProxyRequest),
                405,
                "CONNECT over HTTP/2".into(),
            );
        }
        let server = match self
            .shared
            .servers
            .get(context, &self.spawner, &mut decision)
            .await
        {
            Ok(server) => server,
            Err(Unserved::Refused) => return self.refuse(&asked, &decision, format),
            Err(Unserved::Failed(failure)) => {
                self.shared.ledger.lock().permit(decision.entered(&asked));
                return fail(&failure);
            }
            Err(Unserved::Gone) => return fail(&Failure::answer("its tunnel is closed")),
        };
        decision.remarks.dialled = Some(server.address());
        let event = self.shared.ledger.lock().permit(decision.entered(&asked));
        self.relay(request, server, &decision, &event).await
    }

    async fn relay(
        &self,
        request: Request<Incoming>,
        mut server: Server,
        decision: &Decision,
        event: &Arc<Traffic>,
    ) -> Response<Reply> {
        let Some(held) = server.hold(decision) else {
            return fail(&Failure::answer("the policy changed before it was asked"));
        };
        let request = outgoing(request).map(|body| Counted::new(body, Direction::Up, event, &held));
        match server.sender.send_request(request).await {
            Ok(response) => {
                response.map(|body| Either::Right(Counted::new(body, Direction::Down, event, &held)))
            }
            Err(error) => {
                self.shared
                    .ledger
                    .lock()
                    .note(event, &format!("no usable answer: {error}"));
                fail(&Failure::answer("its HTTP/2 stream or connection failed"))
            }
        }
    }

    fn refuse(&self, asked: &Asked, decision: &Decision, format: PageFormat) -> Response<Reply> {
        let told = self.shared.ledger.lock().refuse(decision.entered(asked));
        let (media, text) = told.document(format);
        let mut response = said(decision.status(), media, text);
        for (name, value) in told.marks() {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

fn fail(failure: &Failure) -> Response<Reply> {
    said(failure.status, "text/plain", failure.text())
}

fn said(status: u16, media: &'static str, text: String) -> Response<Reply> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text))));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    if let Ok(media) = HeaderValue::from_str(&format!("{media}; charset=utf-8")) {
        response.headers_mut().insert(CONTENT_TYPE, media);
    }
    response
}

/// Whom a request asks for, and why it may not be judged by that alone.
fn asked(request: &Request<Incoming>) -> (Asked, Option<&'static str>) {
    let mut hosts = request.headers().get_all(HOST).iter();
    let target = request
        .uri()
        .authority()
        .map(|authority| parse_authority(authority.as_str().as_bytes()));
    let host = hosts.next().map(|host| parse_authority(host.as_bytes()));
    let (authority, flaw) = match (target, host) {
        (Some(Err(flaw)), _) | (_, Some(Err(flaw))) => (None, Some(flaw.1)),
        (Some(Ok(target)), Some(Ok(host))) if target != host => {
            (Some(target), Some("an :authority and a Host that differ"))
        }
        (Some(Ok(authority)), _) | (None, Some(Ok(authority))) => (Some(authority), None),
        (None, None) => (None, Some("no :authority")),
    };
    let flaw = flaw.or(hosts.next().map(|_| "more than one Host"));
    let forwarded = request
        .headers()
        .get("x-forwarded-host")
        .map(HeaderValue::as_bytes);
    (Asked::plain(authority, forwarded), flaw)
}

/// The request with its authority in the one place where it was judged.
fn outgoing(request: Request<Incoming>) -> Request<Incoming> {
    let (mut parts, body) = request.into_parts();
    let host = parts.headers.remove(HOST);
    let mut uri = parts.uri.into_parts();
    let written = |host: HeaderValue| UriAuthority::try_from(host.as_bytes()).ok();
    uri.authority = uri.authority.or_else(|| host.and_then(written));
    uri.scheme = uri.scheme.or(Some(Scheme::HTTP));
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
    Request::from_parts(parts, body)
}
