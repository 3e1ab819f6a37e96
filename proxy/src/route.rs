//! From a ruling to a connection: dials what the ruling permits, resolves or confirms a name first where it
//! says so. Owns the order of tries; never judges by itself (each resolved address goes back to its
//! permit). Driven by `flow` and `http`.

use std::sync::Arc;

use tidegate_policy::DnsName;
use tidegate_policy::detection::{Ech, Hello, Sni};
use tidegate_policy::event::NameSource;
use tidegate_policy::judge::flow::{FlowRuling, Route};
use tidegate_policy::judge::permit::{ConfirmPermit, DialPermit, ResolvePermit};
use tidegate_policy::judge::query::{QueryAction, judge_query, rtype};
use tidegate_policy::verdict::{Judgement, Reason, Refusal};
use tokio::task::JoinSet;

use crate::address::UpstreamAddr;
use crate::config::Egress;
use crate::context::{FlowContext, Judged};
use crate::dial::{DialError, Upstream, order};
use crate::seams::{Families, Found};

/// A connection to the flow's own address that was dialled before the client's first bytes came.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) upstream: Upstream,
    /// The exact name that was confirmed to have the address.
    pub(crate) confirmed: Option<DnsName>,
}

/// A permitted flow with its connection.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) upstream: Upstream,
    pub(crate) judged: Judged,
    /// The name for which the dialled address is proven.
    pub(crate) proven: Option<DnsName>,
}

/// A flow without a connection.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// Resolving or confirming led to a refusal.
    Refused(Judged),
    /// It is permitted, and nobody answered.
    Failed(Judged, DialError),
}

impl FlowContext {
    /// Carries a ruling out.
    pub(crate) async fn reach(&self, judged: Judged, early: Option<Early>) -> Result<Reached, Unreached> {
        match judged.ruling.route.clone() {
            Route::Closed => Err(Unreached::Refused(judged)),
            Route::Dial(permit) => {
                let proven = self.ticketed(&judged.ruling);
                self.own_address(judged, &permit, proven, early).await
            }
            Route::Resolve(permit) => match self.resolve(&judged, &permit).await {
                Ok(permits) => match self.race(permits).await {
                    Ok(upstream) => {
                        let proven = judged.ruling.name.clone();
                        Ok(Reached { upstream, judged, proven })
                    }
                    Err(error) => Err(Unreached::Failed(judged, error)),
                },
                Err(refusal) => Err(Unreached::Refused(judged.refused(refusal))),
            },
            Route::Confirm { permit, otherwise } => {
                let confirmed = match early.as_ref().and_then(|early| early.confirmed.clone()) {
                    Some(name) => Some((permit.confirm(&[self.flow.address]), name)),
                    None => self.confirm(&permit).await.map(|(dial, name)| (Some(dial), name)),
                };
                match (confirmed, otherwise.route.clone()) {
                    (Some((Some(dial), name)), _) => {
                        let judged = judged.confirmed(&permit, &name);
                        self.own_address(judged, &dial, Some(name), early).await
                    }
                    (_, Route::Dial(dial)) => {
                        let judged = Judged { ruling: *otherwise, ..judged };
                        self.own_address(judged, &dial, None, early).await
                    }
                    (_, Route::Closed | Route::Resolve(_) | Route::Confirm { .. }) => {
                        Err(Unreached::Refused(Judged { ruling: *otherwise, ..judged }))
                    }
                }
            }
        }
    }

    async fn own_address(
        &self,
        judged: Judged,
        permit: &DialPermit,
        proven: Option<DnsName>,
        early: Option<Early>,
    ) -> Result<Reached, Unreached> {
        if let Some(Early { upstream, .. }) = early.filter(|early| early.upstream.address.ip() == permit.address()) {
            return Ok(Reached { upstream, judged, proven });
        }
        match self.proxy.dialer.dial(permit, self.client).await {
            Ok(upstream) => Ok(Reached { upstream, judged, proven }),
            Err(error) => Err(Unreached::Failed(judged, error)),
        }
    }

