//! Cleartext HTTP that is let through and looked at: every request is judged and recorded, none is touched.
//! Owns the events of such a connection; never holds back a byte, unless a request is refused in audit too.
//! Driven by `flow::observe`.

use std::sync::Arc;

use tidegate_policy::detection::{Detection, Prefix};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};

use super::decide::{Asked, Decision, Via};
use super::frames::FrameObserver;
use super::ledger::{Entered, Ledger};
use super::observe::{RequestObserver, Seen};
use crate::address::UpstreamAddr;
use crate::context::{FlowContext, Remarks};
use crate::http1::head::HeadError;
use crate::relay::{Direction, Look, Traffic};
use crate::route::own_permit;

/// What follows the client's side.
enum Sight {
    Http1(RequestObserver),
    Http2(Box<FrameObserver>),
}

impl Sight {
    fn is_blind(&self) -> bool {
        match self {
            Self::Http1(observer) => observer.is_blind(),
            Self::Http2(observer) => observer.is_blind(),
        }
    }
}

/// Looks at a connection whose first bytes are a request, or the HTTP/2 preface.
pub(crate) struct Onlooker<'a> {
    context: &'a FlowContext,
    dialled: UpstreamAddr,
    sight: Sight,
    ledger: Ledger<'a>,
    /// The event of the last request, and the flow's bytes that some event counts already.
    last: Option<Arc<Traffic>>,
    counted: Traffic,
}

impl<'a> Onlooker<'a> {
    /// Looks at a flow that is relayed to this address and begins with a request.
    pub(crate) fn new(context: &'a FlowContext, dialled: UpstreamAddr) -> Self {
        Self::with(context, dialled, Sight::Http1(RequestObserver::new()))
    }

    /// Looks at one that begins with the HTTP/2 preface.
    pub(crate) fn of_http2(context: &'a FlowContext, dialled: UpstreamAddr) -> Self {
        Self::with(context, dialled, Sight::Http2(Box::new(FrameObserver::new())))
    }

    fn with(context: &'a FlowContext, dialled: UpstreamAddr, sight: Sight) -> Self {
        Self {
            context,
            dialled,
            sight,
            ledger: Ledger::new(context),
            last: None,
            counted: Traffic::default(),
        }
    }

    /// Looks at the client's next bytes, from its first ones on.
    pub(crate) fn client_says(&mut self, bytes: &[u8]) -> Look {
        let mut seen = Vec::new();
        match &mut self.sight {
            Sight::Http1(observer) => observer.push(bytes, |one| {
                seen.push(match one {
                    Seen::Request(head) => Ok(Asked::of(&head)),
                    Seen::Malformed(error) => Err(error),
                });
            }),
            Sight::Http2(observer) => observer.push(bytes, |authority| {
                seen.push(Ok(Asked::plain(Some(authority), None)));
            }),
        }
        for one in seen {
            let stands = match one {
                Ok(asked) => self.request(&asked),
                Err(error) => self.malformed(&error),
            };
            if !stands {
                return Look::Stop;
            }
        }
        self.count(Direction::Up, bytes.len());
        if self.sight.is_blind() {
            Look::Enough
        } else {
            Look::More
        }
    }

    /// Counts the server's next bytes.
    pub(crate) fn server_says(&mut self, bytes: &[u8]) -> Look {
        self.count(Direction::Down, bytes.len());
        if self.sight.is_blind() {
            Look::Enough
        } else {
            Look::More
        }
    }

    /// Adds a remark to the event of the last request.
    pub(crate) fn note(&mut self, note: &str) {
        if let Some(last) = &self.last {
            self.ledger.note(last, note);
        }
    }

    fn count(&self, direction: Direction, bytes: usize) {
        if let Some(last) = &self.last {
            last.count(direction, bytes);
            self.counted.count(direction, bytes);
        }
    }

    /// False for a request that may not go where the flow goes.
    fn request(&mut self, asked: &Asked) -> bool {
        let mut decision = asked.decide(self.context, &Via::Flow);
        decision.remarks.dialled = Some(self.dialled);
        if own_permit(&decision.judged.ruling.route).is_none() {
            self.refuse(asked, decision);
            return false;
        }
        decision.admit_at(self.context, self.dialled);
        self.last = Some(self.ledger.permit(decision.entered(asked)));
        true
    }

    fn refuse(&mut self, asked: &Asked, mut decision: Decision) {
        if !matches!(decision.judged.ruling.judgement, Judgement::Refuse(_)) {
            // It is allowed, but elsewhere, and what was let through already can't be sent there.
            decision.judged = decision.judged.refused(Refusal::because(Reason::Unticketed));
        }
        self.ledger.refuse(decision.entered(asked));
    }

    fn malformed(&mut self, error: &HeadError) -> bool {
        let detection = Detection::Malformed {
            prefix: Prefix::Http,
            what: error.what,
        };
        let judged = self.context.judge(&detection);
        let asked = Asked::plain(error.authority.clone(), None);
        let mut remarks = Remarks::of(&detection, Transport::Tcp);
        remarks.dialled = Some(self.dialled);
        let stands = own_permit(&judged.ruling.route).is_some();
        let entered = Entered {
            authority: &asked.authority,
            target_port: None,
            ruling: &judged.ruling,
            remarks,
        };
        if stands {
            self.context.admit(&judged, &detection, self.dialled, None);
            self.last = Some(self.ledger.permit(entered));
        } else {
            self.ledger.refuse(entered);
        }
        stands
    }
}

/// What passed after there was nothing more to be seen belongs to the last request. A connection without any
/// is recorded by what the job holds for its address.
impl Drop for Onlooker<'_> {
    fn drop(&mut self) {
        if self.ledger.is_empty() {
            self.request(&Asked::plain(None, None));
        }
        if let Some(last) = &self.last {
            let (flow, counted) = (self.context.traffic(), &self.counted);
            let more = |all: u64, some: u64| usize::try_from(all.saturating_sub(some)).unwrap_or(usize::MAX);
            last.count(Direction::Up, more(flow.up(), counted.up()));
            last.count(Direction::Down, more(flow.down(), counted.down()));
        }
    }
}
