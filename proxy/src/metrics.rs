//! Metric handles of the data plane. Owns their names and labels; never reads a clock. Handles are made
//! when first used and kept, since looking one up costs ten times what counting does.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::{Judgement, Reason, Verdict};

use crate::dial::DialCause;

/// Kinds of flows, in the order of their handles.
const KINDS: [Kind; 5] = [Kind::Tls, Kind::Http, Kind::Quic, Kind::Tcp, Kind::Udp];

/// Every handle of the proxy.
#[derive(Debug)]
pub(crate) struct FlowMetrics {
    /// By kind, then: permit, each refusal, each would-be refusal.
    verdicts: Vec<OnceLock<Counter>>,
    detect: [Histogram; KINDS.len()],
    dial_failures: [Counter; DialCause::ALL.len()],
    pub(crate) unidentified: Counter,
    pub(crate) egress_ports: Gauge,
    pub(crate) accept_failures: Counter,
}

impl FlowMetrics {
    pub(crate) fn new() -> Self {
        let cells = KINDS.len() * (1 + 2 * Reason::ALL.len());
        Self {
            verdicts: (0..cells).map(|_| OnceLock::new()).collect(),
            detect: KINDS.map(
                |kind| metrics::histogram!("tidegate_flow_detect_duration_seconds", "kind" => kind.as_str()),
            ),
            dial_failures: DialCause::ALL
                .map(|cause| metrics::counter!("tidegate_dial_failures_total", "cause" => cause.as_str())),
            unidentified: metrics::counter!("tidegate_unidentified_flows_total"),
            egress_ports: metrics::gauge!("tidegate_egress_ports_in_use"),
            accept_failures: metrics::counter!("tidegate_accept_failures_total"),
        }
    }

    /// Counts one verdict.
    pub(crate) fn verdict(&self, kind: Kind, judgement: &Judgement) {
        let reason = judgement.refusal().map(|refusal| refusal.reason);
        let place = reason.map_or(0, |reason| {
            let at = Reason::ALL
                .iter()
                .position(|one| *one == reason)
                .unwrap_or_default();
            1 + at
                + if judgement.verdict() == Verdict::WouldRefuse {
                    Reason::ALL.len()
                } else {
                    0
                }
        });
        let cell = kind_index(kind) * (1 + 2 * Reason::ALL.len()) + place;
        self.verdicts[cell]
            .get_or_init(|| {
                metrics::counter!(
                    "tidegate_flows_total",
                    "kind" => kind.as_str(),
                    "verdict" => judgement.verdict().as_str(),
                    "reason" => reason.map_or("", Reason::as_str)
                )
            })
            .increment(1);
    }

    /// Records how long it took to know what a flow is.
    pub(crate) fn detected(&self, kind: Kind, took: Duration) {
        self.detect[kind_index(kind)].record(took.as_secs_f64());
    }

    /// Counts a connect that failed.
    pub(crate) fn dial_failed(&self, cause: DialCause) {
        self.dial_failures[cause as usize].increment(1);
    }
}

fn kind_index(kind: Kind) -> usize {
    KINDS
        .iter()
        .position(|one| *one == kind)
        .unwrap_or(KINDS.len() - 1)
}
