//! What leaves: refusals, empty answers, answers with their tickets stored first. One event each.

use compact_str::format_compact;
use tidegate_policy::event::EventId;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::verdict::{Judgement, Refusal};

use super::ask::{Ask, End, listed};
use super::client::Transport;
use super::handler::DnsHandler;
use super::metrics::Source;
use crate::answer::emit::{self, Age};
use crate::answer::explain;
use crate::answer::share::{Case, Shared};
use crate::resolver::{Found, ResolveError};
use crate::wire::Rcode;
use crate::wire::reply::{self, Ede};

impl DnsHandler {
    /// NXDOMAIN with the explanation.
    pub(super) fn refuse(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        let id = self.sink.mint();
        let reply = explain::refused(&ask.query, &self.blocked(ask, &refusal, id));
        ask.end(self, End::new(id, &Judgement::Refuse(refusal), Rcode::NXDOMAIN));
        fitted(ask, reply, Rcode::NXDOMAIN).0
    }

    /// An empty NOERROR with the explanation.
    pub(super) fn no_data(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        let id = self.sink.mint();
        let reply = explain::no_data(&ask.query, &self.blocked(ask, &refusal, id));
        ask.end(self, End::new(id, &Judgement::Refuse(refusal), Rcode::NOERROR));
        fitted(ask, reply, Rcode::NOERROR).0
    }

    fn blocked(&self, ask: &Ask, refusal: &Refusal, id: EventId) -> Ede {
        let live = self.live.load();
        let has_pages = live.config.pages.contains_key(&ask.subject.network.name);
        explain::blocked(&ask.book, refusal, id, has_pages.then_some(&ask.query.name))
    }

    /// An upstream's answer, as this job gets it. Its tickets are stored before the bytes are returned.
    pub(super) fn answer(
        &self,
        ask: &Ask,
        permit: &QueryPermit,
        judgement: Judgement,
        found: Found,
        source: Source,
    ) -> Vec<u8> {
        let Found { answer, stale } = found;
        let case = Case {
            book: &ask.book,
            permit,
            answer: &answer,
        };
        case.note_ech(|name| self.resolver.known_addresses(name));
        let share = match case.share() {
            Shared::Records(share) => share,
            Shared::NoAddress(refusal) => return self.no_data(ask, refusal),
            Shared::Refused(refusal) => return self.refuse(ask, refusal),
        };
        let now = self.clock.now();
        let age = if stale {
            Age::Stale
        } else {
            Age::Fresh(answer.age(now))
        };
        let (reply, is_whole) = fitted(ask, emit::answer(&answer, &share, &ask.query, age), answer.rcode);
        if is_whole {
            let hold = self.live.load().config.ticket_hold;
            case.grant(&share, ask.subject.tickets(), hold, now);
        }
        let judgement = if ask.is_audit() {
            case.judgement_in_audit(judgement)
        } else {
            judgement
        };
        let mut end = End::new(self.sink.mint(), &judgement, answer.rcode);
        end.source = if stale { Source::Stale } else { source };
        end.answers = listed(&answer, &share.addresses);
        end.note = share
            .refusal
            .map(|refusal| format_compact!("some addresses were left out: {}", refusal.reason.as_str()));
        ask.end(self, end);
        reply
    }

    /// SERVFAIL: the name is allowed, but nobody can tell.
    pub(super) fn failed(&self, ask: &Ask, judgement: Judgement, error: ResolveError) -> Vec<u8> {
        let (code, text) = match error {
            ResolveError::Timeout | ResolveError::NoUpstream => {
                (Ede::NO_REACHABLE_AUTHORITY, error.to_string())
            }
            ResolveError::Unreachable | ResolveError::Answered(_) | ResolveError::Busy => {
                (Ede::NETWORK_ERROR, error.to_string())
            }
        };
        let mut end = End::new(self.sink.mint(), &judgement, Rcode::SERVFAIL);
        end.source = Source::Miss;
        end.note = Some(format_compact!("{error}"));
        ask.end(self, end);
        reply::empty(&ask.query, Rcode::SERVFAIL, Some(&Ede::new(code, text)))
    }
}

/// The reply, or TC=1 when the client's transport can't take it; and whether it is the reply.
fn fitted(ask: &Ask, reply: Vec<u8>, rcode: Rcode) -> (Vec<u8>, bool) {
    let limit = match ask.client.transport {
        Transport::Udp => ask.query.udp_limit(),
        Transport::Tcp | Transport::Tls | Transport::Https => usize::from(u16::MAX),
    };
    if reply.len() <= limit {
        (reply, true)
    } else {
        (reply::truncated(&ask.query, rcode), false)
    }
}
