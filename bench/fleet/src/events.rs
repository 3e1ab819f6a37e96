//! Events on their way: small batches of many gateways, as a fleet that is not in a hurry sends them.
//!
//! Owns their text, and the numbers of each gateway's spool. What a batch costs the store is `benches/events`' matter; here
//! it stands beside everything else.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use tidegate_bench::measure::{Quantiles, instant};
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, BatchStored, Lane};
use tokio::task::JoinSet;

use crate::fleet::Fleet;
use crate::member::Member;

/// Events of one batch: what a gateway with a handful of jobs gathers in a second or two.
const BATCH: u64 = 50;
/// Gateways that deliver at once.
const AT_ONCE: usize = 32;

/// What was delivered.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// Events that the store said to have.
    pub events: u64,
    /// How long a batch took.
    pub waits: Quantiles,
    /// By the clock.
    pub elapsed: Duration,
    /// Batches without a good answer.
    pub failed: u64,
}

/// Every gateway in its turn delivers a batch, many at once, for as long as this.
pub async fn deliver(fleet: &Fleet, lasting: Duration) -> Result<Delivered> {
    let members: Arc<[Arc<Member>]> = fleet.members.clone().into();
    let failed = Arc::new(AtomicU64::new(0));
    let begun = instant();
    let mut senders = JoinSet::new();
    let at_once = AT_ONCE.min(members.len());
    for sender in 0..at_once {
        let (members, failed) = (Arc::clone(&members), Arc::clone(&failed));
        senders.spawn(async move {
            let mut waits = Vec::new();
            let mut stored = 0;
            // Gateways of its own: each has one batch of a lane under way, as in the gateway.
            let own: Vec<_> = members.iter().skip(sender).step_by(at_once).collect();
            let mut turn = 0;
            while begun.elapsed() < lasting {
                let (round, member) = (turn / own.len() as u64, own[turn as usize % own.len()]);
                turn += 1;
                let Some(calls) = member.calls() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let body = batch(&member.identity.name, round)?;
                let sent = instant();
                match calls.ship(body).await {
                    Ok(answer) => {
                        let answer: BatchStored = serde_json::from_slice(&answer)?;
                        anyhow::ensure!(answer.refused == 0, "{answer:?}");
                        waits.push(sent.elapsed());
                        stored += BATCH;
                    }
                    Err(error) => {
                        failed.fetch_add(1, Relaxed);
                        member.failed(&error);
                    }
                }
            }
            anyhow::Ok((waits, stored))
        });
    }
    let (mut waits, mut events) = (Vec::new(), 0);
    while let Some(sender) = senders.join_next().await {
        let (some, stored) = sender??;
        waits.extend(some);
        events += stored;
    }
    Ok(Delivered {
        events,
        waits: Quantiles::of(waits),
        elapsed: begun.elapsed(),
        failed: failed.load(Relaxed),
    })
}

/// Batch number `round` of a gateway.
fn batch(gateway: &str, round: u64) -> Result<Vec<u8>> {
    let head = BatchHead {
        protocol: PROTOCOL,
        spool: gateway.into(),
        lane: Lane::Permits,
        dropped: 0,
    };
    let mut text = serde_json::to_string(&head)?;
    for n in 0..BATCH {
        let event = json!({
            "schema": 1, "time": format!("{:.3}", Timestamp::now()), "id": format!("{n:08x}"), "gateway": gateway,
            "network": "runners", "source": format!("10.77.0.{}", n % 250), "source_port": 40_000 + n,
            "job": {
                "id": format!("job_{gateway}-{}", n % 4), "owner": "acme", "repo": format!("acme/service-{}", n % 4),
                "workflow": "ci.yml", "job": "build", "run_id": (n % 4).to_string(), "run_attempt": 1,
                "runner_name": format!("runner-{}", n % 4), "event": "push", "ref": "refs/heads/main", "actor": "ada",
                "assurance": "declared",
            },
            "kind": "tls", "name": format!("host-{n}.bench.example"), "name_source": "sni", "mode": "block",
            "verdict": "permit", "rule": "*.bench.example:443", "policy": "acme/policy-1", "policy_version": 1,
            "scope": "repo:acme/service-1", "count": 1, "address": format!("192.0.2.{n}"), "port": 443,
            "bytes_up": 1_820, "bytes_down": 48_213, "duration_ms": 312,
        });
        // Writing to a String can't fail.
        let _ = write!(text, "\n{{\"seq\":{},\"event\":{event}}}", round * BATCH + n + 1);
    }
    text.push('\n');
    Ok(text.into_bytes())
}
