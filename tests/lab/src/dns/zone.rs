//! Owns what a name server knows: records, behaviours and gates by name.
//! No I/O. `DnsServer` drives it.

use std::collections::HashMap;
use std::str::FromStr as _;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{HTTPS, NULL};
use hickory_proto::rr::{RData, RecordType};
use tokio::sync::watch;

use crate::error::{LabError, invalid};

/// How a name is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// By its records.
    #[default]
    Answer,
    /// As if it did not exist, with a SOA record.
    NxDomain,
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// Not at all.
    Silence,
    /// Over UDP an empty answer with TC; over streams by its records.
    TruncateUdp,
    /// These very bytes, with the query's id put into the first two.
    Raw(Vec<u8>),
}

/// Holds answers back until it is opened. Dropping it opens it.
#[derive(Debug)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// Lets the answers go, those held back and those to come.
    pub fn open(self) {
        drop(self);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// The waiting side of a gate.
#[derive(Debug, Clone)]
pub(super) struct Waiting(watch::Receiver<bool>);

impl Waiting {
    /// Returns once the gate is open.
    pub(super) async fn passed(mut self) {
        let _open_or_gone = self.0.wait_for(|open| *open).await;
    }
}

/// One record without its owner.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) ttl: u32,
    pub(super) data: RData,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) records: Vec<Entry>,
    pub(super) behaviour: Behaviour,
    pub(super) signed: bool,
    gate: Option<Waiting>,
}

/// All names of a server.
#[derive(Debug, Default)]
pub(super) struct Zone {
    nodes: HashMap<String, Node>,
}

impl Zone {
    pub(super) fn set(&mut self, name: &str, records: &[&str]) -> Result<(), LabError> {
        let records = records.iter().map(|line| parse(line));
        let records = records.collect::<Result<_, _>>()?;
        let node = self.node(name);
        node.records = records;
        node.behaviour = Behaviour::Answer;
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.nodes.remove(&canonical(name));
    }

    pub(super) fn behave(&mut self, name: &str, behaviour: Behaviour) {
        self.node(name).behaviour = behaviour;
    }

    pub(super) fn sign(&mut self, name: &str) {
        self.node(name).signed = true;
    }

    pub(super) fn gate(&mut self, name: &str) -> Gate {
        let (sender, receiver) = watch::channel(false);
        self.node(name).gate = Some(Waiting(receiver));
        Gate(sender)
    }

    /// What to wait for before this query may be answered.
    pub(super) fn gate_of(&self, query: &Message) -> Option<Waiting> {
        let name = query.queries.first()?.name().to_ascii();
        self.find(&canonical(&name))?.gate.clone()
    }

    /// The node for a canonical name: its own, or that of the nearest wildcard.
    pub(super) fn find(&self, name: &str) -> Option<&Node> {
        if let Some(node) = self.nodes.get(name) {
            return Some(node);
        }
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(node) = self.nodes.get(&format!("*.{parent}")) {
                return Some(node);
            }
            rest = parent;
        }
        None
    }

    /// Whether anything lies below a canonical name (RFC 8020).
    pub(super) fn has_below(&self, name: &str) -> bool {
        let below = format!(".{name}");
        self.nodes.keys().any(|key| key.ends_with(&below))
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.entry(canonical(name)).or_default()
    }
}

/// Lower case, without the final dot.
pub(super) fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// `[TTL] TYPE RDATA`
fn parse(line: &str) -> Result<Entry, LabError> {
    let wrong = |why: &dyn ToString| invalid(format!("record `{line}`"), why.to_string());
    let (first, rest) = line
        .split_once(' ')
        .ok_or_else(|| wrong(&"expected `[TTL] TYPE RDATA`"))?;
    let (ttl, kind, data) = match first.parse() {
        Ok(ttl) => {
            let typed = rest.split_once(' ');
            let (kind, data) = typed.ok_or_else(|| wrong(&"no data after the type"))?;
            (ttl, kind, data)
        }
        Err(_) => (60, first, rest),
    };
    if let Some(hex) = data.strip_prefix("\\#") {
        let code = kind.strip_prefix("TYPE").and_then(|code| code.parse().ok());
        let code: u16 = code.ok_or_else(|| wrong(&"`\\#` goes with `TYPEnnn`"))?;
        let bytes = unhex(hex).ok_or_else(|| wrong(&"odd or wrong hex digits"))?;
        let code = RecordType::from(code);
        let rdata = NULL::with(bytes);
        return Ok(Entry {
            ttl,
            data: RData::Unknown { code, rdata },
        });
    }
    let kind = RecordType::from_str(kind).map_err(|error| wrong(&error))?;
    let mut data = RData::try_from_str(kind, data).map_err(|error| wrong(&error))?;
    // RFC 9460 section 2.2: on the wire in the order of their keys.
    if let RData::HTTPS(HTTPS(svcb)) | RData::SVCB(svcb) = &mut data {
        svcb.svc_params.sort_by_key(|(key, _)| u16::from(*key));
    }
    Ok(Entry { ttl, data })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs
        .remainder()
        .is_empty()
        .then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}
