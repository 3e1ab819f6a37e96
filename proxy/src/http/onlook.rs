//! Cleartext HTTP that is let through and looked at: every request is judged and recorded, none is touched.
//! Owns the events of such a connection; never holds back a byte, unless a request is refused in audit too.
//! Driven by `flow::observe`.

use std::sync::Arc;

use tidegate_policy::detection::{Detection, Prefix};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::verdict::{Judgement, Reason, Refusal};

use super::decide::{Asked, Decision, Via};
use super::ledger::{Entered, Ledger};
use super::observe::{RequestObserver, Seen};
use crate::address::UpstreamAddr;
use crate::context::{FlowContext, Remarks};
use crate::http1::head::HeadError;
use crate::relay::{Direction, Look, Traffic};
use crate::route::own_permit;

/// Looks at a connection whose first bytes are a request.
pub(crate) struct Onlooker<'a> {
    context: &'a FlowContext,
    dialled: UpstreamAddr,
    observer: RequestObserver,
    ledger: Ledger<'a>,
    /// The event of the last request, and the flow's bytes that some event counts already.
    last: Option<Arc<Traffic>>,
    counted: Traffic,
}

impl<'a> Onlooker<'a> {
    /// Looks at a flow that is relayed to this address.
    pub(crate) fn new(context: &'a FlowContext, dialled: UpstreamAddr) -> Self {
        let (observer, ledger) = (RequestObserver::new(), Ledger::new(context));
        Self {
            context,
            dialled,
            observer,
            ledger,
            last: None,
            counted: Traffic::default(),
        }
    }

    /// Looks at the client's next bytes, from its first ones on.
    pub(crate) fn client_says(&mut self, bytes: &[u8]) -> Look {
        let mut all = Vec::new();
        self.observer.push(bytes, |seen| all.push(seen));
        for seen in all {
            let stands = match seen {
                Seen::Request(head) => self.request(&Asked::of(&head)),
                Seen::Malformed(error) => self.malformed(&error),
            };
            if !stands {
                return Look::Stop;
            }
        }
        self.count(Direction::Up, bytes.len());
        if self.observer.is_blind() {
            Look::Enough
        } else {
            Look::More
        }
    }

    /// Counts the server's next bytes.
    pub(crate) fn server_says(&mut self, bytes: &[u8]) -> Look {
        self.count(Direction::Down, bytes.len());
        if self.observer.is_blind() {
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

/// What passed after there was nothing more to be seen belongs to the last request.
impl Drop for Onlooker<'_> {
    fn drop(&mut self) {
        if let Some(last) = &self.last {
            let (flow, counted) = (self.context.traffic(), &self.counted);
            let more = |all: u64, some: u64| usize::try_from(all.saturating_sub(some)).unwrap_or(usize::MAX);
            last.count(Direction::Up, more(flow.up(), counted.up()));
            last.count(Direction::Down, more(flow.down(), counted.down()));
        }
    }
}
