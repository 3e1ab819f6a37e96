//! Response heads (RFC 9112 §4, §6.3): where a message from the server ends, and how it is forwarded.

use tidegate_proxy::http1::head::{
    Asked, HeadError, HeadProgress, ResponseFraming, ResponseHead, ResponseReader,
};

fn response(asked: Asked, bytes: &[u8]) -> Result<ResponseHead, HeadError> {
    match ResponseReader::new(asked).advance(bytes) {
        HeadProgress::Done(head) => Ok(*head),
        HeadProgress::Refused(error) => Err(*error),
        HeadProgress::NeedMore => panic!("incomplete: {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn framing(asked: Asked, head: &str) -> ResponseFraming {
    response(asked, format!("{head}\r\n\r\n").as_bytes())
        .unwrap()
        .framing
}

#[test]
fn rfc9112_6_3_response_framing_by_status_and_method() {
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 5";
    assert_eq!(framing(Asked::Other, sized), ResponseFraming::Length(5));
    assert_eq!(framing(Asked::Head, sized), ResponseFraming::Empty);
    assert_eq!(framing(Asked::Connect, sized), ResponseFraming::Tunnel);
    assert_eq!(
        framing(Asked::Connect, "HTTP/1.1 403 No\r\nContent-Length: 5"),
        ResponseFraming::Length(5)
    );
    for status in ["204", "304", "100", "103"] {
        assert_eq!(
            framing(Asked::Other, &format!("HTTP/1.1 {status} X\r\nContent-Length: 5")),
            ResponseFraming::Empty
        );
    }
    assert_eq!(
        framing(Asked::Other, "HTTP/1.1 101 X\r\nUpgrade: websocket"),
        ResponseFraming::Tunnel
    );
    assert_eq!(
        framing(
            Asked::Other,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked"
        ),
        ResponseFraming::Chunked
    );
    assert_eq!(
        framing(
            Asked::Other,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip"
        ),
        ResponseFraming::UntilClose
    );
    assert_eq!(
        framing(Asked::Other, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"),
        ResponseFraming::UntilClose
    );
    assert_eq!(framing(Asked::Other, "HTTP/1.1 200"), ResponseFraming::UntilClose);
    assert_eq!(
        framing(
            Asked::Other,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5"
        ),
        ResponseFraming::Length(5)
    );
}

#[test]
fn broken_responses_are_502() {
    for broken in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/2 200",
        "ICY 200 OK",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
        "HTTP/1.1 200 OK\r\nContent-Length: x",
        "HTTP/1.1 200 OK\r\nX: a\rb",
        "HTTP/1.1 200 OK\r\n folded: first",
    ] {
        let error = response(Asked::Other, format!("{broken}\r\n\r\n").as_bytes()).unwrap_err();
        assert_eq!(error.status, 502, "{broken:?}");
    }
}

#[test]
fn a_response_is_forwarded_as_it_is_but_for_folds_and_double_framing() {
    let sloppy = "HTTP/1.1 200 \nServer:x\r\nSet Cookie: odd\r\nX: a\r\n\t b\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\nrest";
    let head = response(Asked::Other, sloppy.as_bytes()).unwrap();
    let mut out = Vec::new();
    head.forward(&mut out);
    let expected =
        "HTTP/1.1 200 \r\nServer: x\r\nSet Cookie: odd\r\nX: a b\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(head.consumed, sloppy.len() - 4);
    let twice = response(
        Asked::Other,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\n",
    )
    .unwrap();
    let mut out = Vec::new();
    twice.forward(&mut out);
    assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
}

#[test]
fn a_response_says_whether_its_connection_lasts() {
    let lasts = |head: &str| {
        response(Asked::Other, format!("{head}\r\n\r\n").as_bytes())
            .unwrap()
            .keep_alive
    };
    assert!(lasts("HTTP/1.1 204 X"));
    assert!(!lasts("HTTP/1.1 204 X\r\nConnection: close"));
    assert!(!lasts("HTTP/1.1 200 OK"), "a body until close");
    assert!(!lasts("HTTP/1.0 204 X"));
    assert!(lasts("HTTP/1.0 204 X\r\nConnection: keep-alive"));
    let interim = response(Asked::Other, b"HTTP/1.1 103 Early\r\n\r\n").unwrap();
    assert!(interim.is_interim());
}
