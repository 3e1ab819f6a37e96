//! The HTTP rows of the evasion table, and RFC 9112 by section: what is judged, what is refused, and what
//! goes on in its place.

use tidegate_policy::detection::HttpHost;
use tidegate_proxy::detect::Step;
use tidegate_proxy::http1::head::{
    Asked, HeadError, HeadProgress, MAX_FIELDS, MAX_HEAD, MAX_START_LINE, RequestFraming, RequestHead,
    RequestReader, TargetForm, Upgrade, Version,
};

use crate::support::{detect_all, named};

fn request(bytes: &[u8]) -> Result<RequestHead, HeadError> {
    match RequestReader::new().advance(bytes) {
        HeadProgress::Done(head) => Ok(*head),
        HeadProgress::Refused(error) => Err(*error),
        HeadProgress::NeedMore => panic!("incomplete: {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn get(fields: &str) -> Result<RequestHead, HeadError> {
    request(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes())
}

fn host(head: &RequestHead) -> String {
    match &head.authority.host {
        HttpHost::Name(name) => name.to_string(),
        HttpHost::Address(address) => address.to_string(),
        HttpHost::Absent => String::new(),
    }
}

fn forwarded(head: &RequestHead) -> String {
    let mut out = Vec::new();
    head.forward(&mut out);
    String::from_utf8(out).unwrap()
}

fn assert_refused(result: Result<RequestHead, HeadError>, status: u16) {
    let error = result.expect_err("refused");
    assert_eq!(error.status, status, "{error}");
}

fn assert_get_refused(fields: &str) {
    let error = get(fields)
        .err()
        .unwrap_or_else(|| panic!("{fields:?} was taken"));
    assert_eq!(error.status, 400, "{fields:?}: {error}");
}

#[test]
fn h02_a_host_is_canonical_however_it_is_spelled() {
    for spelled in [
        "Host: a.test",
        "HOST:a.test",
        "host:\t  A.Test \t",
        "Host: a.test:80",
        "Host: a.test.",
        "Host: a.test.:8080",
        "Host: a.test:",
    ] {
        assert_eq!(host(&get(spelled).unwrap()), "a.test", "{spelled:?}");
    }
    assert_eq!(get("Host: a.test:8080").unwrap().authority.port, Some(8080));
    assert_eq!(get("Host: a.test:").unwrap().authority.port, None);
}

#[test]
fn h08_two_hosts_are_refused_equal_or_not() {
    for twice in [
        "Host: a.test\r\nHost: a.test",
        "Host: a.test\r\nhost: evil.test",
        "Host: a.test\r\nX: y\r\nHost:",
    ] {
        assert_get_refused(twice);
    }
}

#[test]
fn h32_a_comma_joined_host_is_refused() {
    assert_get_refused("Host: a.test,evil.test");
    assert_get_refused("Host: a.test, evil.test");
}

#[test]
fn h10_folding_is_refused_as_soon_as_it_is_seen() {
    for folded in [
        "Host: a.test\r\n evil.test",
        "Host:\r\n\ta.test",
        "X: y\r\n z\r\nHost: a.test",
    ] {
        assert_get_refused(folded);
    }
    // Without waiting for the end of the head.
    let begun = b"GET / HTTP/1.1\r\nHost: a.test\r\n \r\n";
    assert!(matches!(
        RequestReader::new().advance(begun),
        HeadProgress::Refused(_)
    ));
    assert_get_refused(" Host: a.test");
}

#[test]
fn h14_bare_cr_nul_and_controls_are_refused() {
    for odd in [
        "Host: a.test\rX: y",
        "Host: a.test\0",
        "Host: a.test\r\nX: \0",
        "Host: a.test\x02",
        "Host: a.test\r\nX: a\x7fb",
        "Host: a.test\x0b",
        "Ho\0st: a.test",
    ] {
        assert_get_refused(odd);
    }
    assert_refused(request(b"GET /\0 HTTP/1.1\r\nHost: a.test\r\n\r\n"), 400);
    assert_refused(request(b"GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n"), 400);
}

#[test]
fn h11_an_absolute_target_rules_and_must_agree_with_host() {
    let head = request(b"GET http://A.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!(
        (host(&head).as_str(), head.target_form),
        ("a.test", TargetForm::Absolute)
    );
    let mismatch = request(b"GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let error = mismatch.unwrap_err();
    assert_eq!(
        (error.status, error.what),
        (400, "a target and a Host that name different servers")
    );
    assert!(matches!(error.authority.unwrap().host, HttpHost::Name(name) if name.to_string() == "evil.test"));
    assert_refused(
        request(b"GET http://a.test:81/ HTTP/1.1\r\nHost: a.test:82\r\n\r\n"),
        400,
    );
    assert!(request(b"GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok());
    assert!(request(b"GET HTTPS://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok());
    assert_refused(request(b"GET http://a.test/ HTTP/1.1\r\n\r\n"), 400);
    assert_refused(
        request(b"GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        400,
    );
}

#[test]
fn h13_bare_lf_is_judged_and_forwarded_as_crlf() {
    let head = request(b"GET / HTTP/1.1\nHost: a.test\nX: y\n\n").unwrap();
    assert_eq!(forwarded(&head), "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\r\n");
}

#[test]
fn h15_blank_lines_before_the_request_are_dropped() {
    let flight = b"\r\n\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\nrest";
    let head = request(flight).unwrap();
    assert_eq!(forwarded(&head), "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(head.consumed, flight.len() - 4);
}

#[test]
fn h16_request_lines_that_two_servers_could_split_differently_are_refused() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / x HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET HTTP/1.1",
        "GET a.test HTTP/1.1",
        "GET * HTTP/1.1",
        "GET / HTTp/1.1",
        "GET / HTTP/1.12",
        "GET / HTTP/11.1",
        "GET / HTTP 1.1",
        "GET / http/1.1",
        "GET /a#b HTTP/1.1",
        "GET ?x HTTP/1.1",
    ] {
        let head = format!("{line}\r\nHost: a.test\r\n\r\n");
        assert_refused(request(head.as_bytes()), 400);
    }
    assert_refused(request(b"\0GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"), 400);
    let method = "M".repeat(65);
    assert_refused(
        request(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes()),
        400,
    );
}

#[test]
fn h17_odd_methods_are_judged_and_other_versions_refused() {
    let head = request(b"PROPFIND /x HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!((head.method(), head.target()), (&b"PROPFIND"[..], &b"/x"[..]));
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/9.9"] {
        assert_refused(
            request(format!("GET / {version}\r\nHost: a.test\r\n\r\n").as_bytes()),
            505,
        );
    }
}

#[test]
fn h19_http_1_0_without_host_has_no_host_and_http_1_1_must_have_one() {
    let head = request(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(
        (&head.authority.host, head.version, head.keep_alive),
        (&HttpHost::Absent, Version::Http10, false)
    );
    assert_refused(request(b"GET / HTTP/1.1\r\n\r\n"), 400);
    assert_get_refused("Host:");
    assert_get_refused("Hostname: a.test");
}

#[test]
fn h20_a_second_request_is_left_in_the_buffer() {
    let first = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n";
    let both = [&first[..], b"abcGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"].concat();
    let head = request(&both).unwrap();
    assert_eq!(
        (head.consumed, head.framing),
        (first.len(), RequestFraming::Length(3))
    );
}

#[test]
fn h22_ambiguous_framing_is_refused() {
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3 4",
        "Content-Length:",
        "Content-Length: 9223372036854775808",
        "Content-Length : 3",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
    ] {
        assert_get_refused(&format!("Host: a.test\r\n{framing}"));
    }
    for coding in [
        "gzip",
        "gzip, chunked",
        "identity",
        "xchunked",
        "chunked, chunked",
        "x",
    ] {
        assert_refused(get(&format!("Host: a.test\r\nTransfer-Encoding: {coding}")), 501);
    }
    assert_refused(
        request(b"POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400,
    );
}

#[test]
fn h23_framing_is_read_and_written_in_one_form() {
    let chunked = get("Host: a.test\r\ntransfer-encoding: Chunked").unwrap();
    assert_eq!(chunked.framing, RequestFraming::Chunked);
    let sized = get("Host: a.test\r\nContent-Length:   0007 ").unwrap();
    assert_eq!(sized.framing, RequestFraming::Length(7));
    assert!(forwarded(&sized).contains("\r\nContent-Length: 7\r\n"));
    assert_eq!(get("Host: a.test").unwrap().framing, RequestFraming::Empty);
    assert_eq!(
        get("Host: a.test\r\nContent-Length: 9223372036854775807")
            .unwrap()
            .framing,
        RequestFraming::Length(i64::MAX as u64)
    );
}

#[test]
fn h25_connect_names_its_target() {
    let head = request(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n").unwrap();
    assert_eq!(
        (head.target_form, host(&head).as_str(), head.authority.port),
        (TargetForm::Authority, "evil.test", Some(443))
    );
    assert_eq!(head.asked(), Asked::Connect);
    for wrong in [
        "CONNECT evil.test HTTP/1.1\r\nHost: evil.test",
        "CONNECT evil.test:443 HTTP/1.1\r\nHost: a.test:443",
        "CONNECT / HTTP/1.1\r\nHost: a.test",
        "CONNECT a.test:1 HTTP/1.1\r\nHost: a.test:1\r\nContent-Length: 1",
        "CONNECT http://a.test:1 HTTP/1.1\r\nHost: a.test:1",
        "GET a.test:443 HTTP/1.1\r\nHost: a.test",
    ] {
        assert_refused(request(format!("{wrong}\r\n\r\n").as_bytes()), 400);
    }
}

#[test]
fn h26_a_websocket_upgrade_is_kept() {
    let head = get("Host: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket").unwrap();
    assert_eq!(head.upgrade, Upgrade::WebSocket);
    assert!(forwarded(&head).contains("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"));
    assert_eq!(
        get("Host: a.test\r\nConnection: upgrade\r\nUpgrade: tcp")
            .unwrap()
            .upgrade,
        Upgrade::Other
    );
    assert_eq!(get("Host: a.test").unwrap().upgrade, Upgrade::None);
}

#[test]
fn h27_an_h2c_upgrade_is_left_out() {
    let head = get("Host: a.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: websocket, h2c\r\nHTTP2-Settings: AAMAAABk\r\nX: y").unwrap();
    assert_eq!(head.upgrade, Upgrade::H2c);
    assert_eq!(
        forwarded(&head),
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX: y\r\n\r\n"
    );
    let only =
        get("Host: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A")
            .unwrap();
    assert_eq!(forwarded(&only), "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let old = request(b"GET / HTTP/1.0\r\nHost: a.test\r\nUpgrade: h2c\r\n\r\n").unwrap();
    assert_eq!(forwarded(&old), "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
}

#[test]
fn h29_hosts_that_are_no_host_are_refused() {
    for odd in [
        "user@a.test",
        "a.test@evil.test",
        "a.test#evil.test",
        "a.test/evil.test",
        "a.test\\evil.test",
        "a.test?x",
        "a.test:80:80",
        "a.test:99999",
        "a.test:0",
        "a.test:8x",
        "a.test:-1",
        "a..test",
        ".",
        "a.test..",
        "a%2etest",
        "[::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "x[::1]",
        "::1",
        "a.test evil.test",
        "b\u{fc}cher.test",
        "\u{fe0f}a.test",
        "*",
        "a.test;x",
    ] {
        assert_get_refused(&format!("Host: {odd}"));
    }
    for target in [
        "http://user@a.test/",
        "http:///",
        "http://a.test#x",
        "http:a.test",
        "http://a.test:/x:y@z\\",
    ] {
        let wrong = request(format!("GET {target} HTTP/1.1\r\nHost: x.test\r\n\r\n").as_bytes());
        assert_refused(wrong, 400);
    }
}

#[test]
fn h40_an_address_as_host_is_an_address() {
    for (written, address) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1.:80", "192.0.2.1"),
        ("[2001:DB8::1]:80", "2001:db8::1"),
        ("[::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
    ] {
        let head = get(&format!("Host: {written}")).unwrap();
        assert_eq!(
            head.authority.host,
            HttpHost::Address(address.parse().unwrap()),
            "{written}"
        );
    }
}

#[test]
fn h34_other_fields_pass_untouched_and_in_order() {
    let fields =
        "X-Forwarded-Host: evil.test\r\nHost: a.test\r\nvia:x\r\nCookie: a=b; c=d\r\nX: caf\u{e9}\r\nAccept:";
    let head = get(fields).unwrap();
    let expected = "GET / HTTP/1.1\r\nX-Forwarded-Host: evil.test\r\nHost: a.test\r\nvia: x\r\nCookie: a=b; c=d\r\nX: caf\u{e9}\r\nAccept: \r\n\r\n";
    assert_eq!(forwarded(&head), expected);
    assert_eq!(head.values("COOKIE").collect::<Vec<_>>(), [b"a=b; c=d"]);
}

#[test]
fn h35_a_host_after_20_kib_is_judged() {
    let padding = format!("X: {}\r\n", "v".repeat(100)).repeat(200);
    let head = format!("GET / HTTP/1.1\r\n{padding}Host: a.test\r\n\r\n");
    assert!(head.len() > 20 * 1024);
    assert_eq!(host(&request(head.as_bytes()).unwrap()), "a.test");
}

#[test]
fn h35_bounds_have_their_status() {
    let line = |length: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "x".repeat(length - 14)
        )
    };
    assert!(request(line(MAX_START_LINE).as_bytes()).is_ok());
    assert_refused(request(line(MAX_START_LINE + 1).as_bytes()), 414);
    let unended = vec![b'x'; MAX_START_LINE + 1];
    assert!(
        matches!(RequestReader::new().advance(&unended), HeadProgress::Refused(error) if error.status == 414)
    );

    let sized = |length: usize| {
        let rest = length - "GET / HTTP/1.1\r\nHost: a.test\r\nX: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n",
            "v".repeat(rest)
        )
    };
    assert!(request(sized(MAX_HEAD).as_bytes()).is_ok());
    assert_refused(request(sized(MAX_HEAD + 1).as_bytes()), 431);

    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    assert!(request(fields(MAX_FIELDS).as_bytes()).is_ok());
    assert_refused(request(fields(MAX_FIELDS + 1).as_bytes()), 431);
}

#[test]
fn h38_tls_on_any_port_is_tls() {
    let hello = crate::support::HelloSpec::named("evil.test").wire();
    assert_eq!(named(&detect_all(&hello)).as_deref(), Some("evil.test"));
}

#[test]
fn connection_options_decide_whether_another_request_may_come() {
    assert!(get("Host: a.test").unwrap().keep_alive);
    assert!(!get("Host: a.test\r\nConnection: x, Close").unwrap().keep_alive);
    let old = request(b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
    assert!(old.keep_alive);
}

/// RFC 9110 §7.6.1: the next hop removes what Connection names, so it may not name what was judged.
#[test]
fn a_connection_option_that_names_host_or_framing_is_refused() {
    for option in ["Host", "close, transfer-encoding", "Content-Length"] {
        assert_get_refused(&format!("Host: a.test\r\nConnection: {option}"));
    }
}

#[test]
fn expect_continue_is_seen() {
    assert!(
        get("Host: a.test\r\nExpect: 100-Continue")
            .unwrap()
            .expects_continue
    );
    assert!(!get("Host: a.test").unwrap().expects_continue);
}

#[test]
fn asterisk_is_for_options_only() {
    let head = request(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!(head.target_form, TargetForm::Asterisk);
}

#[test]
fn a_refused_request_says_whom_it_asked_for() {
    let Step::BadRequest(error) = detect_all(b"GET / HTTP/1.1\r\nHost: evil.test\r\nX : y\r\n\r\n") else {
        panic!("a bad request")
    };
    assert!(matches!(error.authority.unwrap().host, HttpHost::Name(name) if name.to_string() == "evil.test"));
}
