//! Everything that gateways of a group need, as of one moment.
//!
//! Read piece by piece in one transaction and handed on as fast as it is taken: a store with a million block entries is
//! never whole in memory, and who does not read on does not hold the transaction for ever.

use std::time::Duration;

use sqlx::{AnyConnection, Row};
use tidegate_control_wire::record::{BlockChange, BlockLayer, Change};
use tidegate_policy::effective::Generation;
use tokio::sync::mpsc;

use super::db::READERS;
use super::read::generation;
use super::{Store, StoreError, records};

/// How long a reader may take for one piece; then it has to begin again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take for everything: an open transaction keeps the database from tidying up.
const WHOLE: Duration = Duration::from_mins(10);
/// Snapshots at a time; the others wait. Half of the connections that read, so that slow gateways never hold all of them.
pub(super) const AT_ONCE: usize = READERS as usize / 2;

impl Store {
    /// Hands every policy, set, attachment, credential, block entry, and living lease of `group` to `taker`, and gives
    /// back the generation that it is all of. The empty group has no leases.
    ///
    /// The changes are a whole only when this returns a generation; after an error they are to be thrown away.
    pub async fn snapshot(&self, group: &str, taker: mpsc::Sender<Change>) -> Result<Generation, StoreError> {
        let _turn = self.snapshots.acquire().await.map_err(|_| StoreError::Closed)?;
        let read = self.read_snapshot(group, taker);
        tokio::time::timeout(WHOLE, read)
            .await
            .map_err(|_| StoreError::Unread)?
    }

    async fn read_snapshot(
        &self,
        group: &str,
        taker: mpsc::Sender<Change>,
    ) -> Result<Generation, StoreError> {
        let mut tx = self.reading().await?;
        let newest = "SELECT COALESCE(MAX(generation), 0) FROM changes";
        let row = sqlx::query(newest).fetch_one(&mut *tx).await?;
        let of = generation(row.try_get(0)?);
        let mut snapshot = Snapshot {
            connection: &mut tx,
            taker,
        };
        snapshot.documents().await?;
        snapshot.attachments().await?;
        snapshot.credentials().await?;
        snapshot.blocks().await?;
        if !group.is_empty() {
            snapshot.leases(group).await?;
        }
        tx.commit().await?;
        Ok(of)
    }
}

struct Snapshot<'c> {
    connection: &'c mut AnyConnection,
    taker: mpsc::Sender<Change>,
}

impl Snapshot<'_> {
    async fn give(&mut self, change: Change) -> Result<(), StoreError> {
        self.taker
            .send_timeout(change, PATIENCE)
            .await
            .map_err(|_| StoreError::Unread)
    }

    async fn documents(&mut self) -> Result<(), StoreError> {
        let mut after = (String::new(), String::new());
        loop {
            let some = records::sets_after(self.connection, (&after.0, &after.1)).await?;
            let Some(last) = some.last() else { break };
            after = (last.owner.to_string(), last.name.to_string());
            for record in some {
                self.give(Change::Set(record)).await?;
            }
        }
        let mut after = String::new();
        loop {
            let some = records::policies_after(self.connection, &after).await?;
            let Some(last) = some.last() else { break };
            after = last.id.to_string();
            for record in some {
                self.give(Change::Policy(record)).await?;
            }
        }
        Ok(())
    }

    async fn attachments(&mut self) -> Result<(), StoreError> {
        let mut after = String::new();
        while let (some, Some(last)) = records::attachments_after(self.connection, &after).await? {
            after = last;
            for change in some {
                self.give(change).await?;
            }
        }
        Ok(())
    }

    async fn credentials(&mut self) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let some = records::tokens_after(self.connection, &after).await?;
            let Some(last) = some.last() else { break };
            after = last.id.to_string();
            for record in some {
                self.give(Change::Token(record)).await?;
            }
        }
        // A handful, from the configuration.
        for issuer in records::issuers(self.connection).await? {
            self.give(Change::Issuer(issuer)).await?;
        }
        Ok(())
    }

    async fn blocks(&mut self) -> Result<(), StoreError> {
        for layer in BlockLayer::ALL {
            let mut after = String::new();
            loop {
                let add = records::patterns_after(self.connection, layer, &after).await?;
                let Some(last) = add.last() else { break };
                after.clone_from(last);
                let remove = Vec::new();
                self.give(Change::Block(BlockChange { layer, add, remove }))
                    .await?;
            }
        }
        Ok(())
    }

    async fn leases(&mut self, group: &str) -> Result<(), StoreError> {
        let mut after = String::new();
        while let (some, Some(last)) = records::leases_after(self.connection, group, &after).await? {
            after = last;
            for change in some {
                self.give(change).await?;
            }
        }
        Ok(())
    }
}
