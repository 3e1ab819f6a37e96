//! The event of a flow that is let through, while the flow lives: amended as more becomes known, emitted when
//! the flow ends. Never judges. Made by `context`, held by the flow's own task.

use std::sync::{Arc, Weak};
use std::time::Duration;

use compact_str::CompactString;
use parking_lot::Mutex;
use tidegate_policy::Moment;
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::verdict::Verdict;

use crate::Proxy;
use crate::relay::Traffic;

/// What audit mode let through is told after this long at the latest, bytes so far included: somebody who
/// watches must not wait for the end of a tunnel to hear of it.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// The event of a flow that is let through: emitted with bytes and duration when this is dropped, however
/// the flow ends.
pub(crate) struct OpenRecord(Arc<Mutex<Inner>>);

struct Inner {
    /// None once the flow's last word was said.
    event: Option<NetworkEvent>,
    proxy: Arc<Proxy>,
    traffic: Arc<Traffic>,
    opened: Moment,
    /// Bytes of both directions that an event has told already.
    written: Option<(u64, u64)>,
}

impl OpenRecord {
    /// Begins the record of a flow that was `opened` then and counts its bytes in `traffic`.
    pub(crate) fn begin(
        event: NetworkEvent,
        proxy: Arc<Proxy>,
        traffic: Arc<Traffic>,
        opened: Moment,
    ) -> Self {
        let early = event.verdict == Verdict::WouldRefuse;
        let inner = Arc::new(Mutex::new(Inner {
            event: Some(event),
            proxy,
            traffic,
            opened,
            written: None,
        }));
        if early {
            tokio::spawn(tell_early(Arc::downgrade(&inner)));
        }
        Self(inner)
    }

    /// Changes what the event will say.
    pub(crate) fn amend(&mut self, change: impl FnOnce(&mut NetworkEvent)) {
        self.0.lock().event.as_mut().map(change);
    }

    /// The fingerprint of the hello, as the event has it.
    pub(crate) fn ja4(&self) -> Option<CompactString> {
        self.0.lock().event.as_ref()?.ja4.clone()
    }

    /// Adds a note behind the one there is.
    pub(crate) fn note(&mut self, note: &str) {
        self.amend(|event| {
            let before = event.note.take();
            event.note = Some(before.map_or(note.into(), |before| format!("{before}; {note}").into()));
        });
    }

    /// Emits what is known by now, for a flow that may end long after its last byte. What passes later is
    /// another event at the end, whose count is 0: it is no further verdict.
    pub(crate) fn flush(&mut self) {
        self.0.lock().flush();
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        if inner.amount()
            && let Some(event) = inner.event.take()
        {
            inner.proxy.sink.emit(event);
        }
    }
}

async fn tell_early(record: Weak<Mutex<Inner>>) {
    tokio::time::sleep(TELL_AFTER).await;
    if let Some(record) = record.upgrade() {
        record.lock().flush();
    }
}

impl Inner {
    fn flush(&mut self) {
        let told = self.amount();
        let Some(event) = &mut self.event else { return };
        if told {
            self.proxy.sink.emit(event.clone());
        }
        event.id = self.proxy.sink.mint();
        event.count = 0;
    }

    /// Writes bytes and duration into the event; false when it would say nothing new.
    fn amount(&mut self) -> bool {
        let passed = (self.traffic.up(), self.traffic.down());
        if self.written == Some(passed) {
            return false;
        }
        let Some(event) = &mut self.event else {
            return false;
        };
        let before = self.written.replace(passed).unwrap_or_default();
        event.bytes_up = passed.0 - before.0;
        event.bytes_down = passed.1 - before.1;
        let lived = self.proxy.clock.now().since(self.opened);
        event.duration_ms = u64::try_from(lived.as_millis()).unwrap_or(u64::MAX);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of the record of an open flow, its event included.
    const MOST: usize = 640;

    #[test]
    fn the_record_of_an_open_flow_is_small() {
        let bytes = size_of::<Mutex<Inner>>();
        assert!(bytes <= MOST, "{bytes} bytes");
    }
}
