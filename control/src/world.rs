//! What comes in from outside: issuers' keys, the block list's feed, and the list that the program brings along.
//!
//! Owns the way from [`crate::oidc`] and [`crate::feed`], which know nothing of a store, into the store. A source that
//! can't be asked changes nothing: what was last stored stays in force.

use std::time::Duration;

use tidegate_control_wire::oidc::Issuer;
use tidegate_control_wire::record::BlockLayer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{FeedConfig, LoginConfig, OidcConfig};
use crate::feed::{self, Delivery, FeedState, Known, Poller};
use crate::fetch::{Pace, SetupError};
use crate::login::{Login, LoginKey};
use crate::oidc::{Handle, Keeper};
use crate::store::{BlockUpdate, MetaKey, Store, StoreError};
use crate::sync::Hub;

/// Between two looks at an issuer's keys. Issuers publish a new key long before they sign with it.
const KEYS: Duration = Duration::from_hours(1);
/// Between two tries to store a key set.
const RETRY: Duration = Duration::from_secs(1);
/// Key sets and updates that wait for the store.
const QUEUE: usize = 4;

/// Why something outside can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The configuration names something that can't be asked.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Puts the program's own block list into the store when it is another than the store has.
pub(crate) async fn apply_builtin(store: &Store) -> Result<(), StoreError> {
    let list = feed::builtin();
    let date = list.date.to_string();
    if store.meta(MetaKey::BuiltinDate).await?.as_deref() >= Some(date.as_str()) {
        // The same list, or a newer one by a newer program on the same store.
        return Ok(());
    }
    let add = list
        .entries
        .iter()
        .map(|one| (one.pattern.clone(), one.reason.clone()));
    let update = BlockUpdate {
        full: true,
        add: add.collect(),
        remove: Vec::new(),
    };
    let changed = store
        .apply_block_layer(BlockLayer::Builtin, update, &[(MetaKey::BuiltinDate, date)])
        .await?;
    tracing::info!(date = %list.date, changed, "the built-in block list is in the store");
    Ok(())
}

/// Follows the keys of all configured issuers; those that are not configured any more are trusted no longer.
pub(crate) async fn follow_issuers(
    store: &Store,
    configs: &[OidcConfig],
    tasks: &mut JoinSet<()>,
) -> Result<Handle, WorldError> {
    let actor = Hub::system();
    let kept: Vec<String> = configs.iter().map(|one| one.issuer.clone()).collect();
    store.remove_issuers_except(&kept, &actor).await?;
    let known = store.issuers().await?;
    let (publish, mut changed) = mpsc::channel::<Issuer>(QUEUE);
    let keeper = Keeper::new(configs.to_vec(), known, Pace::every(KEYS), publish)?;
    let handle = keeper.handle();
    tasks.spawn(keeper.run(CancellationToken::new()));
    let store = store.clone();
    tasks.spawn(async move {
        while let Some(issuer) = changed.recv().await {
            // A set is told once: it is tried until the store takes it.
            while let Err(error) = store.put_issuer(&issuer, &actor).await {
                tracing::error!(
                    issuer = issuer.issuer,
                    error = error.chain(),
                    "an issuer's keys were not stored"
                );
                tokio::time::sleep(RETRY).await;
            }
            tracing::info!(
                issuer = issuer.issuer,
                keys = issuer.jwks.keys.len(),
                "an issuer's keys are stored"
            );
        }
    });
    Ok(handle)
}

/// Where people log in, if anywhere. Its keys stay in there: what [`follow_issuers`] stores, gateways trust for jobs.
pub(crate) async fn login(store: &Store, config: Option<&LoginConfig>) -> Result<Option<Login>, WorldError> {
    let Some(config) = config else { return Ok(None) };
    let made = || LoginKey::random().text();
    let key = store.made_once(MetaKey::LoginKey, made).await?;
    let unreadable = || StoreError::Unreadable("the key of logins is none".into());
    let key = LoginKey::parse(&key).ok_or_else(unreadable)?;
    Ok(Some(Login::new(config.clone(), &key)?))
}

