//! A metrics recorder that keeps what was counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;

/// Counters, and how many values each histogram got.
#[derive(Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<HashMap<Key, Arc<Value>>>>);

#[derive(Default)]
struct Value(AtomicU64);

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl HistogramFn for Value {
    fn record(&self, _value: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Runs a future; handles that it makes count here. It must not move to another thread.
    pub(crate) async fn during<F: Future>(&self, future: F) -> F::Output {
        let _recording = metrics::set_default_local_recorder(self);
        future.await
    }

    /// What a counter stands at.
    pub(crate) fn get(&self, name: &'static str, labels: &[(&'static str, &str)]) -> u64 {
        let labels: Vec<metrics::Label> = labels
            .iter()
            .map(|(key, value)| metrics::Label::new(*key, (*value).to_owned()))
            .collect();
        let known = self.0.lock();
        known
            .get(&Key::from_parts(name, labels))
            .map_or(0, |value| value.0.load(Ordering::Relaxed))
    }

    fn value(&self, key: &Key) -> Arc<Value> {
        Arc::clone(self.0.lock().entry(key.clone()).or_default())
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}
