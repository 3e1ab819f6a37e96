//! A connection that speaks HTTP/1: each request is judged by the policy of its moment, sent to its own
//! server, and answered before the next one is looked at. Owns the order of these steps and what a refused
//! or failed request does to the connection; never parses and never moves bodies. Driven by
//! [`super::serve`].

use std::sync::Arc;

use tidegate_policy::judge::flow::ProxyTarget;

use super::answer::Failure;
use super::arrival::{self, Arrival};
use super::decide::{Asked, Decision, Via};
use super::exchange::{Exchange, Outcome};
use super::inlet::Inlet;
use super::ledger::Ledger;
use super::pool::{Pool, Server};
use super::servers::Unserved;
use super::tally::Tally;
use crate::context::FlowContext;
use crate::http1::head::{RequestHead, TargetForm};
use crate::leg::Leg;
use crate::relay::Traffic;
use crate::route::Early;

/// How a session ended.
pub(super) enum Over {
    /// Nothing more is to be done; what was to be closed in order is.
    Done,
    /// The connection is no HTTP from here on; it goes on between the client and this server.
    Opaque(Box<Server>, Arc<Traffic>),
    /// A forward proxy has opened a tunnel to this target.
    Tunnel(Box<Server>, ProxyTarget),
}

/// What follows a request.
pub(super) enum Next {
    Request,
    Over(Over),
}

/// One connection of a client.
pub(super) struct Session<'a> {
    pub(super) context: &'a FlowContext,
    pub(super) client: &'a Leg,
    pub(super) inlet: Inlet,
    pub(super) via: Via,
    pub(super) pool: Pool,
    pub(super) ledger: Ledger<'a>,
    pub(super) early: Option<Early>,
}

impl Session<'_> {
    /// Serves requests until one ends the connection or makes something else of it.
    pub(super) async fn run(&mut self, first: Option<Box<RequestHead>>) -> Over {
        let mut waiting = first;
        loop {
            let arrival = if let Some(head) = waiting.take() {
                Arrival::Request(head)
            } else {
                self.context.rest();
                arrival::next(self.context, self.client, &mut self.inlet, &mut self.pool).await
            };
            let head = match arrival {
                Arrival::Request(head) => head,
                Arrival::Bad(error) => return self.malformed(&error).await,
                Arrival::Late => return self.late().await,
                Arrival::NoRoom => return self.no_room().await,
                Arrival::Ended => {
                    self.client.orderly();
                    return Over::Done;
                }
                Arrival::Broken => return Over::Done,
            };
            match self.serve(&head).await {
                Next::Request => {}
                Next::Over(over) => return over,
            }
        }
    }

    async fn serve(&mut self, head: &RequestHead) -> Next {
        let asked = Asked::of(head);
        let mut decision = asked.decide(self.context, &self.via);
        let mut server = match self.server(&mut decision).await {
            Ok(server) => server,
            Err(Unserved::Refused) => return self.refuse(head, &asked, &decision).await,
            Err(Unserved::Failed(failure)) => {
                self.permit(&asked, &decision);
                return self.fail(head, &failure).await;
            }
            Err(Unserved::Gone) => return self.close().await,
        };
        decision.remarks.dialled = Some(server.upstream.address);
        let tally = Tally::new(self.context, self.permit(&asked, &decision));
        loop {
            decision.admit(self.context, &server);
            let outcome = Exchange {
                client: self.client,
                inlet: &mut self.inlet,
                server: &mut server,
                head,
                tally: &tally,
            }
            .run()
            .await;
            if outcome == Outcome::Silent && server.used {
                // It closed while the request was on its way; where asking twice is asking once, a fresh
                // connection is asked (RFC 9110 §9.2.2), else the client sees what happened.
                if let Some(fresh) = self.again(head, &decision).await {
                    server = fresh;
                    continue;
                }
                self.ledger
                    .note(tally.event(), "the server closed before it answered");
                return self.close().await;
            }
            return self.finish(head, &decision, server, outcome, &tally).await;
        }
    }

    /// Writes a permitted request into its event.
    fn permit(&mut self, asked: &Asked, decision: &Decision) -> Arc<Traffic> {
        self.ledger.permit(decision.entered(asked))
    }

    async fn finish(
        &mut self,
        head: &RequestHead,
        decision: &Decision,
        server: Server,
        outcome: Outcome,
        tally: &Tally<'_>,
    ) -> Next {
        match outcome {
            Outcome::Done { lasting: true } => {
                self.pool.put(Server { used: true, ..server });
                Next::Request
            }
            Outcome::Done { lasting: false } => {
                server.upstream.leg.orderly();
                drop(server);
                self.close().await
            }
            Outcome::Early => {
                drop(server);
                self.close().await
            }
            Outcome::Cut => {
                self.ledger
                    .note(tally.event(), "the server closed within its response");
                drop(server);
                self.close().await
            }
            Outcome::Tunnel => {
                let server = Box::new(server);
                Next::Over(match &decision.target {
                    Some(target) if head.target_form == TargetForm::Authority => {
                        Over::Tunnel(server, target.clone())
                    }
                    Some(_) | None => Over::Opaque(server, Arc::clone(tally.event())),
                })
            }
            Outcome::Silent => {
                self.unusable(head, tally, "it closed the connection without one")
                    .await
            }
            Outcome::Bad(what) => self.unusable(head, tally, what).await,
            Outcome::BadBody(what) => {
                self.ledger.note(tally.event(), what);
                self.fail(head, &Failure::body(what)).await
            }
            Outcome::Broken => {
                self.ledger.note(tally.event(), "reset");
                Next::Over(Over::Done)
            }
        }
    }

    async fn unusable(&mut self, head: &RequestHead, tally: &Tally<'_>, what: &str) -> Next {
        self.ledger
            .note(tally.event(), &format!("no usable answer: {what}"));
        self.fail(head, &Failure::answer(what)).await
    }

    async fn fail(&self, head: &RequestHead, failure: &Failure) -> Next {
        self.client
            .farewell(&failure.page(head), self.context.proxy.config.timeouts.farewell)
            .await;
        Next::Over(Over::Done)
    }

    /// Ends the connection in order: what the client still sends must not reset what it was told.
    pub(super) async fn close(&self) -> Next {
        self.client
            .farewell(&[], self.context.proxy.config.timeouts.farewell)
            .await;
        Next::Over(Over::Done)
    }
}
