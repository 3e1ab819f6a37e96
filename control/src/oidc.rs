//! Keeps the issuers' public keys current.
//!
//! Owns the discovery of an issuer (OpenID Connect Discovery 1.0 §4), the fetching of its key set, and the memory of the
//! last good one, which stays when a fetch fails. It never verifies a token ([`tidegate_control_wire::oidc`] does, at the
//! gateways too) and never stores: each changed set goes into a channel, from which the store takes it.

pub(crate) mod discovery;

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use jiff::Timestamp;
use reqwest::Url;
use tidegate_control_wire::oidc::{Issuer, JwkSet};
use tidegate_policy::Moment;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::OidcConfig;
use crate::fetch::{Fetcher, Schedule, allowed_url, chance, in_full};

pub use crate::fetch::{FetchError, Pace, SetupError};
pub use discovery::DiscoveryError;

/// Between two looks at an issuer's keys. Forges publish a key a day or more before they use it.
pub const REFRESH: Duration = Duration::from_hours(1);

/// What is known of an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerState {
    /// The issuer.
    pub issuer: String,
    /// Keys in the set that is in use; 0 before there is one.
    pub keys: usize,
    /// When its keys were last fetched.
    pub fetched: Option<Timestamp>,
    /// Why the last attempt failed; `None` after a good one.
    pub error: Option<String>,
    /// Attempts so far, good ones too.
    pub attempts: u64,
}

/// An issuer with all that is needed to ask it.
struct Watched {
    config: OidcConfig,
    base: Url,
    fetcher: Fetcher,
    keys: Option<JwkSet>,
    /// The keys in use reached nobody yet.
    fresh: bool,
    slot: Arc<Slot>,
}

/// What the keeper and its handles share of one issuer.
struct Slot {
    hurry: Notify,
    state: watch::Sender<IssuerState>,
}

/// Fetches the keys of all configured issuers until it is told to stop.
pub struct Keeper {
    watched: Vec<Watched>,
    pace: Pace,
    publish: mpsc::Sender<Issuer>,
}

/// Asks the keeper, from wherever a token came with an unknown key.
#[derive(Clone)]
pub struct Handle {
    slots: Arc<[Arc<Slot>]>,
}

impl Keeper {
    /// Checks the configuration. `known` is what the store has from before: it stays in use until an issuer answers, and
    /// is not published again unless its audience or owners changed. Changed sets go into `publish`; while that is full, their
    /// issuer is not asked again.
    pub fn new(
        configs: Vec<OidcConfig>,
        known: Vec<Issuer>,
        pace: Pace,
        publish: mpsc::Sender<Issuer>,
    ) -> Result<Self, SetupError> {
        let watched = configs
            .into_iter()
            .map(|config| {
                let known = known.iter().find(|one| one.issuer == config.issuer);
                Watched::new(config, known)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            watched,
            pace,
            publish,
        })
    }

    /// A handle, good while the keeper runs.
    pub fn handle(&self) -> Handle {
        Handle {
            slots: self.watched.iter().map(|one| one.slot.clone()).collect(),
        }
    }

    /// Runs until `stop` is cancelled or nobody takes the sets any more.
    pub async fn run(self, stop: CancellationToken) {
        let mut issuers = JoinSet::new();
        for one in self.watched {
            issuers.spawn(one.keep(self.pace, self.publish.clone()));
        }
        let all = async { while issuers.join_next().await.is_some() {} };
        tokio::select! {
            () = stop.cancelled() => {}
            () = all => {}
        }
    }
}

impl Handle {
    /// A token of this issuer named a key that is not known: its keys are fetched again, at once unless that happened
    /// within the last minute. False when the issuer is not configured.
    pub fn unknown_key(&self, issuer: &str) -> bool {
        let slot = self.slot(issuer);
        slot.inspect(|slot| slot.hurry.notify_one()).is_some()
    }

    /// What is known of each issuer, in the order of the configuration.
    pub fn states(&self) -> Vec<IssuerState> {
        self.slots
            .iter()
            .map(|slot| slot.state.borrow().clone())
            .collect()
    }

