//! What the store knows of itself and of its feed: single values.

use jiff::Timestamp;
use sqlx::Row;
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::record::BlockLayer;

use super::read::get;
use super::{Micros, Store, StoreError, Tx};

/// A single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaKey {
    /// Names this store, once and for all; positions in its changes mean nothing elsewhere.
    Epoch,
    /// Every change up to this generation was forgotten.
    Pruned,
    /// Serial of the feed that the feed's layer is of.
    FeedSerial,
    /// The feed's own date at that serial, as it is written there.
    FeedDate,
    /// When the feed was last found to be current, in microseconds since 1970.
    FeedChecked,
    /// Date of the program's own block list.
    BuiltinDate,
    /// Names the state of the suppression rules: another text, other rules.
    Suppressions,
    /// What ties the two halves of a login at an issuer together (`crate::login`). Whoever reads it can finish a login that
    /// somebody else began, with that browser's cookie and code; it opens nothing else.
    LoginKey,
    /// How many entries a layer of the block list has.
    BlockCount(BlockLayer),
    /// When a layer of the block list last changed, in microseconds since 1970.
    BlockUpdated(BlockLayer),
}

impl MetaKey {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Pruned => "pruned",
            Self::FeedSerial => "feed-serial",
            Self::FeedDate => "feed-date",
            Self::FeedChecked => "feed-checked",
            Self::BuiltinDate => "builtin-date",
            Self::Suppressions => "suppressions",
            Self::LoginKey => "login-key",
            Self::BlockCount(BlockLayer::Builtin) => "block-count:builtin",
            Self::BlockCount(BlockLayer::Feed) => "block-count:feed",
            Self::BlockCount(BlockLayer::Deployment) => "block-count:deployment",
            Self::BlockUpdated(BlockLayer::Builtin) => "block-updated:builtin",
            Self::BlockUpdated(BlockLayer::Feed) => "block-updated:feed",
            Self::BlockUpdated(BlockLayer::Deployment) => "block-updated:deployment",
        }
    }
}

impl Store {
    /// A single value; `None` before it was first set.
    pub async fn meta(&self, key: MetaKey) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT value FROM meta WHERE key = $1")
            .bind(key.as_str())
            .fetch_optional(self.db.read())
            .await?;
        row.map(|row| get(&row, "value")).transpose()
    }

    /// Sets a single value.
    pub async fn set_meta(&self, key: MetaKey, value: &str) -> Result<(), StoreError> {
        let value = value.to_owned();
        self.db
            .write(move |tx| Box::pin(async move { tx.set_meta(key, &value).await }))
            .await
    }

    /// The store's name, made with its first use. A position in the changes of another store, or of a copy of this
    /// one ([`Self::backup`]), is worth nothing here.
    pub async fn epoch(&self) -> Result<String, StoreError> {
        self.made_once(MetaKey::Epoch, || new_id("epoch")).await
    }

    /// A single value that is made with its first use, and never again.
    pub(crate) async fn made_once(
        &self,
        key: MetaKey,
        make: impl FnOnce() -> String + Send,
    ) -> Result<String, StoreError> {
        if let Some(value) = self.meta(key).await? {
            return Ok(value);
        }
        let made = make();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    // Another control plane may have been faster.
                    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
                        .bind(key.as_str())
                        .bind(made)
                        .execute(&mut *tx.connection())
                        .await?;
                    let row = sqlx::query("SELECT value FROM meta WHERE key = $1")
                        .bind(key.as_str())
                        .fetch_one(tx.connection())
                        .await?;
                    Ok(row.try_get(0)?)
                })
            })
            .await
    }

    /// When the feed was last found to be current; `None` without a feed.
    pub async fn feed_checked_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(text) = self.meta(MetaKey::FeedChecked).await? else {
            return Ok(None);
        };
        let micros = text
            .parse()
            .map_err(|_| StoreError::Unreadable(format!("feed-checked is {text:?}")))?;
        Ok(Some(Micros(micros).timestamp()))
    }

    /// The feed was found to be current.
    pub async fn set_feed_checked_at(&self, at: Timestamp) -> Result<(), StoreError> {
        self.set_meta(MetaKey::FeedChecked, &Micros::from(at).0.to_string())
            .await
    }
}

impl Tx<'_> {
    /// Sets a single value.
    pub(super) async fn set_meta(&mut self, key: MetaKey, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2",
        )
        .bind(key.as_str())
        .bind(value)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
