//! The server for one judged request: a kept connection that the ruling still permits, else one that is
//! dialled now. Owns that choice; never judges (the ruling's permit is asked for each address). Driven by
//! `session`.

use tidegate_policy::detection::{Authority, Detection, HttpHost};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::judge::flow::Route;

use super::answer::Failure;
use super::decide::{Decision, Via};
use super::ledger::Entered;
use super::pool::{Purpose, Server};
use super::session::{Over, Session};
use crate::context::{Judged, Remarks};
use crate::dial::Greeting;
use crate::http1::head::{RequestFraming, RequestHead};
use crate::route::Unreached;

/// Why there is no server for a request.
pub(super) enum Unserved {
    /// It is refused; the decision says by what.
    Refused,
    /// It is permitted, and its server can't be reached.
    Failed(Failure),
    /// The tunnel that it came through is closed.
    Gone,
}

impl Session<'_> {
    /// A connection for a request. The decision is completed by what resolving led to.
    pub(super) async fn server(&mut self, decision: &mut Decision) -> Result<Server, Unserved> {
        if let Some(mut kept) = self.kept(decision) {
            kept.proven = decision.proven(self.context);
            return Ok(kept);
        }
        self.dial(decision).await
    }

    fn kept(&mut self, decision: &Decision) -> Option<Server> {
        let book = &decision.judged.book;
        match &decision.judged.ruling.route {
            Route::Dial(permit) => self
                .pool
                .take(&decision.purpose, |address| address == permit.address()),
            Route::Resolve(permit) => self
                .pool
                .take(&decision.purpose, |address| permit.dial(book, address).is_ok()),
            Route::Confirm { .. } | Route::Closed => None,
        }
    }

    async fn dial(&mut self, decision: &mut Decision) -> Result<Server, Unserved> {
        if matches!(decision.judged.ruling.route, Route::Closed) {
            return Err(Unserved::Refused);
        }
        match self.via {
            Via::Flow => {}
            Via::Tunnel(_) => return Err(Unserved::Gone),
        }
        match self
            .context
            .reach(decision.judged.clone(), self.early.take(), Greeting::Held)
            .await
        {
            Ok(reached) => {
                decision.judged = reached.judged.clone();
                Ok(Server::new(reached, decision.purpose.clone()))
            }
            Err(unreached) => Err(decision.unreached(unreached)),
        }
    }

    /// What is permitted at its address whatever it says: goes on as bytes, with everything that is held.
    pub(super) async fn as_bytes(&mut self, judged: Judged, detection: &Detection) -> Over {
        let mut remarks = Remarks::of(detection, Transport::Tcp);
        if let Route::Dial(permit) = &judged.ruling.route
            && let Some(kept) = self.pool.take_at(permit.address())
        {
            return self.bytes_to(&judged, detection, remarks, kept);
        }
        match self
            .context
            .reach(judged, self.early.take(), Greeting::None)
            .await
        {
            Ok(reached) => {
                let judged = reached.judged.clone();
                let over = self.bytes_to(&judged, detection, remarks, Server::new(reached, Purpose::Proxy));
                self.context.stands().await;
                over
            }
            Err(Unreached::Refused(judged)) => {
                self.context.refuse(&judged.ruling, remarks);
                Over::Done
            }
            Err(Unreached::Failed(judged, error)) => {
                remarks.dialled = Some(error.address);
                let note = format!("dial failed: {}", error.cause.as_str());
                drop(self.context.permit(&judged.ruling, remarks.noting(note)));
                Over::Done
            }
        }
    }

    fn bytes_to(
        &mut self,
        judged: &Judged,
        detection: &Detection,
        mut remarks: Remarks,
        server: Server,
    ) -> Over {
        let dialled = server.upstream.address;
        remarks.dialled = Some(dialled);
        let nobody = Authority {
            host: HttpHost::Absent,
            port: None,
        };
        let ruling = &judged.ruling;
        let event = self.ledger.permit(Entered {
            authority: &nobody,
            target_port: None,
            ruling,
            remarks,
        });
        self.context
            .admit(judged, detection, dialled, server.proven.clone());
        Over::Opaque(Box::new(server), event)
    }

    /// A fresh connection for a request whose kept one had closed, where asking twice is asking once.
    pub(super) async fn again(&mut self, head: &RequestHead, decision: &Decision) -> Option<Server> {
        let safe = [&b"GET"[..], b"HEAD", b"OPTIONS", b"TRACE"].contains(&head.method());
        if !safe || head.framing != RequestFraming::Empty || matches!(self.via, Via::Tunnel(_)) {
            return None;
        }
        let reached = self
            .context
            .reach(decision.judged.clone(), None, Greeting::Held)
            .await
            .ok()?;
        Some(Server::new(reached, decision.purpose.clone()))
    }
}
