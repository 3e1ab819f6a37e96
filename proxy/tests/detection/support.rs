//! What the detection suites share: the corpus of other people's first bytes, and a detector run over it.
//! Owns reading the corpus; never holds a copy of it. A missing corpus fails the suite.

use std::path::PathBuf;

use serde_json::Value;
use tidegate_policy::detection::{Authority, HttpHost, Sni};
use tidegate_proxy::detect::{Detector, Step};

/// The rows of one file of the corpus, in order.
pub(crate) fn rows(file: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "the detection corpus is missing: {} must be readable beside the checkout ({error})",
            path.display()
        )
    });
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row is JSON"))
        .collect();
    assert!(!rows.is_empty(), "{} is empty", path.display());
    rows
}

/// A text member of a row.
pub(crate) fn text<'a>(row: &'a Value, member: &str) -> &'a str {
    row[member].as_str().unwrap_or_default()
}

/// Bytes written in hex.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("hex") as u8;
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// A first flight in its TCP segments as captured.
pub(crate) fn segments(row: &Value) -> Vec<Vec<u8>> {
    let mut rest = bytes(text(row, "hex"));
    let mut segments = Vec::new();
    for cut in row["cuts"].as_array().expect("cuts") {
        let tail = rest.split_off((cut.as_u64().expect("a length") as usize).min(rest.len()));
        segments.push(std::mem::replace(&mut rest, tail));
    }
    assert!(rest.is_empty(), "the cuts of {} cover it", text(row, "id"));
    segments
}

/// Pushes segments until the detector knows.
pub(crate) fn detect(segments: &[Vec<u8>]) -> Step {
    let mut detector = Detector::new();
    let mut step = detector.push(&[]);
    for segment in segments {
        if !matches!(step, Step::NeedMore(_)) {
            break;
        }
        step = detector.push(segment);
    }
    step
}

/// The name or address that a finding carries; of a refused request, whom it seemed to ask for.
pub(crate) fn named(step: &Step) -> Option<String> {
    match step {
        Step::Tls(found) => match &found.hello.sni {
            Sni::Name(name) => Some(name.to_string()),
            Sni::Address(address) => Some(address.to_string()),
            Sni::Absent => None,
        },
        Step::Http(head) => host(&head.authority),
        Step::BadRequest(error) => error.authority.as_ref().and_then(host),
        Step::NeedMore(_) | Step::H2c | Step::Opaque | Step::Malformed { .. } | Step::TooLarge(_) => None,
    }
}

fn host(authority: &Authority) -> Option<String> {
    match &authority.host {
        HttpHost::Name(name) => Some(name.to_string()),
        HttpHost::Address(address) => Some(address.to_string()),
        HttpHost::Absent => None,
    }
}

/// A ClientHello to be written; every part can be made wrong.
#[derive(Clone, Debug)]
pub(crate) struct HelloSpec {
    /// `legacy_version`.
    pub(crate) version: u16,
    /// The session id.
    pub(crate) session: Vec<u8>,
    /// Cipher suites.
    pub(crate) suites: Vec<u16>,
    /// Extensions in order.
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Default for HelloSpec {
    /// What a TLS 1.3 client sends at least, without a server name.
    fn default() -> Self {
        let mut key_share = vec![0, 0x24, 0, 0x1d, 0, 0x20];
        key_share.extend([7; 32]);
        Self {
            version: 0x0303,
            session: vec![9; 32],
            suites: vec![0x1301, 0xc02f],
            extensions: vec![
                (0x000a, vec![0, 2, 0, 0x1d]),
                (0x000d, vec![0, 4, 4, 3, 8, 4]),
                (0x002b, vec![4, 3, 4, 3, 3]),
                (0x0033, key_share),
            ],
        }
    }
}

impl HelloSpec {
    /// A hello for a name.
    pub(crate) fn named(name: &str) -> Self {
        Self::default().with(0, sni(name.as_bytes()))
    }

    /// The same with one extension more, in front.
    pub(crate) fn with(mut self, kind: u16, data: Vec<u8>) -> Self {
        self.extensions.insert(0, (kind, data));
        self
    }

    /// The handshake message.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([5; 32]);
        body.push(self.session.len() as u8);
        body.extend(&self.session);
        body.extend(((self.suites.len() * 2) as u16).to_be_bytes());
        body.extend(self.suites.iter().flat_map(|suite| suite.to_be_bytes()));
        body.extend([1, 0]);
        let mut extensions = Vec::new();
        for (kind, data) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend((data.len() as u16).to_be_bytes());
            extensions.extend(data);
        }
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        handshake(1, &body)
    }

    /// The message in one record, or in as few as it needs.
    pub(crate) fn wire(&self) -> Vec<u8> {
        records(&self.message(), 16384)
    }
}

/// A handshake message of any type.
pub(crate) fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = (body.len() as u32).to_be_bytes().to_vec();
    message[0] = kind;
    message.extend(body);
    message
}

/// Handshake records of at most `size` octets each.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|piece| record(22, 0x0301, piece))
        .collect()
}

/// One record.
pub(crate) fn record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend(version.to_be_bytes());
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// The data of a server_name extension with one host name.
pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
    sni_list(&[(0, name)])
}

/// The data of a server_name extension with any list.
pub(crate) fn sni_list(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(*name);
    }
    let mut data = (list.len() as u16).to_be_bytes().to_vec();
    data.extend(list);
    data
}

/// The data of an encrypted_client_hello extension of an outer hello.
pub(crate) fn ech(config_id: u8) -> Vec<u8> {
    let mut data = vec![0, 0, 1, 0, 1, config_id, 0, 32];
    data.extend([3; 32]);
    data.extend([0, 144]);
    data.extend([4; 144]);
    data
}

/// One push of everything.
pub(crate) fn detect_all(bytes: &[u8]) -> Step {
    detect(&[bytes.to_vec()])
}
