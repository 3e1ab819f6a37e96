//! HTTP/1.x by RFC 9112, strictly: request and response heads, message bodies. Owns the parsing and the
//! re-framing of messages; never does I/O and never decides who may be asked (the cleartext relay drives it
//! and asks `policy` for each request).

pub mod body;
pub mod head;
