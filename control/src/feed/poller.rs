//! Asks for the feed, again and again.
//!
//! Owns the requests (deltas, entity tags, the signature beside the document), and the serial up to which the store has
//! the feed. It never decides what a document means ([`super::document`]) and never stores.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::HeaderValue;
use thiserror::Error;
use tidegate_policy::Moment;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::document::{DocumentError, Judged, judge};
use super::{FeedUpdate, MAX_DOCUMENT, PublicKey, Unread};
use crate::config::FeedConfig;
use crate::fetch::{
    Bounds, FetchError, Fetched, Fetcher, Pace, Schedule, SetupError, allowed_url, chance, in_full,
};

/// The document: minutes, for a slow line and 64 MiB.
const DOCUMENT: Bounds = Bounds {
    bytes: MAX_DOCUMENT,
    time: Duration::from_mins(5),
};

/// The signature: 88 characters.
const SIGNATURE: Bounds = Bounds {
    bytes: 1024,
    time: Duration::from_secs(10),
};

/// Document and signature are two files. When one is replaced between the two requests they don't fit: so often are
/// they fetched again before that is an error.
const ATTEMPTS: u32 = 3;

/// Between these attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a look at the feed failed.
#[derive(Debug, Error)]
pub enum FeedError {
    /// No document.
    #[error("can't fetch the feed")]
    Fetch(#[source] FetchError),
    /// No signature beside it.
    #[error("can't fetch the feed's signature")]
    FetchSignature(#[source] FetchError),
    /// A document that is refused.
    #[error("the feed is refused")]
    Document(#[source] DocumentError),
    /// The whole feed was asked for, and a difference came.
    #[error("the server answers a request for the whole feed with a delta")]
    NoFull,
    /// The program ends.
    #[error("the feed's document could not be read to its end")]
    Stopped(#[source] tokio::task::JoinError),
    /// The store did not take an update.
    #[error("serial {0} could not be stored; it will be fetched again")]
    NotStored(u64),
}

/// What the store has of the feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Up to which serial; `None` before the first update.
    pub serial: Option<u64>,
    /// The feed's date at that serial.
    pub date: Option<Timestamp>,
    /// When the feed last answered well, new or not.
    pub checked: Option<Timestamp>,
}

/// An update on its way to the store.
#[derive(Debug)]
pub struct Delivery {
    /// What to store.
    pub update: FeedUpdate,
    /// To be answered once it is committed. Dropped, the poller stays at the serial before and tries again later.
    pub stored: oneshot::Sender<()>,
}

/// How the feed stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedState {
    /// What the store has.
    pub known: Known,
    /// Why the last look failed; `None` after a good one.
    pub error: Option<String>,
    /// Looks that failed since the last good one.
    pub failures: u32,
    /// Looks so far.
    pub attempts: u64,
    /// Patterns that the last update left out.
    pub unread: Unread,
}

impl FeedState {
    /// Seconds since the feed last answered well: the value of `global_block_age_seconds`. `None` when it never did.
    pub fn age_seconds(&self, now: Timestamp) -> Option<u64> {
        let checked = self.known.checked?;
        let seconds = now.as_second().saturating_sub(checked.as_second());
        Some(u64::try_from(seconds).unwrap_or(0))
    }
}

/// Looks at one feed until it is told to stop.
pub struct Poller {
    url: Url,
    key: PublicKey,
    fetcher: Fetcher,
    pace: Pace,
    /// Of the document at `known.serial`. It stands for a serial, not for a URL: see FEED.md.
    etag: Option<HeaderValue>,
    deliver: mpsc::Sender<Delivery>,
    state: watch::Sender<FeedState>,
}

/// A document that was judged.
struct Answer {
    judged: Judged,
    etag: Option<HeaderValue>,
}

impl Poller {
    /// Checks the configuration. `known` is what the store has; updates go into `deliver`.
    pub fn new(
        config: FeedConfig,
        known: Known,
        pace: Pace,
        deliver: mpsc::Sender<Delivery>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            url: allowed_url(&config.url)?,
            key: config.public_key,
            fetcher: Fetcher::new(config.ca.as_deref())?,
            pace,
            etag: None,
            deliver,
            state: watch::Sender::new(FeedState {
                known,
                ..FeedState::default()
            }),
        })
    }

    /// Follows how the feed stands.
    pub fn watch(&self) -> watch::Receiver<FeedState> {
        self.state.subscribe()
    }

