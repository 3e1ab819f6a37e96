//! What leaves: refusals, empty answers, answers with their tickets stored first. One event each.

use std::sync::Arc;

use compact_str::format_compact;
use tidegate_policy::event::EventId;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::verdict::{Judgement, Refusal};

use super::ask::{Ask, End, Told, listed};
use super::client::Transport;
use super::handler::DnsHandler;
use super::metrics::Source;
use crate::answer::emit::{self, Age};
use crate::answer::explain;
use crate::answer::share::{Case, Shared};
use crate::fast::lesson::{Basis, Draft, Given, Ground};
use crate::resolver::{Found, ResolveError};
use crate::wire::Rcode;
use crate::wire::reply::{self, Ede};

impl DnsHandler {
    /// NXDOMAIN with the explanation.
    pub(super) fn refuse(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        self.explain(ask, refusal, Rcode::NXDOMAIN).reply
    }

    /// An empty NOERROR with the explanation.
    pub(super) fn no_data(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        self.explain(ask, refusal, Rcode::NOERROR).reply
    }

    /// A refusal by NXDOMAIN or an empty NOERROR. What it teaches holds as long as the name is judged as it was, which is
    /// for the caller to know.
    pub(super) fn explain(&self, ask: &Ask, refusal: Refusal, rcode: Rcode) -> Told {
        let id = self.sink.mint();
        // Without EDNS there is nowhere to say it (RFC 6891 §7), and the nearest rule needn't be looked for.
        let ede = ask.query.edns.map(|_| self.blocked(ask, &refusal, id));
        let reply = if rcode == Rcode::NXDOMAIN {
            explain::refused(&ask.query, ede.as_ref())
        } else {
            explain::no_data(&ask.query, ede.as_ref())
        };
        let judgement = Judgement::Refuse(refusal);
        ask.end(self, End::new(id, &judgement, rcode));
        let (reply, is_whole) = fitted(ask, reply, rcode);
        let ground = ask.teach.filter(|_| is_whole).map(Ground::of_refusal);
        let draft = ground.map(|ground| Box::new(draft(ask, ground, (judgement, rcode), Basis::Refusal(id))));
        Told { reply, draft }
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
    ) -> Told {
        let Found { answer, stale } = found;
        let case = Case {
            book: &ask.book,
            permit,
            answer: &answer,
        };
        case.note_ech(|name| self.resolver.known_addresses(name));
        let share = match case.share() {
            Shared::Records(share) => share,
            Shared::NoAddress(refusal) => return self.no_data(ask, refusal).into(),
            Shared::Refused(refusal) => return self.refuse(ask, refusal).into(),
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
        let teaches = is_whole && source == Source::Hit && !stale && permit.owner() == &ask.query.name;
        let ground = ask.teach.filter(|_| teaches);
        let ground = ground.and_then(|epochs| Ground::of_permit(epochs, &ask.query.name, &judgement));
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
        let given = ground.is_some().then(|| Given {
            answer: Arc::clone(&answer),
            at: now,
            addresses: share.addresses,
            listed: end.answers.clone(),
            note: end.note.clone(),
        });
        ask.end(self, end);
        let draft = ground.zip(given).map(|(ground, given)| {
            let basis = Basis::Answer(Box::new(given));
            Box::new(draft(ask, ground, (judgement, answer.rcode), basis))
        });
        Told { reply, draft }
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

/// What an answer teaches.
fn draft(ask: &Ask, ground: Ground, (judgement, rcode): (Judgement, Rcode), basis: Basis) -> Draft {
    Draft {
        subject: Arc::clone(&ask.subject),
        book: Arc::clone(&ask.book),
        ground,
        judgement,
        rcode,
        basis,
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