/// Follows the feed, where one is configured, and answers how that goes.
pub(crate) async fn follow_feed(
    store: &Store,
    config: Option<&FeedConfig>,
    tasks: &mut JoinSet<()>,
) -> Result<Option<watch::Receiver<FeedState>>, WorldError> {
    let Some(config) = config else { return Ok(None) };
    let known = Known {
        serial: store
            .meta(MetaKey::FeedSerial)
            .await?
            .and_then(|text| text.parse().ok()),
        date: store
            .meta(MetaKey::FeedDate)
            .await?
            .and_then(|text| text.parse().ok()),
        checked: store.feed_checked_at().await?,
    };
    let (deliver, delivered) = mpsc::channel(QUEUE);
    let poller = Poller::new(config.clone(), known, Pace::every(config.interval), deliver)?;
    let state = poller.watch();
    tasks.spawn(poller.run(CancellationToken::new()));
    tasks.spawn(take_updates(store.clone(), delivered));
    tasks.spawn(note_checks(store.clone(), state.clone()));
    Ok(Some(state))
}

async fn take_updates(store: Store, mut delivered: mpsc::Receiver<Delivery>) {
    while let Some(Delivery { update, stored }) = delivered.recv().await {
        let marks = [
            (MetaKey::FeedSerial, update.serial.to_string()),
            (MetaKey::FeedDate, update.date.to_string()),
        ];
        let serial = update.serial;
        let update = BlockUpdate {
            full: update.full,
            add: update
                .add
                .into_iter()
                .map(|one| (one.pattern, one.reason))
                .collect(),
            remove: update.remove,
        };
        match store.apply_block_layer(BlockLayer::Feed, update, &marks).await {
            Ok(changed) => {
                tracing::info!(serial, changed, "the block list's feed is in the store");
                if stored.send(()).is_err() {
                    tracing::debug!(serial, "the poller was stopped meanwhile");
                }
            }
            Err(error) => tracing::error!(serial, error = error.chain(), "the feed's update was not stored"),
        }
    }
}

/// Keeps when the feed last answered well: gateways tell its age.
async fn note_checks(store: Store, mut state: watch::Receiver<FeedState>) {
    let mut noted = None;
    while state.changed().await.is_ok() {
        let checked = state.borrow_and_update().known.checked;
        if let Some(at) = checked.filter(|_| checked != noted) {
            match store.set_feed_checked_at(at).await {
                Ok(()) => noted = checked,
                Err(error) => {
                    tracing::warn!(error = error.chain(), "when the feed was checked was not stored");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::feed::Published;
    use crate::model::PageRequest;

    async fn names(store: &Store) -> Vec<String> {
        let page = store
            .block_entries(Some(BlockLayer::Feed), &PageRequest::default(), None)
            .await
            .unwrap();
        page.items.into_iter().map(|one| one.pattern).collect()
    }

    /// Follows the feed until the store has exactly these names, and knows when it was checked.
    async fn follow_to(store: &Store, feed: &Published, wanted: &[&str]) {
        let mut tasks = JoinSet::new();
        follow_feed(store, Some(&feed.config()), &mut tasks)
            .await
            .unwrap();
        let mut last = Vec::new();
        let reached = tokio::time::timeout(Duration::from_secs(20), async {
            while last != wanted || store.feed_checked_at().await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                last = names(store).await;
            }
        });
        assert!(reached.await.is_ok(), "wanted {wanted:?}, the store has {last:?}");
        tasks.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_feed_reaches_the_store_and_a_restart_goes_on_by_a_delta() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("control.db").display());
        let feed = Published::new(2).await;
        let store = Store::open(&url).await.unwrap();
        follow_to(&store, &feed, &["n1.example", "n2.example"]).await;
        assert_eq!(
            store.meta(MetaKey::FeedSerial).await.unwrap().as_deref(),
            Some("2")
        );
        let before = *store.db().newest().borrow();
        feed.advance(3);
        let store = Store::open(&url).await.unwrap();
        follow_to(&store, &feed, &["n1.example", "n2.example", "n3.example"]).await;
        assert_eq!(
            store.meta(MetaKey::FeedSerial).await.unwrap().as_deref(),
            Some("3")
        );
        assert!(
            feed.targets().iter().any(|target| target.contains("since=2")),
            "{:?}",
            feed.targets()
        );
        assert!(*store.db().newest().borrow() > before, "gateways hear of it");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_built_in_list_is_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("control.db").display());
        let store = Store::open(&url).await.unwrap();
        apply_builtin(&store).await.unwrap();
        let held = store.block_count().await.unwrap();
        let held = held.get(&BlockLayer::Builtin).copied().unwrap_or_default();
        assert_eq!(held as usize, feed::builtin().entries.len());
        let newest = *store.db().newest().borrow();
        apply_builtin(&store).await.unwrap();
        assert_eq!(
            *store.db().newest().borrow(),
            newest,
            "the same list is no change"
        );
    }
}
