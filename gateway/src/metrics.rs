//! The Prometheus page: what each metric means, and the process's own figures.
//!
//! Counting happens where things happen, through handles registered once; this module installs the
//! recorder and renders. Durations are counted by [`histogram`], all else by the exporter. Where nobody asked for the
//! page no recorder is installed, and handles do nothing.

mod histogram;

use std::fs;
use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit, describe_counter, describe_gauge,
    describe_histogram, gauge,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use histogram::Histograms;

/// Ticks of `/proc/self/stat` a second: USER_HZ, fixed by the kernel's interface.
const TICKS: f64 = 100.0;
/// Page size of `/proc/self/statm` on every platform that we build for.
const PAGE: f64 = 4096.0;

/// All that is counted, as a page.
#[derive(Clone)]
pub struct Page {
    counts: PrometheusHandle,
    histograms: Arc<Histograms>,
}

/// Installs the recorder; to be called once, before any handle is made.
pub fn install() -> Result<Page, &'static str> {
    let prometheus = PrometheusBuilder::new().build_recorder();
    let page = Page {
        counts: prometheus.handle(),
        histograms: Arc::default(),
    };
    let recorder = Recorder {
        prometheus,
        histograms: Arc::clone(&page.histograms),
    };
    metrics::set_global_recorder(recorder).map_err(|_| "there is a recorder of metrics already")?;
    describe();
    gauge!("tidegate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(page)
}

impl Page {
    /// The page, with the process's figures of this moment.
    pub fn render(&self) -> String {
        process();
        let mut page = self.counts.render();
        self.histograms.render(&mut page);
        page
    }
}

/// What handles are made by.
struct Recorder {
    prometheus: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.histograms.describe(key.as_str(), description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.prometheus.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.prometheus.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histograms.register(key))
    }
}

fn describe() {
    describe_counter!(
        "tidegate_dns_queries_total",
        "DNS queries judged, by verdict and transport"
    );
    describe_histogram!(
        "tidegate_dns_query_duration_seconds",
        "Time from query to answer, by cache outcome"
    );
    describe_gauge!("tidegate_dns_cache_entries", "Answers in the cache");
    describe_gauge!("tidegate_dns_cache_bytes", "Bytes of the cache");
    describe_histogram!(
        "tidegate_dns_upstream_duration_seconds",
        "Time to an upstream's answer"
    );
    describe_counter!(
        "tidegate_dns_upstream_failures_total",
        "Queries that an upstream failed"
    );
    describe_counter!(
        "tidegate_flows_total",
        "Flows judged, by kind, verdict and reason"
    );
    describe_gauge!("tidegate_flows_open", "Flows open now");
    describe_counter!("tidegate_flow_bytes_total", "Bytes relayed, by direction");
    describe_histogram!(
        "tidegate_flow_detect_duration_seconds",
        "Time until the first bytes told what a flow is"
    );
    describe_counter!(
        "tidegate_dns_fast_total",
        "DNS queries over UDP at the fast path: repeated from its memo by verdict, or passed on"
    );
    describe_counter!(
        "tidegate_dns_dropped_total",
        "Datagrams and connections dropped unanswered, by cause"
    );
    describe_gauge!(
        "tidegate_flow_detect_bytes",
        "Bytes held by flows whose detection is not finished"
    );
    describe_counter!(
        "tidegate_relay_bytes_total",
        "Bytes relayed, by path (splice or copy)"
    );
    describe_counter!(
        "tidegate_accept_failures_total",
        "Connections that could not be accepted"
    );
    describe_counter!(
        "tidegate_sockets_lost_total",
        "Sockets of the data plane that ended by themselves"
    );
    describe_counter!("tidegate_dial_failures_total", "Dials that failed, by cause");
    describe_gauge!(
        "tidegate_egress_ports_in_use",
        "Local ports used towards destinations"
    );
    describe_gauge!("tidegate_leases", "Leases, by assurance");
    describe_counter!(
        "tidegate_lease_conflicts_total",
        "Registrations of jobs that the rules refused, by reason"
    );
    describe_gauge!(
        "tidegate_outbox_entries",
        "Changes of leases that the control plane is still to be told of"
    );
    describe_counter!(
        "tidegate_outbox_dropped_total",
        "Changes of leases that the control plane will never know of"
    );
    describe_counter!(
        "tidegate_runner_api_failed_proofs_total",
        "Credentials shown by runners that were not good"
    );
    describe_counter!(
        "tidegate_runner_api_connections_refused_total",
        "Connections to the runner API closed at a bound, or from elsewhere"
    );
    describe_counter!(
        "tidegate_unidentified_flows_total",
        "Flows of sources without a lease"
    );
    describe_gauge!("tidegate_tickets", "Answer tickets held by all jobs");
    describe_gauge!(
        "tidegate_interception_up",
        "1 while the interception rules are in place"
    );
    describe_gauge!(
        "tidegate_policy_generation",
        "Position in the policy store's changes that is in force; without a control plane, times that policies were put in force"
    );
    describe_gauge!(
        "tidegate_policy_sync_lag_seconds",
        "From the control plane's word to the newest change being in force"
    );
    describe_gauge!(
        "tidegate_global_block_age_seconds",
        "Since the global block list's feed was last found to be current"
    );
    describe_histogram!(
        "tidegate_policy_swap_duration_seconds",
        "Time to put changed policies in force for every job"
    );
    describe_gauge!(
        "tidegate_events_queued",
        "Events between the data plane and the disk"
    );
    describe_gauge!(
        "tidegate_events_spooled_bytes",
        "Bytes on disk of events that the control plane has not stored yet"
    );
    describe_counter!(
        "tidegate_events_shipped_total",
        "Events stored by the control plane; without one, written to the log"
    );
    describe_counter!(
        "tidegate_events_dropped_total",
        "Verdicts of which the event is lost: at a bound, on a full disk, or refused by the control plane"
    );
}

/// `process_*`, in the names and units that Prometheus clients share.
fn process() {
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    gauge!("process_open_fds").set(descriptors as f64);
    let fields = |file: &str| -> Vec<f64> {
        let text = fs::read_to_string(file).unwrap_or_default();
        // The command's name stands in parentheses and may hold spaces.
        let rest = text.rsplit_once(')').map_or(text.as_str(), |(_, rest)| rest);
        rest.split_whitespace()
            .map(|word| word.parse().unwrap_or_default())
            .collect()
    };
    let stat = fields("/proc/self/stat");
    // proc_pid_stat(5): fields 14 and 15 are utime and stime; three stand before the parenthesis's end.
    let cpu = stat.get(11).copied().unwrap_or_default() + stat.get(12).copied().unwrap_or_default();
    gauge!("process_cpu_seconds_total").set(cpu / TICKS);
    gauge!("process_threads").set(stat.get(17).copied().unwrap_or_default());
    let resident = fields("/proc/self/statm").get(1).copied().unwrap_or_default();
    gauge!("process_resident_memory_bytes").set(resident * PAGE);
}