    /// Resolves the flow's own name and judges what comes of it.
    async fn resolve(&self, judged: &Judged, permit: &ResolvePermit) -> Result<Vec<DialPermit>, Refusal> {
        let unresolved = || Refusal::because(Reason::ResolveFailed);
        let name = permit.query().name();
        let charge = |rule| self.proxy.lookup.charge(self.subject().id, name, rule);
        if !judged.ruling.judgement.rule().is_none_or(charge) {
            return Err(Refusal::because(Reason::DnsBudget));
        }
        let lookup = self.proxy.lookup.addresses(permit.query(), self.families());
        let found = tokio::time::timeout(self.proxy.config.timeouts.resolve, lookup).await;
        let Found { mut addresses, chain } = found.map_err(|_| unresolved())?.map_err(|_| unresolved())?;
        // The client's own choice, where the name has it, before any other.
        addresses.sort_by_key(|address| *address != self.flow.address);
        let mut refused = None;
        let mut permits = Vec::new();
        for address in order(&addresses, self.flow.address.is_ipv6(), addresses.len()) {
            match permit.dial_through(&judged.book, &chain, address) {
                Ok(permit) => permits.push(permit),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        permits.truncate(self.proxy.config.limits.tries);
        if permits.is_empty() { Err(refused.unwrap_or_else(unresolved)) } else { Ok(permits) }
    }

    /// Resolves exact names until one has the flow's own address.
    pub(crate) async fn confirm(&self, permit: &ConfirmPermit) -> Option<(DialPermit, DnsName)> {
        let families = Families { v4: self.flow.address.is_ipv4(), v6: self.flow.address.is_ipv6() };
        let mut lookups = JoinSet::new();
        for query in permit.candidates().iter().cloned() {
            let lookup = Arc::clone(&self.proxy.lookup);
            lookups.spawn(async move {
                let found = lookup.addresses(&query, families).await;
                (query.name().clone(), found)
            });
        }
        let first = async {
            while let Some(done) = lookups.join_next().await {
                if let Ok((name, Ok(found))) = done
                    && let Some(dial) = permit.confirm(&found.addresses)
                {
                    return Some((dial, name));
                }
            }
            None
        };
        tokio::time::timeout(self.proxy.config.timeouts.resolve, first).await.ok().flatten()
    }

    /// Before a hello with ECH is judged: the ids that its name publishes, so that a configuration that
    /// the client got elsewhere than from our DNS is known too.
    pub(crate) async fn learn_ech(&self, hello: &Hello) {
        let (Sni::Name(name), Ech::Outer { .. }) = (&hello.sni, hello.ech) else { return };
        let subject = self.subject();
        let book = subject.rulebook();
        if book.world.ech.knows(name) {
            return;
        }
        let now = self.proxy.clock.now();
        if let QueryAction::Resolve(permit) = judge_query(&book, name, rtype::HTTPS, subject.tickets(), now).action {
            let learned = self.proxy.lookup.learn_ech(&permit);
            let _ = tokio::time::timeout(self.proxy.config.timeouts.resolve, learned).await;
        }
    }

    fn families(&self) -> Families {
        let v6 = self.proxy.ipv6_usable();
        match self.proxy.config.egress {
            Egress::Preserve => Families { v4: self.client.ip().is_ipv4(), v6: self.client.ip().is_ipv6() && v6 },
            Egress::Gateway | Egress::Addresses(_) => Families { v4: true, v6 },
        }
    }

    /// Tries addresses one after another, each a little after the one before (RFC 8305 §5); the first
    /// connection wins.
    async fn race(&self, permits: Vec<DialPermit>) -> Result<Upstream, DialError> {
        let mut failed = DialError::unfinished(UpstreamAddr::new(self.original.socket()));
        let mut waiting = permits.into_iter();
        let mut tries: JoinSet<Result<Upstream, DialError>> = JoinSet::new();
        loop {
            if let Some(permit) = waiting.next() {
                let (proxy, client) = (Arc::clone(&self.proxy), self.client);
                tries.spawn(async move { proxy.dialer.dial(&permit, client).await });
            }
            tokio::select! {
                done = tries.join_next() => match done {
                    Some(Ok(Ok(upstream))) => return Ok(upstream),
                    Some(Ok(Err(error))) => failed = error,
                    Some(Err(lost)) => tracing::error!(%lost, "a dial was lost"),
                    None => return Err(failed),
                },
                () = tokio::time::sleep(self.proxy.config.timeouts.next_try), if waiting.len() > 0 => {}
            }
        }
    }
}

impl Judged {
    /// The same flow, refused after all.
    pub(crate) fn refused(self, refusal: Refusal) -> Self {
        let ruling = FlowRuling { judgement: Judgement::Refuse(refusal), route: Route::Closed, ..self.ruling };
        Self { ruling, ..self }
    }

    /// The same flow, its address confirmed to be `name`'s.
    pub(crate) fn confirmed(self, permit: &ConfirmPermit, name: &DnsName) -> Self {
        let ruling = FlowRuling {
            judgement: Judgement::Permit(permit.rule_of(name).cloned()),
            name: Some(name.clone()),
            name_source: NameSource::Query,
            ..self.ruling
        };
        Self { ruling, ..self }
    }
}

/// The permit for the flow's own address that a ruling of audit mode always has, unless it is refused in
/// audit too.
pub(crate) fn own_permit(route: &Route) -> Option<&DialPermit> {
    match route {
        Route::Dial(permit) => Some(permit),
        Route::Confirm { otherwise, .. } => own_permit(&otherwise.route),
        Route::Closed | Route::Resolve(_) => None,
    }
}
