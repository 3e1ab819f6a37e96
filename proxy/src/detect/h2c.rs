//! The HTTP/2 connection preface (RFC 9113 §3.4). Owns its recognition; never serves HTTP/2 (hyper does,
//! in the cleartext HTTP relay). Driven by the sniffer.

/// The first octets of a client that speaks HTTP/2 with prior knowledge.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How far bytes agree with the preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// They begin with the whole of it.
    Complete,
    /// They are a beginning of it (no bytes at all are).
    Begun,
    /// They are something else.
    Other,
}

/// Compares the first bytes of a flow with the preface.
pub fn preface(bytes: &[u8]) -> Preface {
    if bytes.starts_with(PREFACE) {
        Preface::Complete
    } else if PREFACE.starts_with(bytes) {
        Preface::Begun
    } else {
        Preface::Other
    }
}
