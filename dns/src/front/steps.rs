//! The steps of a query before any upstream: protocol, local names, the verdict. Their order is here.

use std::net::IpAddr;
use std::time::Duration;

use compact_str::ToCompactString as _;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::judge::query::{PointerRuling, QueryAction, TypeClass, judge_pointer, judge_query};
use tidegate_policy::special;
use tidegate_policy::ticket::Grant;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};

use super::ask::{Ask, End, MAX_LISTED, Told};
use super::client::Transport;
use super::handler::DnsHandler;
use super::relay::Watch;
use crate::answer::{explain, local, reverse};
use crate::wire::query::Query;
use crate::wire::{Rcode, reply, rtype};

/// The next step of a query.
pub(super) enum Step {
    /// These bytes end it.
    Reply(Told),
    /// The resolver is to be asked.
    Resolve(Ask, QueryPermit, Judgement),
    /// The server that the client chose is to be asked.
    Relay(Watch),
}

/// What policy says of a query.
pub(super) enum Ruled {
    Reply(Told),
    Resolve(QueryPermit, Judgement),
}

impl DnsHandler {
    /// Everything before the resolver: protocol, local names, the verdict.
    pub(super) fn decide(&self, ask: Ask) -> Step {
        if let Some(reply) = self.before_policy(&ask) {
            return Step::Reply(reply.into());
        }
        match self.rule(&ask) {
            Ruled::Reply(reply) => Step::Reply(reply),
            Ruled::Resolve(permit, judgement) => Step::Resolve(ask, permit, judgement),
        }
    }

    /// What is answered whatever the policy says.
    fn before_policy(&self, ask: &Ask) -> Option<Vec<u8>> {
        if ask.client.spoofed && ask.client.transport == Transport::Udp {
            let judgement = Judgement::Refuse(Refusal::because(Reason::SpoofedSource));
            ask.end(self, End::new(self.sink.mint(), &judgement, Rcode::NOERROR));
            return Some(reply::truncated(&ask.query, Rcode::NOERROR));
        }
        if let Some((rcode, reason, note)) = unsupported(&ask.query) {
            let judgement = Judgement::Refuse(Refusal::because(reason));
            let end = End::new(self.sink.mint(), &judgement, rcode);
            ask.end(
                self,
                End {
                    note: Some(note.into()),
                    ..end
                },
            );
            return Some(reply::empty(&ask.query, rcode, None));
        }
        self.local(ask)
    }

    /// The verdict on a question of class IN and a data type.
    pub(super) fn rule(&self, ask: &Ask) -> Ruled {
        let is_pointer = ask.query.qtype == rtype::PTR;
        match is_pointer.then(|| reverse::address(&ask.query.name)).flatten() {
            Some(address) => self.pointer(ask, address),
            None => self.judge(ask),
        }
    }

    /// `localhost`, the configured hosts and the gateway's own pages, to every job.
    fn local(&self, ask: &Ask) -> Option<Vec<u8>> {
        let (query, live) = (&ask.query, self.live.load());
        let permit = Judgement::Permit(None);
        let id = || self.sink.mint();
        if query.qtype == rtype::PTR {
            let address = reverse::address(&query.name)?;
            let names = match live.hosts.names(address) {
                Some(names) => names.to_vec(),
                None if special::is_loopback(address) => vec![local::localhost_name()],
                None => return None,
            };
            ask.end(self, End::new(id(), &permit, Rcode::NOERROR));
            return Some(local::pointers(query, &names));
        }
        if let Some(loopback) = local::localhost(&query.name) {
            ask.end(self, End::new(id(), &permit, Rcode::NOERROR));
            return Some(local::addresses(query, &loopback).0);
        }
        let own = || {
            let pages = live.config.pages.get(&ask.subject.network.name);
            pages
                .filter(|_| local::is_own_name(&query.name))
                .map(Vec::as_slice)
        };
        let (reply, given) = local::addresses(query, live.hosts.get(&query.name).or_else(own)?);
        let grant = Grant {
            asked: &query.name,
            chain: &[],
            addresses: &given,
            ttl: Duration::ZERO,
        };
        let hold = live.config.ticket_hold;
        ask.subject.tickets().grant(&grant, hold, ask.begun);
        let mut end = End::new(id(), &permit, Rcode::NOERROR);
        end.answers = given.iter().map(|address| address.to_compact_string()).collect();
        end.answers.truncate(MAX_LISTED);
        ask.end(self, end);
        Some(reply)
    }

