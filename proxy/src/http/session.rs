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
        let server = match self.server(&mut decision).await {
            Ok(server) => server,
            Err(Unserved::Refused) => return self.refuse(head, &asked, &decision).await,
            Err(Unserved::Failed(failure)) => {
                self.ledger.permit(decision.entered(&asked));
                return self.fail(head, &failure).await;
            }
            Err(Unserved::Gone) => return self.close().await,
        };
        decision.remarks.dialled = Some(server.upstream.address);
        let event = self.ledger.permit(decision.entered(&asked));
        let permitted = Permitted {
            head,
            decision,
            tally: Tally::new(self.context, event),
        };
        self.exchange(&permitted, server).await
    }

    async fn exchange(&mut self, permitted: &Permitted<'_>, mut server: Server) -> Next {
        loop {
            permitted.decision.admit(self.context, &server);
            self.context.stands().await;
            let exchange = Exchange {
                client: self.client,
                inlet: &mut self.inlet,
                server: &mut server,
                head: permitted.head,
                tally: &permitted.tally,
            };
            let outcome = exchange.run().await;
            if outcome != Outcome::Silent || !server.used {
                return self.finish(permitted, server, outcome).await;
            }
            // It closed while the request was on its way; where asking twice is asking once, a fresh
            // connection is asked (RFC 9110 §9.2.2), else the client sees what happened.
            match self.again(permitted.head, &permitted.decision).await {
                Some(fresh) => server = fresh,
                None => return self.end(permitted, "the server closed before it answered").await,
            }
        }
    }

    async fn finish(&mut self, permitted: &Permitted<'_>, server: Server, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Done { lasting: true } => {
                self.pool.put(Server { used: true, ..server });
                return Next::Request;
            }
            Outcome::Done { lasting: false } => server.upstream.leg.orderly(),
            Outcome::Tunnel => return Next::Over(permitted.tunnel(server)),
            Outcome::Early
            | Outcome::Cut
            | Outcome::Silent
            | Outcome::Bad(_)
            | Outcome::BadBody(_)
            | Outcome::Broken => {}
        }
        // Before any words to the client: a request that was cut off must not wait to look so.
        drop(server);
        match outcome {
            Outcome::Done { .. } | Outcome::Early | Outcome::Tunnel => self.close().await,
            Outcome::Cut => self.end(permitted, "the server closed within its response").await,
            Outcome::Silent => {
                self.unusable(permitted, "it closed the connection without one")
                    .await
            }
            Outcome::Bad(what) => self.unusable(permitted, what).await,
            Outcome::BadBody(what) => {
                self.ledger.note(permitted.tally.event(), what);
                self.fail(permitted.head, &Failure::body(what)).await
            }
            Outcome::Broken => {
                self.ledger.note(permitted.tally.event(), "reset");
                Next::Over(Over::Done)
            }
        }
    }

    /// Ends the connection after an answer that is missing or not whole.
    async fn end(&mut self, permitted: &Permitted<'_>, why: &str) -> Next {
        self.ledger.note(permitted.tally.event(), why);
        self.close().await
    }

    async fn unusable(&mut self, permitted: &Permitted<'_>, what: &str) -> Next {
        let note = format!("no usable answer: {what}");
        self.ledger.note(permitted.tally.event(), &note);
        self.fail(permitted.head, &Failure::answer(what)).await
    }

    async fn fail(&self, head: &RequestHead, failure: &Failure) -> Next {
        self.say_last(&failure.page(head)).await
    }

    /// Ends the connection in order: what the client still sends must not reset what it was told.
    pub(super) async fn close(&self) -> Next {
        self.say_last(&[]).await
    }

    /// The same behind these words.
    pub(super) async fn say_last(&self, words: &[u8]) -> Next {
        let patience = self.context.proxy.config.timeouts.farewell;
        self.client.farewell(words, patience).await;
        Next::Over(Over::Done)
    }
}

/// A request in work.
struct Permitted<'a> {
    head: &'a RequestHead,
    decision: Decision,
    tally: Tally<'a>,
}

impl Permitted<'_> {
    /// What the connection is from here on.
    fn tunnel(&self, server: Server) -> Over {
        let server = Box::new(server);
        match &self.decision.target {
            Some(target) if self.head.target_form == TargetForm::Authority => {
                Over::Tunnel(server, target.clone())
            }
            Some(_) | None => Over::Opaque(server, Arc::clone(self.tally.event())),
        }
    }
}
