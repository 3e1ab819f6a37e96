//! Replies that explain themselves: refusals and emptiness, with RFC 8914 extended errors.

use std::fmt::Write as _;

use tidegate_policy::DnsName;
use tidegate_policy::event::EventId;
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::verdict::Refusal;

use crate::wire::message::Section;
use crate::wire::query::Query;
use crate::wire::reply::{Ede, Reply};
use crate::wire::{Rcode, rtype};

/// TTL and MINIMUM of a refusal: a policy change is seen within seconds.
const REFUSAL_TTL: u32 = 5;
/// TTL of the HINFO stub for ANY; RFC 8482 §4.2 leaves it to the operator.
const ANY_TTL: u32 = 60;

/// SOA data of refusals: `tidegate.internal. hostmaster.tidegate.internal. 1 5 5 5 5`, its second name
/// ending in a pointer-free spelling so that it stands anywhere.
const SOA_NAMES: &[u8] = b"\x08tidegate\x08internal\x00\x0ahostmaster\x08tidegate\x08internal\x00";

/// What a refusal says, with the policy, the rule and the event that tells more; and the page that does, for `why`, where
/// there is room for its whole address.
pub(crate) fn blocked(book: &Rulebook, refusal: &Refusal, event: EventId, why: Option<&DnsName>) -> Ede {
    let mut text = String::with_capacity(96);
    match book.policy() {
        Some((policy, _)) => _ = write!(text, "policy {} v{}", policy.meta.name, policy.meta.version),
        None => text.push_str("policy none"),
    }
    _ = write!(text, ": {}", refusal.reason.as_str());
    if let Some(rule) = &refusal.rule {
        _ = write!(text, ", rule {}", rule.text());
    } else if let Some(nearest) = refusal.nearest.find() {
        _ = write!(text, ", nearest rule {}", nearest.text());
    }
    _ = write!(text, ", event {event}");
    if let Some(name) = why.filter(|name| !name.is_root()) {
        let name = name.to_string();
        let page = format!(", http://tidegate.internal/why/{name}");
        // Other characters would have to be escaped in a URL, and would be misread in the text.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.len() + page.len() <= Ede::MAX_TEXT && name.chars().all(plain) {
            text.push_str(&page);
        }
    }
    Ede::new(Ede::BLOCKED, text)
}

/// NXDOMAIN for a refused name.
pub(crate) fn refused(query: &Query, ede: Option<&Ede>) -> Vec<u8> {
    with_soa(query, Rcode::NXDOMAIN, ede)
}

/// An empty NOERROR: the name may exist, but nothing of it is given.
pub(crate) fn no_data(query: &Query, ede: Option<&Ede>) -> Vec<u8> {
    with_soa(query, Rcode::NOERROR, ede)
}

/// An empty NOERROR for a name that we answer for ourselves.
pub(crate) fn local_no_data(query: &Query) -> Vec<u8> {
    let mut reply = Reply::to(query, Rcode::NOERROR);
    soa(&mut reply);
    reply.finish(query, Rcode::NOERROR, None)
}

/// RFC 8482 §4.2: one HINFO record instead of everything.
pub(crate) fn minimal_any(query: &Query) -> Vec<u8> {
    let mut reply = Reply::to(query, Rcode::NOERROR);
    reply.record(Section::Answer, rtype::HINFO, ANY_TTL, b"\x07RFC8482\x00");
    reply.finish(query, Rcode::NOERROR, None)
}

fn with_soa(query: &Query, rcode: Rcode, ede: Option<&Ede>) -> Vec<u8> {
    let mut reply = Reply::to(query, rcode);
    soa(&mut reply);
    reply.finish(query, rcode, ede)
}

/// RFC 2308 §3: the SOA gives a negative answer its life; its owner is the asked name itself, so that
/// nothing beside it is denied.
fn soa(reply: &mut Reply) {
    let mut data = SOA_NAMES.to_vec();
    data.extend(1u32.to_be_bytes());
    for _ in 0..4 {
        data.extend(REFUSAL_TTL.to_be_bytes());
    }
    reply.record(Section::Authority, rtype::SOA, REFUSAL_TTL, &data);
}