    fn pointer(&self, ask: &Ask, address: IpAddr) -> Ruled {
        match judge_pointer(
            &ask.book,
            &ask.query.name,
            address,
            ask.subject.tickets(),
            ask.begun,
        ) {
            PointerRuling::Ticketed(names) => {
                ask.end(
                    self,
                    End::new(self.sink.mint(), &Judgement::Permit(None), Rcode::NOERROR),
                );
                Ruled::Reply(local::pointers(&ask.query, &names).into())
            }
            PointerRuling::Forward(permit, rule) => Ruled::Resolve(permit, Judgement::Permit(Some(rule))),
            PointerRuling::Observe(permit) => Ruled::Resolve(permit, Judgement::Permit(None)),
            PointerRuling::Refuse(refusal) => Ruled::Reply(self.refuse(ask, refusal).into()),
        }
    }

    fn judge(&self, ask: &Ask) -> Ruled {
        let (query, book) = (&ask.query, &ask.book);
        let ruling = judge_query(book, &query.name, query.qtype, ask.subject.tickets(), ask.begun);
        match (ruling.action, ruling.judgement) {
            (QueryAction::Resolve(permit), judgement) => self.within_budget(ask, permit, judgement),
            (QueryAction::MinimalAny, judgement) => {
                ask.end(self, End::new(self.sink.mint(), &judgement, Rcode::NOERROR));
                Ruled::Reply(explain::minimal_any(query).into())
            }
            (QueryAction::Refuse, Judgement::Refuse(refusal)) => {
                Ruled::Reply(self.explain(ask, refusal, Rcode::NXDOMAIN))
            }
            (QueryAction::NoData, Judgement::Refuse(refusal)) => {
                Ruled::Reply(self.explain(ask, refusal, Rcode::NOERROR))
            }
            (QueryAction::Refuse | QueryAction::NoData, Judgement::Permit(_) | Judgement::WouldRefuse(_)) => {
                Ruled::Reply(self.refuse(ask, Refusal::because(Reason::NotAllowed)).into())
            }
        }
    }

    /// Evasion D13: distinct names below a wildcard, or with service labels, are payload when there are too
    /// many. What else is asked for under another's ticket comes from an upstream's own answer.
    fn within_budget(&self, ask: &Ask, permit: QueryPermit, judgement: Judgement) -> Ruled {
        let Judgement::Permit(Some(rule)) = &judgement else {
            return Ruled::Resolve(permit, judgement);
        };
        let name = permit.name();
        let is_link = permit.owner() != name && name.without_service_labels() == *name;
        if is_link || self.charge(ask.subject.id, name, rule) {
            return Ruled::Resolve(permit, judgement);
        }
        let refusal = Refusal::by(Reason::DnsBudget, rule.clone());
        if ask.is_audit() {
            return Ruled::Resolve(permit, Judgement::WouldRefuse(refusal));
        }
        Ruled::Reply(self.refuse(ask, refusal).into())
    }
}

/// What is no question that a resolver answers: other opcodes, classes, EDNS versions and meta types.
pub(super) fn unsupported(query: &Query) -> Option<(Rcode, Reason, &'static str)> {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        // RFC 6891 §6.1.3.
        return Some((Rcode::BADVERS, Reason::MalformedDns, "EDNS version"));
    }
    if !query.is_standard() {
        return Some((Rcode::NOTIMP, Reason::RecordType, "opcode"));
    }
    if !query.is_internet() {
        return Some((Rcode::REFUSED, Reason::RecordType, "class"));
    }
    match (query.qtype, TypeClass::of(query.qtype)) {
        (rtype::AXFR | rtype::IXFR, _) => Some((Rcode::REFUSED, Reason::RecordType, "zone transfer")),
        (_, TypeClass::Meta) => Some((Rcode::NOTIMP, Reason::RecordType, "meta type")),
        (
            _,
            TypeClass::Follows
            | TypeClass::Validation
            | TypeClass::Any
            | TypeClass::Pointer
            | TypeClass::Unforwarded,
        ) => None,
    }
}
