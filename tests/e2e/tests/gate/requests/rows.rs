//! The H rows of the catalogue as data: heads, and what is wanted of each. Read by `heads`.

/// What becomes of a head that asks for the allowed name; for the refused one it is 403 where this is 200.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Judged by the name.
    Judged,
    /// Refused whatever the name, with one of these codes; 0 is a reset: no HTTP at all, on a port for it.
    Refused(&'static [u16]),
    /// Judged, or refused as malformed: both are right.
    Either,
}

use Wanted::{Either, Judged, Refused};

const BAD: &[u16] = &[400];
const BAD_VERSION: &[u16] = &[400, 505];

/// The row, what is wanted, and the request with `{}` for the name.
pub(super) const HEADS: &[(&str, Wanted, &str)] = &[
    ("h02 plain", Judged, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n"),
    (
        "h02 case of the field",
        Judged,
        "GET / HTTP/1.1\r\nhOsT: {}\r\n\r\n",
    ),
    ("h03 no space", Judged, "GET / HTTP/1.1\r\nHost:{}\r\n\r\n"),
    ("h03 spaces", Judged, "GET / HTTP/1.1\r\nHost:    {}   \r\n\r\n"),
    ("h04 tabs", Judged, "GET / HTTP/1.1\r\nHost:\t{}\t\r\n\r\n"),
    (
        "h05 the default port",
        Judged,
        "GET / HTTP/1.1\r\nHost: {}:80\r\n\r\n",
    ),
    (
        "h05 another port",
        Judged,
        "GET / HTTP/1.1\r\nHost: {}:8443\r\n\r\n",
    ),
    ("h06 trailing dot", Judged, "GET / HTTP/1.1\r\nHost: {}.\r\n\r\n"),
    (
        "h07 space before the colon",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost : {}\r\n\r\n",
    ),
    (
        "h07 space before the field",
        Refused(BAD),
        "GET / HTTP/1.1\r\n Host: {}\r\n\r\n",
    ),
    (
        "h08 two equal Hosts",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}\r\nHost: {}\r\n\r\n",
    ),
    (
        "h09 evil second",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}\r\nHost: evil.test\r\n\r\n",
    ),
    (
        "h09 evil first",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: evil.test\r\nHost: {}\r\n\r\n",
    ),
    (
        "h10 a folded Host",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost:\r\n {}\r\n\r\n",
    ),
    (
        "h10 folded behind Host",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}\r\n .evil.test\r\n\r\n",
    ),
    (
        "h11 absolute form of the same host",
        Judged,
        "GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h12 absolute form, evil Host",
        Refused(BAD),
        "GET http://{}/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    ),
    (
        "h12 evil absolute form",
        Refused(BAD),
        "GET http://evil.test/ HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h13 bare line feeds",
        Either,
        "GET / HTTP/1.1\nHost: {}\n\n\r\n\r\n",
    ),
    (
        "h14 a folded field",
        Refused(BAD),
        "GET / HTTP/1.1\r\nX: a\r\n b\r\nHost: {}\r\n\r\n",
    ),
    (
        "h15 leading CRLF",
        Either,
        "\r\n\r\nGET / HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    ("h16 HTTP/0.9", Refused(BAD_VERSION), "GET /\r\nHost: {}\r\n\r\n"),
    (
        "h17 an unknown method",
        Judged,
        "BREW / HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h17 a lower-case method",
        Judged,
        "get / HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h17 no token as method",
        Refused(&[0, 400]),
        "G(T / HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    ("h18 HTTP/1.0", Judged, "GET / HTTP/1.0\r\nHost: {}\r\n\r\n"),
    (
        "h18 HTTP/1.2",
        Refused(BAD_VERSION),
        "GET / HTTP/1.2\r\nHost: {}\r\n\r\n",
    ),
    (
        "h18 HTTP/2.0",
        Refused(BAD_VERSION),
        "GET / HTTP/2.0\r\nHost: {}\r\n\r\n",
    ),
    (
        "h19 http/1.1",
        Refused(BAD_VERSION),
        "GET / http/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h19 two spaces",
        Refused(BAD),
        "GET  / HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h22 CL.TE",
        Refused(BAD),
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    ),
    (
        "h22 TE.CL",
        Refused(BAD),
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    ),
    (
        "h23 two lengths",
        Refused(BAD),
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello\r\n\r\n",
    ),
    (
        "h23 a length list",
        Refused(BAD),
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5, 6\r\n\r\nhello\r\n\r\n",
    ),
    (
        "h23 a signed length",
        Refused(BAD),
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: +5\r\n\r\nhello\r\n\r\n",
    ),
    (
        "h24 TE with another coding last",
        Refused(&[400, 501]),
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "h24 TE: xchunked",
        Refused(&[400, 501]),
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "h24 TE with a vertical tab",
        Refused(&[400, 501]),
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "h29 userinfo",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}@evil.test\r\n\r\n",
    ),
    (
        "h29 userinfo the other way",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: evil.test@{}\r\n\r\n",
    ),
    (
        "h30 a fragment",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}#evil.test\r\n\r\n",
    ),
    (
        "h30 a path",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}/evil.test\r\n\r\n",
    ),
    (
        "h31 two ports",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}:80:80\r\n\r\n",
    ),
    (
        "h31 a port past 65535",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}:99999\r\n\r\n",
    ),
    (
        "h31 letters as port",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}:evil.test\r\n\r\n",
    ),
    (
        "h32 comma-joined",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}, evil.test\r\n\r\n",
    ),
    (
        "h32 space-joined",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {} evil.test\r\n\r\n",
    ),
    (
        "h33 NUL in Host",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}\0.evil.test\r\n\r\n",
    ),
    (
        "h37 a bare CR in Host",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost: {}\revil.test\r\n\r\n",
    ),
    (
        "h37 a bare CR before Host",
        Refused(BAD),
        "GET / HTTP/1.1\r\nX: a\rHost: {}\r\n\r\n",
    ),
    (
        "h39 NUL in a field",
        Refused(BAD),
        "GET / HTTP/1.1\r\nX: a\0b\r\nHost: {}\r\n\r\n",
    ),
    (
        "h39 NUL in the target",
        Refused(BAD),
        "GET /\0 HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    (
        "h40 empty Host",
        Refused(BAD),
        "GET / HTTP/1.1\r\nHost:\r\nX: {}\r\n\r\n",
    ),
    ("h40 no Host", Refused(BAD), "GET / HTTP/1.1\r\nX: {}\r\n\r\n"),
    ("h42 no colon", Refused(BAD), "GET / HTTP/1.1\r\nHost {}\r\n\r\n"),
    (
        "h25 CONNECT through an origin",
        Refused(&[405]),
        "CONNECT {}:80 HTTP/1.1\r\nHost: {}:80\r\n\r\n",
    ),
];

/// Bytes that look opaque to a gateway and HTTP to an edge.
pub(super) const DISGUISES: &[&str] = &[
    "\nGET /",
    " GET /",
    "\0GET /",
    "\r\n GET /",
    "\t\r\n\0GET /",
    "GET\t/",
    "\n\nGET\t/",
    "\0\0\0GET /",
];
