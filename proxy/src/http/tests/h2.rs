//! Cleartext HTTP/2 with prior knowledge: each stream is judged, each goes to its own server.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tidegate_policy::verdict::{Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{POLICY, two_sites};
use crate::testing::{Bench, in_net, origin, until};

pub(super) type Sent = BoxBody<Bytes, Infallible>;

/// An HTTP/2 origin that answers with its name and what it was sent, and remembers whom it was asked for.
pub(super) async fn site(address: &str, name: &'static str) -> Arc<Mutex<Vec<String>>> {
    let (asked, listener) = (Arc::new(Mutex::new(Vec::new())), origin(address).await);
    let remembered = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let asked = Arc::clone(&remembered);
            asked.lock().push("connected".to_owned());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let asked = Arc::clone(&asked);
                async move {
                    asked.lock().push(request.uri().to_string());
                    let body = request.into_body().collect().await.unwrap();
                    let trailers = body.trailers().cloned();
                    let body = body.to_bytes();
                    let text = format!("{name} {}", body.len());
                    let data = Frame::data(Bytes::from(text));
                    let frames = [Some(data), trailers.map(Frame::trailers)];
                    let frames = frames.into_iter().flatten().map(Ok::<_, Infallible>);
                    Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    asked
}

pub(super) async fn client(bench: &Bench, original: &str) -> SendRequest<Sent> {
    let io = TokioIo::new(bench.connect(original).await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn ask(sender: &mut SendRequest<Sent>, request: Request<Sent>) -> (u16, String) {
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(super) fn get(url: &str) -> Request<Sent> {
    Request::get(url).body(Empty::new().boxed()).unwrap()
}

/// A body that ends when what comes with it is dropped.
fn endless() -> (tokio::sync::oneshot::Sender<()>, Sent) {
    let (more, over) = tokio::sync::oneshot::channel::<()>();
    let last = async move {
        let _ = over.await;
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b".")))
    };
    (more, StreamBody::new(futures_util::stream::once(last)).boxed())
}

#[test]
fn h28_each_stream_is_judged_by_its_own_authority() {
    in_net(|| async {
        let bench = two_sites();
        bench.resolves("b.test", &["192.0.2.20"]);
        let (a, b) = (site("192.0.2.10:80", "A").await, site("192.0.2.20:80", "B").await);
        let mut client = client(&bench, "192.0.2.10:80").await;
        for (url, want) in [
            ("http://a.test/1", "A 0"),
            ("http://b.test/2", "B 0"),
            ("http://A.test:80/3", "A 0"),
        ] {
            assert_eq!(ask(&mut client, get(url)).await, (200, want.to_owned()), "{url}");
        }
        let (status, page) = ask(&mut client, get("http://evil.test/")).await;
        assert_eq!(status, 403);
        assert!(
            page.contains("evil.test:80") && page.contains("not-allowed"),
            "{page}"
        );
        assert_eq!(
            ask(&mut client, get("http://a.test/4")).await.0,
            200,
            "the others live on"
        );
        let asked_a = a.lock().clone();
        assert_eq!(
            asked_a,
            [
                "connected",
                "http://a.test/1",
                "http://A.test:80/3",
                "http://a.test/4"
            ]
        );
        assert_eq!(*b.lock(), ["connected", "http://b.test/2"]);
        let refusal = bench.events.nth(1).await;
        assert_eq!(
            (refusal.verdict, refusal.reason),
            (Verdict::Refuse, Some(Reason::NotAllowed))
        );
        drop(client);
        bench.open_flows(0).await;
        let mut counts: Vec<_> = bench.events.all()[1..].iter().map(|event| event.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 2], "a.test, b.test and a.test:80");
    });
}

#[test]
fn h28_what_is_no_plain_request_is_refused() {
    in_net(|| async {
        let bench = two_sites();
        let a = site("192.0.2.10:80", "A").await;
        let mut client = client(&bench, "192.0.2.10:80").await;
        let mut differing = get("http://a.test/");
        differing
            .headers_mut()
            .insert("host", "evil.test".parse().unwrap());
        assert_eq!(ask(&mut client, differing).await.0, 400);
        let connect = Request::connect("a.test:80").body(Empty::new().boxed()).unwrap();
        assert_eq!(ask(&mut client, connect).await.0, 405);
        assert_eq!(ask(&mut client, get("http://user@a.test/")).await.0, 400);
        assert!(a.lock().is_empty());
        let mut agreeing = get("http://a.test/");
        agreeing.headers_mut().insert("host", "a.test".parse().unwrap());
        assert_eq!(ask(&mut client, agreeing).await.0, 200);
    });
}

