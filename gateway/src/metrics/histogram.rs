//! Histograms of durations: two additions for each, on cache lines of the thread's own.
//!
//! The exporter's own histograms keep every value, with a clock read and sixteen bytes each, until somebody looks at
//! them: too dear for one value a DNS query, and bounded by nothing but how often somebody does. Here a value is counted
//! in its bucket at once. Owns the counts and their lines on the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{HistogramFn, Key, SharedString};
use parking_lot::Mutex;

use crate::threads;

/// Buckets of every duration, in seconds: from what a cache answers to what a client gives up at.
pub(super) const BUCKETS: [f64; 15] = [
    0.000_05, 0.000_2, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Threads that count apart; further ones share with them.
const STRIPES: usize = 16;
const NANOS: f64 = 1e9;

/// All histograms, by name and labels.
#[derive(Default)]
pub(super) struct Histograms {
    families: Mutex<BTreeMap<String, Family>>,
}

#[derive(Default)]
struct Family {
    help: Option<SharedString>,
    /// By labels as they are written, without braces.
    members: BTreeMap<String, Arc<Buckets>>,
}

/// One histogram.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    stripes: [Stripe; STRIPES],
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    /// Values in each bucket alone; the last one's have no bound.
    counts: [AtomicU64; BUCKETS.len() + 1],
    /// Their sum, in nanoseconds.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if count == 0 {
            return;
        }
        let count = count as u64;
        let stripe = &self.stripes[threads::number() % STRIPES];
        let bucket = BUCKETS.iter().position(|bound| value <= *bound);
        stripe.counts[bucket.unwrap_or(BUCKETS.len())].fetch_add(count, Ordering::Relaxed);
        // What is no number, or below zero, adds nothing.
        let nanos = ((value * NANOS) as u64).saturating_mul(count);
        stripe.sum.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Buckets {
    /// How many values are in each bucket alone, and their sum in seconds.
    fn read(&self) -> ([u64; BUCKETS.len() + 1], f64) {
        let mut counts = [0_u64; BUCKETS.len() + 1];
        let mut nanos = 0_u64;
        for stripe in &self.stripes {
            for (count, more) in counts.iter_mut().zip(&stripe.counts) {
                *count += more.load(Ordering::Relaxed);
            }
            nanos = nanos.wrapping_add(stripe.sum.load(Ordering::Relaxed));
        }
        (counts, nanos as f64 / NANOS)
    }
}

impl Histograms {
    /// The histogram of this name and these labels, made when there is none.
    pub(super) fn register(&self, key: &Key) -> Arc<Buckets> {
        let mut labels = String::new();
        for label in key.labels() {
            let comma = if labels.is_empty() { "" } else { "," };
            // Writing to a string does not fail, here and below.
            let _ = write!(labels, "{comma}{}=\"{}\"", label.key(), escaped(label.value()));
        }
        let mut families = self.families.lock();
        let family = families.entry(key.name().to_owned()).or_default();
        Arc::clone(family.members.entry(labels).or_default())
    }

    /// Says what a name means.
    pub(super) fn describe(&self, name: &str, help: SharedString) {
        self.families.lock().entry(name.to_owned()).or_default().help = Some(help);
    }

    /// Appends all of them, in Prometheus's text format.
    pub(super) fn render(&self, page: &mut String) {
        for (name, family) in &*self.families.lock() {
            if family.members.is_empty() {
                continue;
            }
            if let Some(help) = &family.help {
                let _ = writeln!(page, "# HELP {name} {help}");
            }
            let _ = writeln!(page, "# TYPE {name} histogram");
            for (labels, member) in &family.members {
                member.render(page, name, labels);
            }
            page.push('\n');
        }
    }
}

impl Buckets {
    fn render(&self, page: &mut String, name: &str, labels: &str) {
        let (counts, sum) = self.read();
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (at, count) in counts.iter().enumerate() {
            below += count;
            let bound = BUCKETS.get(at).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        }
        let braced = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        let _ = writeln!(page, "{name}_sum{braced} {sum}");
        let _ = writeln!(page, "{name}_count{braced} {below}");
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use metrics::Label;

    use super::*;

    fn page(histograms: &Histograms) -> String {
        let mut page = String::new();
        histograms.render(&mut page);
        page
    }

    #[test]
    fn values_are_counted_in_every_bucket_from_their_own_on() {
        let histograms = Histograms::default();
        histograms.describe("tidegate_x_seconds", "How long x takes".into());
        let key = Key::from_parts("tidegate_x_seconds", vec![Label::new("cache", "a \"b\"")]);
        let one = histograms.register(&key);
        let same = histograms.register(&key);
        one.record(0.000_05);
        same.record_many(0.3, 3);
        std::thread::scope(|scope| drop(scope.spawn(|| one.record(99.0)).join()));
        one.record(f64::NAN);
        let page = page(&histograms);
        let begins = "# HELP tidegate_x_seconds How long x takes\n# TYPE tidegate_x_seconds histogram\n";
        assert!(page.starts_with(begins), "{page}");
        for line in [
            "tidegate_x_seconds_bucket{cache=\"a \\\"b\\\"\",le=\"0.00005\"} 1\n",
            "tidegate_x_seconds_bucket{cache=\"a \\\"b\\\"\",le=\"0.25\"} 1\n",
            "tidegate_x_seconds_bucket{cache=\"a \\\"b\\\"\",le=\"0.5\"} 4\n",
            "tidegate_x_seconds_bucket{cache=\"a \\\"b\\\"\",le=\"30\"} 4\n",
            "tidegate_x_seconds_bucket{cache=\"a \\\"b\\\"\",le=\"+Inf\"} 6\n",
            "tidegate_x_seconds_sum{cache=\"a \\\"b\\\"\"} 99.90005\n",
            "tidegate_x_seconds_count{cache=\"a \\\"b\\\"\"} 6\n",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
    }

    #[test]
    fn what_has_no_labels_has_no_braces_and_what_nobody_counts_is_not_shown() {
        let histograms = Histograms::default();
        histograms.describe("tidegate_none_seconds", "Nobody counts this".into());
        histograms
            .register(&Key::from_name("tidegate_y_seconds"))
            .record(0.5);
        let page = page(&histograms);
        assert!(
            page.contains("tidegate_y_seconds_bucket{le=\"0.5\"} 1\n"),
            "{page}"
        );
        assert!(
            page.contains("tidegate_y_seconds_sum 0.5\ntidegate_y_seconds_count 1\n"),
            "{page}"
        );
        assert!(!page.contains("none"), "{page}");
    }
}
