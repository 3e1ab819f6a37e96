//! Owns the making of replies from a zone: CNAME chains, negative answers,
//! signatures on demand, EDNS, truncation. No I/O. `DnsServer` drives it.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::log::Transport;
use super::zone::{Behaviour, Node, Zone, canonical};

/// The longest CNAME chain that is followed.
const CHAIN: usize = 16;
/// Seconds a negative answer lives.
const NEGATIVE_TTL: u32 = 60;

/// What to do with a query.
#[derive(Debug)]
pub(super) enum Answer {
    Silence,
    Raw(Vec<u8>),
    Message {
        message: Box<Message>,
        /// Over UDP only TC may be said.
        stream_only: bool,
    },
}

impl Zone {
    pub(super) fn answer(&self, query: &Message) -> Answer {
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.add_queries(query.queries.iter().cloned());
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.checking_disabled = query.metadata.checking_disabled;
        let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        if query.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(1232).set_dnssec_ok(dnssec_ok);
            reply.set_edns(edns);
        }
        let (OpCode::Query, MessageType::Query, [question]) = (
            query.metadata.op_code,
            query.metadata.message_type,
            &query.queries[..],
        ) else {
            return plain(reply, ResponseCode::NotImp);
        };
        let node = self.find(&canonical(&question.name().to_ascii()));
        let behaviour = node.map_or(Behaviour::Answer, |node| node.behaviour.clone());
        let stream_only = match behaviour {
            Behaviour::Silence => return Answer::Silence,
            Behaviour::Raw(bytes) => return Answer::Raw(bytes),
            Behaviour::ServFail => return plain(reply, ResponseCode::ServFail),
            Behaviour::Refused => return plain(reply, ResponseCode::Refused),
            Behaviour::NxDomain => {
                reply.add_authority(soa(question.name()));
                return plain(reply, ResponseCode::NXDomain);
            }
            Behaviour::TruncateUdp => true,
            Behaviour::Answer => false,
        };
        self.fill(&mut reply, question.name(), question.query_type(), dnssec_ok);
        Answer::Message {
            message: Box::new(reply),
            stream_only,
        }
    }

    fn fill(&self, reply: &mut Message, asked: &Name, kind: RecordType, dnssec_ok: bool) {
        let mut name = asked.clone();
        for _ in 0..CHAIN {
            let key = canonical(&name.to_ascii());
            let Some(node) = self.find(&key) else {
                if !self.has_below(&key) {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                }
                break;
            };
            if add_records(reply, &name, node, kind, dnssec_ok) {
                return;
            }
            match add_alias(reply, &name, node) {
                Some(target) => name = target,
                None => break,
            }
        }
        reply.add_authority(soa(&name));
    }
}

/// Adds the node's records of the type asked; says whether there were any.
fn add_records(reply: &mut Message, name: &Name, node: &Node, kind: RecordType, dnssec_ok: bool) -> bool {
    let wanted = node
        .records
        .iter()
        .filter(|entry| kind == RecordType::ANY || entry.data.record_type() == kind);
    let mut found = false;
    for entry in wanted {
        found = true;
        reply.add_answer(Record::from_rdata(name.clone(), entry.ttl, entry.data.clone()));
    }
    if found && dnssec_ok && node.signed {
        reply.add_answer(signature(name, kind));
    }
    found
}

fn add_alias(reply: &mut Message, name: &Name, node: &Node) -> Option<Name> {
    let mut aliases = node.records.iter().filter_map(|entry| {
        let RData::CNAME(target) = &entry.data else {
            return None;
        };
        Some((entry, target.0.clone()))
    });
    let (entry, target) = aliases.next()?;
    reply.add_answer(Record::from_rdata(name.clone(), entry.ttl, entry.data.clone()));
    Some(target)
}

/// RFC 4034 section 3.1 in shape; the signature itself is filler.
fn signature(name: &Name, covered: RecordType) -> Record {
    let mut rdata = u16::from(covered).to_be_bytes().to_vec();
    rdata.extend([13, name.num_labels()]);
    rdata.extend(60_u32.to_be_bytes());
    rdata.extend(u32::MAX.to_be_bytes());
    rdata.extend([0; 4]);
    rdata.extend([0x12, 0x34]);
    rdata.extend(b"\x04test\x00");
    rdata.extend([0xa5; 64]);
    let data = RData::Unknown {
        code: RecordType::RRSIG,
        rdata: NULL::with(rdata),
    };
    Record::from_rdata(name.clone(), 60, data)
}

/// The zone apex is the top-level label, for every name alike.
fn soa(name: &Name) -> Record {
    let labels = name.num_labels().min(1);
    let apex = name.trim_to(labels.into());
    let server = Name::from_ascii("ns.lab.test.").expect("a constant name is valid");
    let ttl = NEGATIVE_TTL;
    let data = SOA::new(server.clone(), server, 1, 3600, 600, 86_400, ttl);
    Record::from_rdata(apex, ttl, RData::SOA(data))
}

fn plain(mut reply: Message, code: ResponseCode) -> Answer {
    reply.metadata.response_code = code;
    Answer::Message {
        message: Box::new(reply),
        stream_only: false,
    }
}

/// FORMERR to what could not be read, if it has an id at least.
pub(super) fn malformed(query: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes(*query.first_chunk()?);
    let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    reply.to_vec().ok()
}

pub(super) fn with_id(mut bytes: Vec<u8>, id: u16) -> Vec<u8> {
    for (to, from) in bytes.iter_mut().zip(id.to_be_bytes()) {
        *to = from;
    }
    bytes
}

/// The reply's bytes, cut to TC when the transport cannot carry them.
pub(super) fn encode(
    reply: &Message,
    transport: Transport,
    stream_only: bool,
    query: &Message,
) -> Option<Vec<u8>> {
    let whole = reply.to_vec().ok()?;
    let limit = match transport {
        Transport::Udp if stream_only => 0,
        Transport::Udp => usize::from(query.max_payload()),
        Transport::Tcp | Transport::Tls | Transport::Https => usize::from(u16::MAX),
    };
    if whole.len() <= limit {
        return Some(whole);
    }
    reply.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests;