#[test]
fn h2c_bodies_and_trailers_stream_both_ways() {
    in_net(|| async {
        let bench = two_sites();
        let _a = site("192.0.2.10:80", "A").await;
        let mut client = client(&bench, "192.0.2.10:80").await;
        let large = Full::new(Bytes::from(vec![7; 4 << 20]));
        let trailers = http::HeaderMap::from_iter([("x-t".parse().unwrap(), "1".parse().unwrap())]);
        let body = large.with_trailers(async move { Some(Ok(trailers)) }).boxed();
        let request = Request::post("http://a.test/").body(body).unwrap();
        let response = client
            .send_request(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
        assert_eq!(response.trailers().unwrap()["x-t"], "1");
        assert_eq!(response.to_bytes(), format!("A {}", 4 << 20));
        drop(client);
        let event = bench.events.nth(1).await;
        assert!(event.bytes_up >= 4 << 20 && event.bytes_down > 0, "{event:?}");
    });
}

#[test]
fn h2c_a_server_without_http_2_is_a_bad_gateway() {
    in_net(|| async {
        let bench = two_sites();
        let listener = origin("192.0.2.10:80").await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 24]).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        });
        let mut one = client(&bench, "192.0.2.10:80").await;
        assert_eq!(ask(&mut one, get("http://a.test/")).await.0, 502);
        let mut two = client(&bench, "192.0.2.20:80").await;
        let (status, why) = ask(&mut two, get("http://b.test/")).await;
        assert_eq!(status, 502);
        assert!(why.contains("refused the connection"), "{why}");
    });
}

#[test]
fn l15_a_new_policy_ends_the_streams_that_it_refuses_and_no_others() {
    in_net(|| async {
        let bench = two_sites();
        bench.resolves("b.test", &["192.0.2.20"]);
        let (_a, b) = (site("192.0.2.10:80", "A").await, site("192.0.2.20:80", "B").await);
        let mut client = client(&bench, "192.0.2.10:80").await;
        let ((to_a, body_a), (to_b, body_b)) = (endless(), endless());
        let stream_a = client.send_request(Request::post("http://a.test/").body(body_a).unwrap());
        let stream_a = tokio::spawn(stream_a);
        let stream_b =
            tokio::spawn(client.send_request(Request::post("http://b.test/").body(body_b).unwrap()));
        until(|| b.lock().len() == 2, || format!("{:?}", b.lock())).await;
        bench.change_policy(&POLICY.replace("b.test:80", ""));
        assert_eq!(bench.proxy.registry.rejudge_all(), 1);
        drop((to_a, to_b));
        assert_eq!(stream_a.await.unwrap().unwrap().status(), 200);
        let ended = stream_b.await.unwrap();
        assert!(
            ended.as_ref().map_or(true, |response| response.status() == 502),
            "{ended:?}"
        );
        assert_eq!(bench.events.nth(1).await.reason, Some(Reason::PolicyChanged));
        assert_eq!(ask(&mut client, get("http://b.test/")).await.0, 403);
        assert_eq!(
            bench.proxy.registry.rejudge_all(),
            0,
            "nothing is asked at the moment"
        );
    });
}

#[test]
fn h2c_at_most_eight_servers_are_asked_at_once() {
    in_net(|| async {
        let bench = Bench::new("egress-policy: block\nplatform: none\nallowed-endpoints: '*.test:80'\n");
        let asked = site("192.0.2.10:80", "A").await;
        for n in 0..10 {
            bench.ticket(&format!("n{n}.test"), "192.0.2.10");
        }
        let mut client = client(&bench, "192.0.2.10:80").await;
        // Idle ones give way.
        for n in 0..10 {
            assert_eq!(ask(&mut client, get(&format!("http://n{n}.test/"))).await.0, 200);
        }
        let mut held = Vec::new();
        for n in 0..8 {
            let (more, body) = endless();
            let request = Request::post(format!("http://n{n}.test/held"))
                .body(body)
                .unwrap();
            held.push((more, tokio::spawn(client.send_request(request))));
        }
        let holding = || asked.lock().iter().filter(|url| url.ends_with("held")).count();
        until(|| holding() == 8, || format!("{:?}", asked.lock())).await;
        assert_eq!(ask(&mut client, get("http://n9.test/")).await.0, 503);
        assert_eq!(
            ask(&mut client, get("http://n3.test/")).await.0,
            200,
            "a server that is asked already"
        );
        for (more, answer) in held {
            drop(more);
            assert_eq!(answer.await.unwrap().unwrap().status(), 200);
        }
    });
}
