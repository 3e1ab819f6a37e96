//! What fresh events mean for baselines and detections, inside of the transaction that stores them.

use tidegate_control_wire::event::EventRecord;

use super::{StoreError, Tx};

impl Tx<'_> {
    /// Takes note of events that were not stored before, in the order in which they were sent.
    pub(super) async fn observe(&mut self, fresh: &[EventRecord]) -> Result<(), StoreError> {
        let _ = fresh;
        Ok(())
    }
}
