//! Judging a DNS question.

use super::answer::global_name;
use super::permit::{Filtering, QueryPermit};
use crate::Moment;
use crate::compile::rules::RuleRef;
use crate::name::DnsName;
use crate::rulebook::{CompiledPolicy, Rulebook};
use crate::ticket::TicketTable;
use crate::verdict::{Judgement, Mode, Reason, Refusal};

/// Record types by number, as far as decisions differ between them (IANA DNS parameters).
pub mod rtype {
    #![allow(missing_docs, reason = "the mnemonics are the registry's")]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const NAPTR: u16 = 35;
    pub const DNAME: u16 = 39;
    pub const DS: u16 = 43;
    pub const SSHFP: u16 = 44;
    pub const DNSKEY: u16 = 48;
    pub const TLSA: u16 = 52;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const URI: u16 = 256;
    pub const CAA: u16 = 257;
    pub const ANY: u16 = 255;
}

/// What a question's type means for the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeClass {
    /// Follows the name.
    Follows,
    /// DS and DNSKEY: follow the name, and are answered for ancestors of allowed names too.
    Validation,
    /// ANY: answered by RFC 8482, never forwarded.
    Any,
    /// PTR: from tickets, or forwarded for covered private addresses.
    Pointer,
    /// Every other data type: NODATA for an allowed name.
    Unforwarded,
    /// OPT, TSIG, AXFR, IXFR and other meta types: refused outright.
    Meta,
}

impl TypeClass {
    /// Classifies a type number.
    pub fn of(qtype: u16) -> Self {
        use rtype::{A, AAAA, ANY, CAA, CNAME, DNAME, DNSKEY, DS, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SSHFP, SVCB};
        use rtype::{TLSA, TXT, URI};
        match qtype {
            A | AAAA | HTTPS | SVCB | CNAME | DNAME | SRV | MX | TXT | CAA | NS | SOA | TLSA | SSHFP | NAPTR | URI => {
                Self::Follows
            }
            DS | DNSKEY => Self::Validation,
            ANY => Self::Any,
            PTR => Self::Pointer,
            // RFC 6895 §3.1: 128 to 255 are query and meta types; 41 is OPT.
            0 | 41 | 128..=254 => Self::Meta,
            _ => Self::Unforwarded,
        }
    }

    /// True for types whose leading underscore labels are service labels, not part of the host.
    fn strips_service_labels(qtype: u16) -> bool {
        matches!(qtype, rtype::SRV | rtype::TXT | rtype::SVCB | rtype::HTTPS | rtype::TLSA | rtype::URI)
    }
}

/// What follows for the answer.
#[derive(Clone, Debug)]
pub enum QueryAction {
    /// Ask the cache and the upstreams.
    Resolve(QueryPermit),
    /// NXDOMAIN with the explanation.
    Refuse,
    /// An empty NOERROR: the name is an ancestor of an allowed one (RFC 8020), or its type is not
    /// forwarded.
    NoData,
    /// An HINFO stub (RFC 8482).
    MinimalAny,
}

/// A judged question.
#[derive(Clone, Debug)]
pub struct QueryRuling {
    /// For the event.
    pub judgement: Judgement,
    /// What to answer.
    pub action: QueryAction,
}

/// Judges a question for `name` and `qtype` (not PTR and not a meta type: `dns` answers those itself by
/// [`TypeClass`], [`pointer`]).
pub fn judge_query(book: &Rulebook, name: &DnsName, qtype: u16, tickets: &TicketTable, now: Moment) -> QueryRuling {
    let class = TypeClass::of(qtype);
    let host = if TypeClass::strips_service_labels(qtype) { name.without_service_labels() } else { name.clone() };
    if let Some(rule) = global_name(book, name).or_else(|| global_name(book, &host)) {
        let judgement = Judgement::Refuse(Refusal::by(Reason::GlobalBlock, rule));
        return QueryRuling { judgement, action: QueryAction::Refuse };
    }
    match book.mode() {
        Mode::Audit => observe(book, name, &host, class, tickets, now),
        Mode::Block => enforce(book, name, &host, class, tickets, now),
    }
}

/// Audit: everything is resolved, whatever block mode would say.
fn observe(
    book: &Rulebook,
    name: &DnsName,
    host: &DnsName,
    class: TypeClass,
    tickets: &TicketTable,
    now: Moment,
) -> QueryRuling {
    let wanted = permit(book, host, class, tickets, now);
    let (judgement, owner) = match wanted {
        Ok(Allowed { rule, owner }) => (Judgement::Permit(Some(rule)), owner.unwrap_or_else(|| name.clone())),
        Err(Refused { refusal, .. }) => (Judgement::WouldRefuse(refusal), name.clone()),
    };
    let permit = QueryPermit::new(name.clone(), owner, Filtering::Observed);
    QueryRuling { judgement, action: QueryAction::Resolve(permit) }
}

