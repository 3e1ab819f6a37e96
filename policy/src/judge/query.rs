//! Judging a DNS question, before anything is asked upstream.

use std::net::IpAddr;

use super::answer::{global_address, global_name, global_view};
use super::permit::{Filtering, QueryPermit};
use crate::Moment;
use crate::compile::matcher::Offer;
use crate::compile::rules::RuleRef;
use crate::compile::{Ends, NameView};
use crate::name::DnsName;
use crate::rulebook::{CompiledPolicy, Nearest, Rulebook};
use crate::special;
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
        use rtype::{
            A, AAAA, ANY, CAA, CNAME, DNAME, DNSKEY, DS, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SSHFP, SVCB,
        };
        use rtype::{TLSA, TXT, URI};
        match qtype {
            A | AAAA | HTTPS | SVCB | CNAME | DNAME | SRV | MX | TXT | CAA | NS | SOA | TLSA | SSHFP
            | NAPTR | URI => Self::Follows,
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
        matches!(
            qtype,
            rtype::SRV | rtype::TXT | rtype::SVCB | rtype::HTTPS | rtype::TLSA | rtype::URI
        )
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
/// [`TypeClass`] and [`judge_pointer`]).
pub fn judge_query(
    book: &Rulebook,
    name: &DnsName,
    qtype: u16,
    tickets: &TicketTable,
    now: Moment,
) -> QueryRuling {
    let strips = TypeClass::strips_service_labels(qtype) && name.has_service_labels();
    let stripped = strips.then(|| name.without_service_labels());
    let asked = NameView::new(name);
    let without = stripped.as_ref().map(NameView::new);
    let question = Question {
        book,
        name,
        host: stripped.as_ref().unwrap_or(name),
        view: without.as_ref().unwrap_or(&asked),
        class: TypeClass::of(qtype),
    };
    let host_rule = || question.is_stripped().then(|| global_name(book, question.host))?;
    if let Some(rule) = global_view(book, name, &asked).or_else(host_rule) {
        let refusal = Refusal::by(Reason::GlobalBlock, rule);
        return QueryRuling {
            judgement: Judgement::Refuse(refusal),
            action: question.refused(None),
        };
    }
    let enforced = question.enforce(tickets, now);
    match book.mode() {
        Mode::Block => enforced,
        Mode::Audit => question.observe(enforced),
    }
}

#[derive(Clone, Copy)]
struct Question<'a> {
    book: &'a Rulebook,
    /// As asked.
    name: &'a DnsName,
    /// Without the service labels of types that have them.
    host: &'a DnsName,
    /// The host, laid out for lookups.
    view: &'a NameView<'a>,
    class: TypeClass,
}

impl Question<'_> {
    /// True when the host is another name than the asked one.
    fn is_stripped(self) -> bool {
        self.host.as_wire().len() < self.name.as_wire().len()
    }

    /// Audit: everything is resolved, whatever block mode says; tickets go where it would put them.
    fn observe(self, enforced: QueryRuling) -> QueryRuling {
        let owner = match &enforced.action {
            QueryAction::Resolve(permit) => permit.owner().clone(),
            QueryAction::Refuse | QueryAction::NoData | QueryAction::MinimalAny => self.host.clone(),
        };
        let judgement = match enforced.judgement {
            Judgement::Refuse(refusal) => Judgement::WouldRefuse(refusal),
            other @ (Judgement::Permit(_) | Judgement::WouldRefuse(_)) => other,
        };
        let permit = QueryPermit::new(self.name.clone(), owner, Filtering::Observed);
        QueryRuling {
            judgement,
            action: QueryAction::Resolve(permit),
        }
    }

    /// What block mode says.
    fn enforce(self, tickets: &TicketTable, now: Moment) -> QueryRuling {
        match self.permit(tickets, now) {
            Ok(allowed) => self.allowed(allowed),
            Err((refusal, above)) => QueryRuling {
                judgement: Judgement::Refuse(refusal),
                action: self.refused(above),
            },
        }
    }

    fn allowed(self, Allowed { rule, owner }: Allowed) -> QueryRuling {
        match self.class {
            TypeClass::Any => QueryRuling {
                judgement: Judgement::Permit(rule),
                action: QueryAction::MinimalAny,
            },
            TypeClass::Unforwarded | TypeClass::Meta => {
                let refusal = Refusal {
                    rule,
                    ..Refusal::because(Reason::RecordType)
                };
                QueryRuling {
                    judgement: Judgement::Refuse(refusal),
                    action: QueryAction::NoData,
                }
            }
            TypeClass::Follows | TypeClass::Validation | TypeClass::Pointer => {
                let permit = QueryPermit::new(self.name.clone(), owner, Filtering::Enforced);
                QueryRuling {
                    judgement: Judgement::Permit(rule),
                    action: QueryAction::Resolve(permit),
                }
            }
        }
    }

    /// How a refusal is answered: a name above an allowed pattern must exist (RFC 8020), whyever it is
    /// refused itself. `above`: whether it is, if that is known already.
    fn refused(self, above: Option<bool>) -> QueryAction {
        let Some((policy, _)) = self.book.policy() else {
            return QueryAction::Refuse;
        };
        let above = above.unwrap_or_else(|| self.offer(policy).above);
        if above || self.is_above_services(policy) {
            QueryAction::NoData
        } else {
            QueryAction::Refuse
        }
    }

    /// What the first list that allows some (port, transport) of the host says of it; else whether one has a pattern
    /// below it.
    fn offer(self, policy: &CompiledPolicy) -> Offer<RuleRef> {
        let mut all = Offer {
            rule: None,
            above: false,
        };
        for list in self.book.permitting(policy) {
            let Offer { rule, above } = list.offer(self.view, policy.denied());
            all.above |= above;
            if rule.is_some() {
                return Offer { rule, ..all };
            }
        }
        all
    }

    /// Steps 3 to 6 of the order of decision for a name. With a refusal goes whether a pattern of an allow list lies below
    /// the host, where that came to be known.
    fn permit(self, tickets: &TicketTable, now: Moment) -> Result<Allowed, (Refusal, Option<bool>)> {
        let Self { book, host, .. } = self;
        let policy = book.governed().map_err(|refusal| (refusal, None))?;
        let Offer { rule, above } = self.offer(policy);
        if let Some(rule) = rule {
            return Ok(Allowed {
                rule: Some(rule),
                owner: host.clone(),
            });
        }
        if let Some(rule) = denial(book, policy, host) {
            return Err((Refusal::by(Reason::Denied, rule), Some(above)));
        }
        let owner = tickets
            .chain_owner(self.name, now)
            .or_else(|| self.is_stripped().then(|| tickets.chain_owner(host, now))?);
        if let Some(owner) = owner
            && let Some(rule) = some_port(book, policy, &owner)
        {
            return Ok(Allowed {
                rule: Some(rule),
                owner,
            });
        }
        if self.class == TypeClass::Validation && (above || self.is_above_services(policy)) {
            return Ok(Allowed {
                rule: None,
                owner: host.clone(),
            });
        }
        let refusal = not_allowed(policy, host);
        let reason = if is_search_suffix(book, policy, self.view) {
            Reason::SearchSuffix
        } else {
            refusal.reason
        };
        Err((Refusal { reason, ..refusal }, Some(above)))
    }

    /// True when the service names of an allowed host lie below this one: `_tcp.db.example` stands above
    /// `_mongodb._tcp.db.example`.
    fn is_above_services(self, policy: &CompiledPolicy) -> bool {
        self.name.has_service_labels()
            && some_port(self.book, policy, &self.name.without_service_labels()).is_some()
    }
}

