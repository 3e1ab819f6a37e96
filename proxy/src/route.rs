//! From a ruling to a connection: dials what the ruling permits, resolves or confirms a name first where it
//! says so. Owns the order of tries; never judges by itself (each resolved address goes back to its
//! permit). Driven by `flow` and `http`.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tidegate_policy::DnsName;
use tidegate_policy::detection::{Ech, Hello, Sni};
use tidegate_policy::event::NameSource;
use tidegate_policy::judge::flow::{FlowRuling, Route};
use tidegate_policy::judge::permit::{ConfirmPermit, DialPermit, ResolvePermit};
use tidegate_policy::judge::query::{QueryAction, judge_query, rtype};
use tidegate_policy::verdict::{Judgement, Mode, Reason, Refusal};
use tokio::task::JoinSet;

use crate::address::UpstreamAddr;
use crate::config::Egress;
use crate::context::{FlowContext, Judged};
use crate::dial::{DialError, Greeting, Upstream, order};
use crate::early::{self, Dial, Tries};
use crate::seams::{Families, Found};

pub(crate) use crate::early::Early;

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

/// What a ruling permits to dial, after resolving what had to be resolved.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) judged: Judged,
    /// The address to try first.
    pub(crate) first: DialPermit,
    /// Those to try after it.
    pub(crate) rest: Vec<DialPermit>,
    /// The name for which these addresses are proven.
    pub(crate) proven: Option<DnsName>,
}

impl Granted {
    /// The flow's own address.
    fn own(judged: Judged, first: DialPermit, proven: Option<DnsName>) -> Self {
        let rest = Vec::new();
        Self {
            judged,
            first,
            rest,
            proven,
        }
    }
}

/// Addresses to dial, in their order.
struct Candidates {
    first: DialPermit,
    rest: Vec<DialPermit>,
    greeting: Greeting,
}

impl FlowContext {
    /// Carries a ruling out, over the early connection where that is the right one.
    pub(crate) async fn reach(
        &self,
        judged: Judged,
        early: Option<Early>,
        greeting: Greeting,
    ) -> Result<Reached, Unreached> {
        let confirmed = early.as_ref().and_then(Early::confirmed).cloned();
        let Granted {
            judged,
            first,
            rest,
            proven,
        } = self.grant(judged, confirmed).await.map_err(Unreached::Refused)?;
        let early = early.filter(|early| early.address() == first.address());
        let candidates = Candidates {
            first,
            rest,
            greeting,
        };
        match self.race(early, candidates).await {
            Ok(upstream) => Ok(Reached {
                upstream,
                judged,
                proven,
            }),
            Err(error) => Err(Unreached::Failed(judged, error)),
        }
    }

    /// Finds out what a ruling permits to dial; refused when that is nothing. `confirmed` is an exact name
    /// that was found to have the flow's own address already.
    pub(crate) async fn grant(&self, judged: Judged, confirmed: Option<DnsName>) -> Result<Granted, Judged> {
        match judged.ruling.route.clone() {
            Route::Closed => Err(judged),
            Route::Dial(first) => {
                let proven = self.ticketed(&judged.ruling);
                Ok(Granted::own(judged, first, proven))
            }
            Route::Resolve(permit) => match Box::pin(self.resolve(&judged, &permit)).await {
                Ok((first, rest)) => {
                    let proven = judged.ruling.name.clone();
                    Ok(Granted {
                        judged,
                        first,
                        rest,
                        proven,
                    })
                }
                Err(refusal) => Err(judged.refused(refusal)),
            },
            Route::Confirm { permit, otherwise } => {
                let known = confirmed.and_then(|name| Some((permit.confirm(&[self.flow.address])?, name)));
                let confirmed = match known {
                    Some(known) => Some(known),
                    None => Box::pin(self.confirm(&permit)).await,
                };
                if let Some((first, name)) = confirmed {
                    let judged = judged.confirmed(&permit, &name);
                    return Ok(Granted::own(judged, first, Some(name)));
                }
                let judged = Judged {
                    ruling: *otherwise,
                    ..judged
                };
                // In audit the flow's own address is dialled all the same.
                match own_permit(&judged.ruling.route).cloned() {
                    Some(first) => Ok(Granted::own(judged, first, None)),
                    None => Err(judged),
                }
            }
        }
    }

