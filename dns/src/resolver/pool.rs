//! Which upstreams are asked for a name, in which order, and when the next one is.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use tidegate_policy::DnsName;
use tokio::task::JoinHandle;

use super::answer::{Answer, Rejected};
use super::config::{ResolverConfig, Timing, UpstreamSpec, UpstreamTransport};
use super::health::Standing;
use super::tls;
use super::upstream::{AskError, Upstream};
use super::{Question, ResolveError, UpstreamStatus};
use crate::clock::Clock;

type Group = Arc<[Arc<Upstream>]>;

/// All upstreams of one configuration. Immutable but for the health of its members.
pub(crate) struct Pool {
    default: Group,
    zones: HashMap<DnsName, Group>,
    timing: Timing,
    clock: Clock,
}

impl Pool {
    /// Builds the pool. An upstream that `before` has in the same spelling is taken over with its health
    /// and connection.
    pub(crate) fn new(config: &ResolverConfig, clock: &Clock, before: Option<&Self>) -> Self {
        let specs = || {
            config
                .upstreams
                .iter()
                .chain(config.forward.iter().flat_map(|(_, specs)| specs))
        };
        let tls = specs()
            .any(is_encrypted)
            .then(|| tls::client_config(&config.roots));
        // New roots or times make new upstreams: a connection must not outlive the trust it was made with.
        let kept = before.filter(|before| before.timing == config.timing && config.roots.is_empty());
        let mut known: HashMap<Arc<str>, Arc<Upstream>> = HashMap::new();
        let mut group = |specs: &[UpstreamSpec]| -> Group {
            let one = |spec: &UpstreamSpec| {
                let upstream = known.entry(Arc::clone(&spec.text)).or_insert_with(|| {
                    let old = kept
                        .and_then(|before| before.members().find(|one| one.text() == &*spec.text).cloned());
                    old.unwrap_or_else(|| {
                        Arc::new(Upstream::new(
                            spec.clone(),
                            tls.clone(),
                            config.timing,
                            clock.clone(),
                        ))
                    })
                });
                Arc::clone(upstream)
            };
            specs.iter().map(one).collect()
        };
        let default = group(&config.upstreams);
        let zones = config
            .forward
            .iter()
            .map(|(zone, specs)| (zone.clone(), group(specs)))
            .collect();
        Self {
            default,
            zones,
            timing: config.timing,
            clock: clock.clone(),
        }
    }

    /// Times and lives.
    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// Every upstream, for `status` and the never-dial set.
    pub(crate) fn status(&self) -> Vec<UpstreamStatus> {
        let mut all: Vec<UpstreamStatus> = Vec::new();
        for upstream in self.members() {
            if all.iter().all(|known| known.upstream != upstream.text()) {
                let (address, healthy) = (upstream.address(), upstream.is_healthy());
                all.push(UpstreamStatus {
                    upstream: upstream.text().to_owned(),
                    address,
                    healthy,
                });
            }
        }
        all
    }

    fn members(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.default
            .iter()
            .chain(self.zones.values().flat_map(|group| group.iter()))
    }

    /// The upstreams for a name: those of the longest zone that holds it.
    fn group(&self, name: &DnsName) -> &Group {
        let mut candidate = (!self.zones.is_empty()).then(|| name.clone());
        while let Some(zone) = candidate {
            if let Some(group) = self.zones.get(&zone) {
                return group;
            }
            candidate = zone.parent();
        }
        &self.default
    }

    /// Asks until one upstream answers: the next one at once after a failure, beside the others after a
    /// silence, all within the total bound.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answer, ResolveError> {
        let asking = self.ask_in_turn(question);
        tokio::time::timeout(self.timing.total, asking)
            .await
            .unwrap_or(Err(ResolveError::Timeout))
    }

    async fn ask_in_turn(&self, question: &Question) -> Result<Answer, ResolveError> {
        let mut waiting = self.order(question).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut failure = ResolveError::NoUpstream;
        loop {
            match waiting.next() {
                Some(upstream) => asked.push(ask(upstream, question.clone())),
                None if asked.is_empty() => return Err(failure),
                None => {}
            }
            let more = waiting.len() > 0;
            let outcome = tokio::select! {
                outcome = asked.next() => outcome,
                () = tokio::time::sleep(self.timing.hedge), if more => continue,
            };
            match outcome {
                Some(Ok(Ok(answer))) => return Ok(answer),
                Some(Ok(Err(error))) => failure = failure.or(&error),
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Healthy upstreams in the written order, then the penalised. One whose penalty is over is asked
    /// beside the others, so that its silence costs no client anything.
    fn order(&self, question: &Question) -> Vec<Arc<Upstream>> {
        let now = self.clock.now();
        let group = self.group(&question.name);
        let (mut healthy, mut penalised) = (Vec::with_capacity(group.len()), Vec::new());
        for upstream in group.iter() {
            match upstream.standing(now) {
                Standing::Healthy => healthy.push(Arc::clone(upstream)),
                Standing::Penalised => penalised.push(Arc::clone(upstream)),
                Standing::Probe => {
                    penalised.push(Arc::clone(upstream));
                    drop(ask(Arc::clone(upstream), question.clone()));
                }
            }
        }
        healthy.append(&mut penalised);
        healthy
    }
}

/// A task of its own: an upstream that another one overtook must still be seen to answer, or not.
fn ask(upstream: Arc<Upstream>, question: Question) -> JoinHandle<Result<Answer, AskError>> {
    tokio::spawn(async move { upstream.ask(&question).await })
}

fn is_encrypted(spec: &UpstreamSpec) -> bool {
    match spec.transport {
        UpstreamTransport::Udp | UpstreamTransport::Tcp => false,
        UpstreamTransport::Tls { .. } | UpstreamTransport::Https { .. } => true,
    }
}

impl ResolveError {
    /// The error to report after one more upstream failed: a code that one gave says more than silence.
    fn or(self, error: &AskError) -> Self {
        match (self, error) {
            (Self::Answered(code), _) => Self::Answered(code),
            (_, AskError::Rejected(Rejected::Code(code))) => Self::Answered(*code),
            (_, AskError::Timeout) => Self::Timeout,
            (_, AskError::Rejected(_) | AskError::Net(_) | AskError::Name) => Self::Unreachable,
        }
    }
}
