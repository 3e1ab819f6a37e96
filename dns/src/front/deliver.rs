//! What leaves: refusals, empty answers, answers with their tickets stored first. One event each.

use compact_str::format_compact;
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
        let reply = explain::refused(&ask.query, &explain::blocked(&ask.book, &refusal, id));
        ask.end(self, End::new(id, &Judgement::Refuse(refusal), Rcode::NXDOMAIN));
        self.fitted(ask, reply, Rcode::NXDOMAIN).0
    }

    /// An empty NOERROR with the explanation.
    pub(super) fn no_data(&self, ask: &Ask, refusal: Refusal) -> Vec<u8> {
        let id = self.sink.mint();
        let reply = explain::no_data(&ask.query, &explain::blocked(&ask.book, &refusal, id));
        ask.end(self, End::new(id, &Judgement::Refuse(refusal), Rcode::NOERROR));
        self.fitted(ask, reply, Rcode::NOERROR).0
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
        let (age, ede, source) = match stale {
            true => (
                Age::Stale,
                Some(Ede::new(Ede::STALE_ANSWER, String::new())),
                Source::Stale,
            ),
            false => (Age::Fresh(answer.age(now)), None, source),
        };
        let reply = if share.is_whole() {
            emit::whole(&answer, &ask.query, age, ede.as_ref())
        } else {
            emit::part(&answer, &share, &ask.query, age, ede.as_ref())
        };
        let (reply, is_whole) = self.fitted(ask, reply, answer.rcode);
        if is_whole {
            case.grant(
                &share,
                ask.subject.tickets(),
                self.live.load().config.ticket_hold,
                now,
            );
        }
        let judgement = if ask.is_audit() {
            case.judgement_in_audit(judgement)
        } else {
            judgement
        };
        let note = share
            .refusal
            .map(|refusal| format_compact!("some addresses were left out: {}", refusal.reason.as_str()));
        let answers = listed(&answer, &share.addresses);
        ask.end(
            self,
            End {
                source,
                answers,
                note,
                ..End::new(self.sink.mint(), &judgement, answer.rcode)
            },
        );
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
        let note = Some(format_compact!("{error}"));
        let end = End {
            source: Source::Miss,
            note,
            ..End::new(self.sink.mint(), &judgement, Rcode::SERVFAIL)
        };
        ask.end(self, end);
        reply::empty(&ask.query, Rcode::SERVFAIL, Some(&Ede::new(code, text)))
    }

    /// The reply, or TC=1 when the client's transport can't take it; and whether it is the reply.
    fn fitted(&self, ask: &Ask, reply: Vec<u8>, rcode: Rcode) -> (Vec<u8>, bool) {
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
}