    /// Resolves the flow's own name and judges what comes of it.
    async fn resolve(
        &self,
        judged: &Judged,
        permit: &ResolvePermit,
    ) -> Result<(DialPermit, Vec<DialPermit>), Refusal> {
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
        permits.truncate(self.proxy.config.limits.tries.max(1));
        if permits.is_empty() {
            return Err(refused.unwrap_or_else(unresolved));
        }
        let first = permits.remove(0);
        Ok((first, permits))
    }

    /// Resolves exact names until one has the flow's own address.
    pub(crate) async fn confirm(&self, permit: &ConfirmPermit) -> Option<(DialPermit, DnsName)> {
        let families = Families {
            v4: self.flow.address.is_ipv4(),
            v6: self.flow.address.is_ipv6(),
        };
        let mut lookups = JoinSet::new();
        for query in permit.candidates() {
            let (query, lookup) = (query.clone(), Arc::clone(&self.proxy.lookup));
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
        tokio::time::timeout(self.proxy.config.timeouts.resolve, first)
            .await
            .ok()
            .flatten()
    }

    /// Before a hello with ECH is judged: the ids that its name publishes, so that a configuration that
    /// the client got elsewhere than from our DNS is known too. The query counts in the job's DNS budget;
    /// refused when that is used up.
    pub(crate) async fn learn_ech(&self, hello: &Hello) -> Result<(), Refusal> {
        let (Sni::Name(name), Ech::Outer { .. }) = (&hello.sni, hello.ech) else {
            return Ok(());
        };
        let subject = self.subject();
        let book = subject.rulebook();
        if book.mode() == Mode::Audit || book.world.ech.knows(name) {
            return Ok(());
        }
        let now = self.proxy.clock.now();
        let ruling = judge_query(&book, name, rtype::HTTPS, subject.tickets(), now);
        if let QueryAction::Resolve(permit) = ruling.action {
            let charge = |rule| self.proxy.lookup.charge(subject.id, name, rule);
            if !ruling.judgement.rule().is_none_or(charge) {
                return Err(Refusal::because(Reason::DnsBudget));
            }
            let learned = self.proxy.lookup.learn_ech(&permit, &book);
            let _ = tokio::time::timeout(self.proxy.config.timeouts.resolve, learned).await;
        }
        Ok(())
    }

    fn families(&self) -> Families {
        let v6 = self.proxy.ipv6_usable();
        match self.proxy.config.egress {
            Egress::Preserve => Families {
                v4: self.client.ip().is_ipv4(),
                v6: self.client.ip().is_ipv6() && v6,
            },
            Egress::Gateway | Egress::Addresses(_) => Families { v4: true, v6 },
        }
    }

    /// Tries addresses one after another, each a little after the one before (RFC 8305 §5); the first
    /// connection wins. `early` is the first try, where it was begun already.
    async fn race(&self, early: Option<Early>, candidates: Candidates) -> Result<Upstream, DialError> {
        let Candidates {
            first,
            rest,
            greeting,
        } = candidates;
        let first = match early.map(Early::finish) {
            Some(Ok(upstream)) => return Ok(upstream),
            Some(Err(dial)) => dial,
            None => early::dial(self, first, greeting),
        };
        if rest.is_empty() {
            return first.await;
        }
        Box::pin(self.race_all(first, rest, greeting)).await
    }

    async fn race_all(
        &self,
        first: Dial,
        rest: Vec<DialPermit>,
        greeting: Greeting,
    ) -> Result<Upstream, DialError> {
        let mut tries = Tries::new();
        tries.push(first);
        let mut failed = None;
        let mut waiting = rest.into_iter();
        loop {
            tokio::select! {
                done = tries.next() => match done {
                    Some(Ok(upstream)) => return Ok(upstream),
                    Some(Err(error)) => failed = Some(error),
                    None if waiting.len() > 0 => {}
                    None => {
                        let asked = UpstreamAddr::new(self.original.socket());
                        let lost = || DialError::new(asked, io::ErrorKind::Other.into());
                        return Err(failed.unwrap_or_else(lost));
                    }
                },
                () = tokio::time::sleep(self.proxy.config.timeouts.next_try), if waiting.len() > 0 => {}
            }
            if let Some(permit) = waiting.next() {
                tries.push(early::dial(self, permit, greeting));
            }
        }
    }
}

impl Judged {
    /// The same flow, refused after all.
    pub(crate) fn refused(self, refusal: Refusal) -> Self {
        let ruling = FlowRuling {
            judgement: Judgement::Refuse(refusal),
            route: Route::Closed,
            ..self.ruling
        };
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