fn enforce(
    book: &Rulebook,
    name: &DnsName,
    host: &DnsName,
    class: TypeClass,
    tickets: &TicketTable,
    now: Moment,
) -> QueryRuling {
    match permit(book, host, class, tickets, now) {
        Ok(Allowed { rule, owner }) => match class {
            TypeClass::Any => QueryRuling { judgement: Judgement::Permit(Some(rule)), action: QueryAction::MinimalAny },
            TypeClass::Unforwarded | TypeClass::Meta => {
                let judgement = Judgement::Refuse(Refusal::by(Reason::RecordType, rule));
                QueryRuling { judgement, action: QueryAction::NoData }
            }
            TypeClass::Follows | TypeClass::Validation | TypeClass::Pointer => {
                let owner = owner.unwrap_or_else(|| name.clone());
                let permit = QueryPermit::new(name.clone(), owner, Filtering::Enforced);
                QueryRuling { judgement: Judgement::Permit(Some(rule)), action: QueryAction::Resolve(permit) }
            }
        },
        Err(Refused { refusal, ancestor }) => {
            let action = if ancestor { QueryAction::NoData } else { QueryAction::Refuse };
            QueryRuling { judgement: Judgement::Refuse(refusal), action }
        }
    }
}

/// A permitted name: by which rule, and whose chain it belongs to when not its own.
struct Allowed {
    rule: RuleRef,
    owner: Option<DnsName>,
}

/// A refused name, and whether an allowed pattern lies below it.
struct Refused {
    refusal: Refusal,
    ancestor: bool,
}

/// Steps 3 to 6 of the order of decision for a name.
fn permit(
    book: &Rulebook,
    host: &DnsName,
    class: TypeClass,
    tickets: &TicketTable,
    now: Moment,
) -> Result<Allowed, Refused> {
    let policy = book.governed().map_err(|refusal| Refused { refusal, ancestor: false })?;
    if let Some(rule) = some_port(book, policy, host) {
        return Ok(Allowed { rule, owner: None });
    }
    if let Some(rule) = policy.denied().any_rule(host) {
        return Err(Refused { refusal: Refusal::by(Reason::Denied, rule), ancestor: false });
    }
    if let Some(owner) = tickets.chain_owner(host, now)
        && let Some(rule) = some_port(book, policy, &owner)
    {
        return Ok(Allowed { rule, owner: Some(owner) });
    }
    let below = book.permitting(policy).find_map(|list| list.has_below(host).then(|| list.nearest(host)));
    match (below, class) {
        (Some(Some(rule)), TypeClass::Validation) => Ok(Allowed { rule, owner: None }),
        (below, _) => Err(Refused { refusal: not_allowed(book, policy, host), ancestor: below.is_some() }),
    }
}

/// The rule by which some (port, transport) of a name is permitted.
fn some_port(book: &Rulebook, policy: &CompiledPolicy, name: &DnsName) -> Option<RuleRef> {
    book.permitting(policy).find_map(|list| list.any_port(name, policy.denied()))
}

/// The refusal of a name that nothing matched: told apart from search-suffix noise, with the nearest rule.
pub(super) fn not_allowed(book: &Rulebook, policy: &CompiledPolicy, name: &DnsName) -> Refusal {
    let nearest = policy.allowed().nearest(name);
    let reason = if is_search_suffix(book, policy, name) { Reason::SearchSuffix } else { Reason::NotAllowed };
    Refusal { reason, rule: None, nearest }
}

/// True when a prefix of at least two labels is an allowed name: `registry.example.corp.example` after
/// an allowed `registry.example`.
fn is_search_suffix(book: &Rulebook, policy: &CompiledPolicy, name: &DnsName) -> bool {
    let labels = name.labels();
    (2..labels.len()).rev().any(|keep| {
        DnsName::from_labels(labels.iter().take(keep).copied())
            .is_ok_and(|prefix| some_port(book, policy, &prefix).is_some())
    })
}

/// A judged PTR question for `address`.
#[derive(Clone, Debug)]
pub enum PointerRuling {
    /// Answer with these names: the job holds tickets for them at the address.
    Ticketed(Vec<DnsName>),
    /// Forward: an address endpoint covers the private address.
    Forward(QueryPermit, RuleRef),
    /// Forward: audit.
    Observe(QueryPermit),
    /// NXDOMAIN.
    Refuse(Refusal),
}

/// Judges a PTR question for `name`, the reverse spelling of `address`.
pub fn judge_pointer(
    book: &Rulebook,
    name: &DnsName,
    address: std::net::IpAddr,
    tickets: &TicketTable,
    now: Moment,
) -> PointerRuling {
    let permit = |filtering| QueryPermit::new(name.clone(), name.clone(), filtering);
    let policy = match book.governed() {
        Ok(policy) => policy,
        Err(refusal) => return PointerRuling::Refuse(refusal),
    };
    if policy.mode == Mode::Audit {
        return PointerRuling::Observe(permit(Filtering::Observed));
    }
    let held = tickets.names_at(address, now);
    if !held.is_empty() {
        return PointerRuling::Ticketed(held.into_vec());
    }
    let covering = book.permitting(policy).find_map(|list| list.covering(address));
    match covering {
        Some(rule) if crate::special::is_not_public(address) => {
            PointerRuling::Forward(permit(Filtering::Enforced), rule)
        }
        _ => PointerRuling::Refuse(Refusal::because(Reason::NotAllowed)),
    }
}
