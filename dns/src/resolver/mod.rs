//! The resolver: cache, coalescing, upstreams. Shared by the DNS fronts and by `proxy`.
//!
//! Owns what upstreams said, unfiltered; never decides what a job may see of it (that is `answer`'s and
//! policy's), and never asks an upstream without a [`QueryPermit`].

pub mod answer;
mod cache;
pub mod config;
mod flight;
mod health;
mod pool;
mod tls;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Gauge, gauge};
use thiserror::Error;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::judge::query::rtype;
use tidegate_policy::{DnsName, Moment};

use self::answer::Answer;
pub use self::cache::DEFAULT_CACHE_BYTES;
use self::cache::{AnswerCache, Held};
pub use self::config::{ResolverConfig, Timing, UpstreamSpec, UpstreamSyntaxError, UpstreamTransport};
use self::flight::{Flights, Joined};
use self::pool::Pool;
pub use self::tls::client_config;
use crate::clock::Clock;

/// What is asked of the resolver besides the name, which the permit carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Record type.
    pub rtype: u16,
    /// DO.
    pub dnssec_ok: bool,
    /// CD.
    pub checking_disabled: bool,
}

impl Asked {
    /// A plain question for one type.
    pub const fn plain(rtype: u16) -> Self {
        Self {
            rtype,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }
}

/// The key of the cache and of questions in flight; the class is always IN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) name: DnsName,
    pub(crate) rtype: u16,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

impl Question {
    /// What a permit allows to ask.
    pub(crate) fn new(permit: &QueryPermit, asked: Asked) -> Self {
        let Asked {
            rtype,
            dnssec_ok,
            checking_disabled,
        } = asked;
        Self {
            name: permit.name().clone(),
            rtype,
            dnssec_ok,
            checking_disabled,
        }
    }
}

/// Why nothing could be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// No upstream is configured for the name.
    #[error("no upstream is configured for the name")]
    NoUpstream,
    /// No upstream answered in time.
    #[error("no upstream answered in time")]
    Timeout,
    /// Every upstream's transport failed.
    #[error("no upstream can be reached")]
    Unreachable,
    /// An upstream answered with this code, and none did better.
    #[error("the upstream answered with code {0}")]
    Answered(u16),
    /// The bound on questions in flight, or on those who wait for one, was reached.
    #[error("too many questions in flight")]
    Busy,
}

/// An answer and whether its TTL is over.
#[derive(Clone, Debug)]
pub struct Found {
    /// The answer.
    pub answer: Arc<Answer>,
    /// Past its TTL: served because upstreams are slow or failing (RFC 8767).
    pub stale: bool,
}

/// Addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Every address found, unfiltered: the caller judges each before it dials.
    pub addresses: Vec<IpAddr>,
    /// The aliases that led there.
    pub chain: Vec<DnsName>,
    /// The smallest TTL that is left.
    pub ttl: Duration,
}

/// An upstream as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// As written in the configuration.
    pub upstream: String,
    /// Where it listens; belongs to the never-dial set.
    pub address: SocketAddr,
    /// False while it is penalised for failures.
    pub healthy: bool,
}

/// The resolver. Shared by all threads.
pub struct Resolver {
    cache: AnswerCache,
    flights: Flights,
    pool: ArcSwap<Pool>,
    clock: Clock,
    entries: Gauge,
    bytes: Gauge,
}

