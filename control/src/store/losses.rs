//! What is missing from the record: verdicts that gateways dropped.

use tidegate_control_wire::batch::BatchHead;

use super::rollups::{count, day, times};
use super::{StoreError, Tx};

impl Tx<'_> {
    /// Enters, under today, what a lane dropped since it last said: spools tell their sum since they were made.
    pub(super) async fn note_loss(
        &mut self,
        gateway: &str,
        head: &BatchHead,
        before: i64,
    ) -> Result<(), StoreError> {
        let lost = count(head.dropped).saturating_sub(before).min(times(u64::MAX));
        // Less than before: a batch that comes again.
        if lost <= 0 {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO event_losses (day, gateway, lane, dropped) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (day, gateway, lane) DO UPDATE SET dropped = CASE WHEN \
             event_losses.dropped + excluded.dropped > 1099511627776 THEN 1099511627776 \
             ELSE event_losses.dropped + excluded.dropped END",
        )
        .bind(day(self.now()))
        .bind(gateway)
        .bind(head.lane.as_str())
        .bind(lost)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