/// A permitted name: by which rule (none for the ancestors of one), and whose chain it belongs to.
struct Allowed {
    rule: Option<RuleRef>,
    owner: DnsName,
}

/// The rule by which some (port, transport) of a name is permitted.
pub(super) fn some_port(book: &Rulebook, policy: &CompiledPolicy, name: &DnsName) -> Option<RuleRef> {
    book.permitting(policy)
        .find_map(|list| list.any_port(name, policy.denied()))
}

/// The denied endpoint to blame for a name of which nothing is permitted: one that leaves nothing of it,
/// or one that took away what an allowed endpoint gives.
fn denial(book: &Rulebook, policy: &CompiledPolicy, name: &DnsName) -> Option<RuleRef> {
    if !policy.denied().has_names() {
        return None;
    }
    let given = || book.permitting(policy).any(|list| list.any_rule(name).is_some());
    policy
        .denied()
        .whole_name(name)
        .or_else(|| policy.denied().any_rule(name).filter(|_| given()))
}

/// The refusal of a name that no rule matched, with where the nearest one is.
pub(super) fn not_allowed(policy: &CompiledPolicy, name: &DnsName) -> Refusal {
    Refusal {
        reason: Reason::NotAllowed,
        rule: None,
        nearest: Nearest::among(policy.allowed(), name),
    }
}

/// True when the labels before some suffix are an allowed name: `registry.example.corp.example` after an
/// allowed `registry.example`. Resolvers ask that by themselves.
fn is_search_suffix(book: &Rulebook, policy: &CompiledPolicy, name: &NameView<'_>) -> bool {
    let before = name.len().saturating_sub(1);
    let ends = |labels: std::ops::Range<usize>| Ends::of(labels.map(|at| name.label(at)));
    let may_end = |ends: &Ends| book.permitting(policy).any(|list| list.may_end_in(ends));
    // Nearly always told by the labels alone: few names begin with what ends an allowed one.
    may_end(&ends(0..before))
        && (0..before).any(|last| {
            may_end(&ends(last..last + 1))
                && DnsName::from_labels((0..=last).map(|at| name.label(at)))
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
    address: IpAddr,
    tickets: &TicketTable,
    now: Moment,
) -> PointerRuling {
    let permit = |filtering| QueryPermit::new(name.clone(), name.clone(), filtering);
    if let Some(rule) = global_name(book, name).or_else(|| global_address(book, address)) {
        return PointerRuling::Refuse(Refusal::by(Reason::GlobalBlock, rule));
    }
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
    if let Some(rule) = special::spellings(address)
        .iter()
        .find_map(|one| policy.denied().whole_address(*one))
    {
        return PointerRuling::Refuse(Refusal::by(Reason::Denied, rule));
    }
    let address = special::canonical(address);
    match book.permitting(policy).find_map(|list| list.covering(address)) {
        Some(rule) if special::is_not_public(address) => {
            PointerRuling::Forward(permit(Filtering::Enforced), rule)
        }
        Some(_) | None => PointerRuling::Refuse(Refusal::because(Reason::NotAllowed)),
    }
}