    /// Follows one issuer; `None` when it is not configured.
    pub fn watch(&self, issuer: &str) -> Option<watch::Receiver<IssuerState>> {
        self.slot(issuer).map(|slot| slot.state.subscribe())
    }

    fn slot(&self, issuer: &str) -> Option<&Arc<Slot>> {
        self.slots
            .iter()
            .find(|slot| slot.state.borrow().issuer == issuer)
    }
}

fn owners(config: &OidcConfig) -> Vec<CompactString> {
    config.owners.iter().map(CompactString::from).collect()
}

impl Watched {
    fn new(config: OidcConfig, known: Option<&Issuer>) -> Result<Self, SetupError> {
        let base = allowed_url(&config.issuer)?;
        if config.owners.is_empty() {
            tracing::warn!(
                issuer = config.issuer,
                "whoever this issuer signs for may register jobs; where others use it too, name yours in `owners`"
            );
        }
        let fetcher = Fetcher::new(config.ca.as_deref())?;
        let keys = known.map(|one| one.jwks.clone());
        let state = IssuerState {
            issuer: config.issuer.clone(),
            keys: keys.as_ref().map_or(0, |set| set.keys.len()),
            fetched: None,
            error: None,
            attempts: 0,
        };
        Ok(Self {
            fresh: known.is_some_and(|one| one.audience != config.audience || one.owners != owners(&config)),
            config,
            base,
            fetcher,
            keys,
            slot: Arc::new(Slot {
                hurry: Notify::new(),
                state: watch::Sender::new(state),
            }),
        })
    }

    async fn keep(mut self, pace: Pace, publish: mpsc::Sender<Issuer>) {
        let origin = Instant::now();
        let now = || Moment::from_millis(origin.elapsed().as_millis() as u64);
        let mut schedule = Schedule::new(pace, now());
        loop {
            if self.publish(&publish).await.is_err() {
                return;
            }
            let due = origin + Duration::from_millis(schedule.due().as_millis());
            tokio::select! {
                () = sleep_until(due) => {
                    if self.refresh().await {
                        schedule.succeeded(now(), chance());
                    } else {
                        schedule.failed(now(), chance());
                    }
                }
                () = self.slot.hurry.notified() => schedule.hurry(now()),
            }
        }
    }

    /// Hands over the keys in use, once.
    async fn publish(
        &mut self,
        publish: &mpsc::Sender<Issuer>,
    ) -> Result<(), mpsc::error::SendError<Issuer>> {
        match &self.keys {
            Some(jwks) if self.fresh => {
                let issuer = Issuer {
                    issuer: self.config.issuer.clone(),
                    audience: self.config.audience.clone(),
                    owners: owners(&self.config),
                    jwks: jwks.clone(),
                };
                publish.send(issuer).await?;
                self.fresh = false;
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the issuer; true when it answered well.
    async fn refresh(&mut self) -> bool {
        let outcome = discovery::fetch_keys(&self.fetcher, &self.config.issuer, &self.base).await;
        let error = match outcome {
            Ok(keys) => {
                if self.keys.as_ref() != Some(&keys) {
                    tracing::info!(
                        issuer = self.config.issuer,
                        keys = keys.keys.len(),
                        "the issuer's keys changed"
                    );
                    self.keys = Some(keys);
                    self.fresh = true;
                }
                None
            }
            Err(error) => {
                let error = in_full(&error);
                tracing::warn!(
                    issuer = self.config.issuer,
                    error,
                    "the issuer's keys can't be fetched"
                );
                Some(error)
            }
        };
        let good = error.is_none();
        self.slot.state.send_modify(|state| {
            state.attempts += 1;
            state.keys = self.keys.as_ref().map_or(0, |set| set.keys.len());
            state.error = error;
            if good {
                state.fetched = Some(Timestamp::now());
            }
        });
        good
    }
}

#[cfg(test)]
mod tests;
