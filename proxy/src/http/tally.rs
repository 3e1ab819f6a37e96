//! Where the bytes of one request are counted: in its event, in its flow, and in the proxy's metrics. Owns
//! nothing; never moves bytes. Driven by whoever writes them.

use std::sync::Arc;

use crate::context::FlowContext;
use crate::relay::{Direction, Traffic};

/// The counters of one request.
pub(super) struct Tally<'a> {
    context: &'a FlowContext,
    event: Arc<Traffic>,
}

impl<'a> Tally<'a> {
    /// Counts for the event that `event` belongs to.
    pub(super) fn new(context: &'a FlowContext, event: Arc<Traffic>) -> Self {
        Self { context, event }
    }

    /// What the event's bytes are counted in.
    pub(super) fn event(&self) -> &Arc<Traffic> {
        &self.event
    }

    /// Counts bytes that were written.
    pub(super) fn count(&self, direction: Direction, bytes: usize) {
        self.context
            .proxy
            .means
            .count(self.context.traffic(), direction, bytes);
        self.event.count(direction, bytes);
    }
}