    /// Runs until `stop` is cancelled or nobody takes the updates any more.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.poll()).await;
    }

    async fn poll(mut self) {
        let origin = Instant::now();
        let now = || Moment::from_millis(origin.elapsed().as_millis() as u64);
        let mut schedule = Schedule::new(self.pace, now());
        while !self.deliver.is_closed() {
            sleep_until(origin + Duration::from_millis(schedule.due().as_millis())).await;
            let outcome = self.look().await;
            match &outcome {
                Ok(()) => schedule.succeeded(now(), chance()),
                Err(_) => schedule.failed(now(), chance()),
            }
            let error = outcome.err().map(|error| in_full(&error));
            if let Some(error) = &error {
                tracing::warn!(url = %self.url, error, "the block list's feed is not current");
            }
            self.state.send_modify(|state| {
                state.attempts += 1;
                state.failures = schedule.failures();
                if error.is_none() {
                    state.known.checked = Some(Timestamp::now());
                }
                state.error = error;
            });
        }
    }

    /// One look: what is new goes to the store.
    async fn look(&mut self) -> Result<(), FeedError> {
        let serial = self.state.borrow().known.serial;
        let mut answer = self.ask(serial).await?;
        if answer.judged == Judged::Gap && serial.is_some() {
            tracing::info!(url = %self.url, "the delta does not continue from our serial; fetching the whole feed");
            self.etag = None;
            answer = self.ask_for(&self.url, serial).await?;
        }
        match answer.judged {
            Judged::Current => {}
            Judged::Update(update) => self.hand_over(update).await?,
            Judged::Gap => return Err(FeedError::NoFull),
        }
        self.etag = answer.etag;
        Ok(())
    }

    /// Asks for what came after `serial`.
    async fn ask(&self, serial: Option<u64>) -> Result<Answer, FeedError> {
        let mut url = self.url.clone();
        if let Some(serial) = serial {
            url.query_pairs_mut().append_pair("since", &serial.to_string());
        }
        self.ask_for(&url, serial).await
    }

    /// Gets a document with its signature, a few times when they don't fit.
    async fn ask_for(&self, url: &Url, ours: Option<u64>) -> Result<Answer, FeedError> {
        let mut attempt = 1;
        loop {
            match self.ask_once(url, ours).await {
                Err(FeedError::Document(DocumentError::Signature)) if attempt < ATTEMPTS => {}
                outcome => return outcome,
            }
            attempt += 1;
            sleep(PAUSE).await;
        }
    }

    async fn ask_once(&self, url: &Url, ours: Option<u64>) -> Result<Answer, FeedError> {
        let fetched = self.fetcher.get(url, self.etag.as_ref(), DOCUMENT).await;
        let (document, etag) = match fetched.map_err(FeedError::Fetch)? {
            Fetched::Document { body, etag } => (body, etag),
            Fetched::Unchanged => {
                return Ok(Answer {
                    judged: Judged::Current,
                    etag: self.etag.clone(),
                });
            }
        };
        let mut beside = url.clone();
        beside.set_path(&format!("{}.sig", url.path()));
        let signature = match self.fetcher.get(&beside, None, SIGNATURE).await {
            Ok(Fetched::Document { body, .. }) => body,
            // The fetcher answers so only to those who name an entity tag.
            Ok(Fetched::Unchanged) => Vec::new(),
            Err(error) => return Err(FeedError::FetchSignature(error)),
        };
        let (key, now) = (self.key, Timestamp::now());
        // A second of work for a million entries: not on a thread that serves requests.
        let judging = tokio::task::spawn_blocking(move || judge(&document, &signature, &key, ours, now));
        let judged = judging
            .await
            .map_err(FeedError::Stopped)?
            .map_err(FeedError::Document)?;
        Ok(Answer { judged, etag })
    }

    /// Waits until the store has the update, or says that it has not.
    async fn hand_over(&self, update: FeedUpdate) -> Result<(), FeedError> {
        let (serial, date, unread) = (update.serial, update.date, update.unread.clone());
        if unread.count > 0 {
            tracing::warn!(url = %self.url, serial, count = unread.count, first = ?unread.quoted.first(),
                "the feed has patterns that are not understood");
        }
        let (stored, taken) = oneshot::channel();
        let not_stored = |_| FeedError::NotStored(serial);
        let delivery = Delivery { update, stored };
        self.deliver
            .send(delivery)
            .await
            .map_err(|_| FeedError::NotStored(serial))?;
        taken.await.map_err(not_stored)?;
        self.state.send_modify(|state| {
            state.known.serial = Some(serial);
            state.known.date = Some(date);
            state.unread = unread;
        });
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