impl Resolver {
    /// A resolver with an empty cache of at most `cache_bytes` (see [`DEFAULT_CACHE_BYTES`]).
    pub fn new(config: &ResolverConfig, cache_bytes: usize, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            cache: AnswerCache::new(cache_bytes),
            flights: Flights::default(),
            pool: ArcSwap::from_pointee(Pool::new(config, &clock, None)),
            clock,
            entries: gauge!("tidegate_dns_cache_entries"),
            bytes: gauge!("tidegate_dns_cache_bytes"),
        })
    }

    /// Takes other upstreams, zones and times; the cache and questions in flight stay.
    pub fn reconfigure(&self, config: &ResolverConfig) {
        let before = self.pool.load();
        self.pool
            .store(Arc::new(Pool::new(config, &self.clock, Some(&before))));
    }

    /// Every upstream with its health.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.pool.load().status()
    }

    /// Answers in the cache.
    pub fn cache_entries(&self) -> usize {
        self.cache.len()
    }

    /// Bytes that they take; never more than the bound.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// A fresh answer from the cache, without waiting.
    pub fn cached(&self, permit: &QueryPermit, asked: Asked) -> Option<Found> {
        let question = Question::new(permit, asked);
        match self.cache.get(&question, Duration::ZERO, self.clock.now()) {
            Held::Fresh(answer) => Some(Found { answer, stale: false }),
            Held::Stale(_) | Held::Nothing => None,
        }
    }

    /// Addresses that the cache holds for a name, fresh or not.
    pub(crate) fn known_addresses(&self, name: &DnsName) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for rtype in [rtype::A, rtype::AAAA] {
            for dnssec_ok in [false, true] {
                let question = Question {
                    name: name.clone(),
                    rtype,
                    dnssec_ok,
                    checking_disabled: false,
                };
                match self.cache.get(&question, Duration::MAX, self.clock.now()) {
                    Held::Fresh(answer) | Held::Stale(answer) => {
                        found.extend(answer.addresses.iter().map(|(_, address)| *address));
                    }
                    Held::Nothing => {}
                }
            }
        }
        found
    }

    /// Resolves a permitted name: from the cache, from a question already in flight, or by asking.
    pub async fn lookup(self: &Arc<Self>, permit: &QueryPermit, asked: Asked) -> Result<Found, ResolveError> {
        let question = Question::new(permit, asked);
        let (timing, now) = (self.pool.load().timing(), self.clock.now());
        let stale = match self.cache.get(&question, timing.max_stale, now) {
            Held::Fresh(answer) => return Ok(Found { answer, stale: false }),
            Held::Stale(answer) => Some(Found { answer, stale: true }),
            Held::Nothing => None,
        };
        if let Some(error) = self.cache.failure(&question, now) {
            return stale.ok_or(error);
        }
        let outcome = self.fly(&question);
        match stale {
            None => outcome.await.map(|answer| Found { answer, stale: false }),
            Some(stale) => match tokio::time::timeout(timing.stale_after, outcome).await {
                Ok(Ok(answer)) => Ok(Found { answer, stale: false }),
                // Too slow or failed. The flight goes on and refreshes the cache.
                Ok(Err(_)) | Err(_) => Ok(stale),
            },
        }
    }

    /// Joins the question's flight; starts it when there is none.
    async fn fly(self: &Arc<Self>, question: &Question) -> Result<Arc<Answer>, ResolveError> {
        match self.flights.join(question)? {
            Joined::Waiter(waiter) => waiter.landed().await,
            Joined::Leader(landing, waiter) => {
                // A task of its own: the flight outlives the client that began it.
                let (resolver, question) = (Arc::clone(self), question.clone());
                tokio::spawn(async move {
                    let pool = resolver.pool.load_full();
                    let outcome = pool.ask(&question).await.map(Arc::new);
                    resolver.land(&question, &outcome, pool.timing());
                    landing.land(&resolver.flights, &question, outcome);
                });
                waiter.landed().await
            }
        }
    }

    fn land(&self, question: &Question, outcome: &Result<Arc<Answer>, ResolveError>, timing: Timing) {
        match outcome {
            Ok(answer) => self.cache.put(question, answer),
            Err(error) => self
                .cache
                .put_failure(question, *error, self.clock.now().plus(timing.failure)),
        }
        self.entries.set(self.cache.len() as f64);
        self.bytes.set(self.cache.bytes() as f64);
    }

    /// Resolves a permitted name to its addresses, both families at once. Fails only when every family
    /// that is wanted fails.
    pub async fn addresses(
        self: &Arc<Self>,
        permit: &QueryPermit,
        want_v4: bool,
        want_v6: bool,
    ) -> Result<Addresses, ResolveError> {
        let family = |wanted: bool, rtype| async move {
            if wanted {
                Some(self.lookup(permit, Asked::plain(rtype)).await)
            } else {
                None
            }
        };
        let (v4, v6) = futures_util::join!(family(want_v4, rtype::A), family(want_v6, rtype::AAAA));
        let now: Moment = self.clock.now();
        let mut all = Addresses {
            addresses: Vec::new(),
            chain: Vec::new(),
            ttl: Duration::MAX,
        };
        let (mut found, mut failure) = (false, ResolveError::NoUpstream);
        for outcome in [v4, v6].into_iter().flatten() {
            match outcome {
                Ok(Found { answer, .. }) => {
                    found = true;
                    all.addresses
                        .extend(answer.addresses.iter().map(|(_, address)| *address));
                    let new = answer
                        .aliases
                        .iter()
                        .filter(|name| !all.chain.contains(name))
                        .cloned();
                    let new: Vec<DnsName> = new.collect();
                    all.chain.extend(new);
                    all.ttl = all.ttl.min(answer.ttl_left(now));
                }
                Err(error) => failure = error,
            }
        }
        if found { Ok(all) } else { Err(failure) }
    }
}
