//! One simulated gateway: connects, follows the stream, acknowledges, comes again when the connection is lost.
//!
//! Owns what the gateway holds: its position, the leases of its group, versions of policies. It never compiles
//! anything. Driven by [`crate::fleet`]; what it was made to do goes over [`Member::calls`].

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use compact_str::CompactString;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{
    Ack, Assembler, Batch, Frame, Hello, PING_SECONDS, Resume, ServedNetwork, read_line,
};
use tidegate_control_wire::record::Change;
use tidegate_policy::effective::Generation;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::calls::Calls;
use crate::watch::Watch;

/// A stream on which nothing comes for this long is dead, as in the gateway.
const SILENCE: Duration = Duration::from_secs(3 * PING_SECONDS);
/// Pauses before the next try, as in the gateway: doubled, half of it by chance.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// Pause before an acknowledgement that failed is sent again, as in the gateway.
const ACK_AGAIN: Duration = Duration::from_secs(1);

/// Who it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name; its token has the same.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its token.
    pub token: String,
    /// Which of all gateways it is.
    pub index: usize,
}

/// What it holds.
#[derive(Debug, Default)]
pub struct Held {
    /// Where it is; none before its first batch.
    pub resume: Option<Resume>,
    /// Living leases of its group.
    pub leases: HashSet<CompactString>,
    /// Newest version of the policies that it was told.
    pub policies: HashMap<CompactString, u32>,
    /// Snapshots that it was sent.
    pub snapshots: u32,
    /// What is to be acknowledged, and whether the marker is in it.
    waiting: Option<(Generation, bool)>,
}

/// A simulated gateway.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub identity: Identity,
    address: SocketAddr,
    watch: Arc<Watch>,
    held: Mutex<Held>,
    calls: Mutex<Option<Calls>>,
    due: Notify,
}

impl Member {
    /// One that goes on from `resume`, or has nothing.
    pub fn new(identity: Identity, address: SocketAddr, watch: Arc<Watch>, resume: Option<Resume>) -> Self {
        let held = Held {
            resume,
            ..Held::default()
        };
        Self {
            identity,
            address,
            watch,
            held: Mutex::new(held),
            calls: Mutex::new(None),
            due: Notify::new(),
        }
    }

    /// The connection, while there is one whose stream has begun.
    pub fn calls(&self) -> Option<Calls> {
        self.calls.lock().clone()
    }

    /// Looks at what it holds.
    pub fn look<T>(&self, at: impl FnOnce(&Held) -> T) -> T {
        at(&self.held.lock())
    }

    /// Something that it was made to do failed.
    pub fn failed(&self, what: &anyhow::Error) {
        self.watch.failed(what);
    }

    /// Follows the control plane for ever.
    pub async fn run(self: Arc<Self>) -> Infallible {
        let mut pause = SHORTEST;
        loop {
            let Err(error) = self.session(&mut pause).await;
            if self.calls.lock().take().is_some() {
                self.watch.lost.fetch_add(1, Relaxed);
            } else {
                self.watch.refused.fetch_add(1, Relaxed);
            }
            self.watch.failed(&error);
            // As far apart as chance would have them, and the same in every run.
            let share = (self.identity.index.wrapping_mul(2_654_435_761) % 1_000) as f64 / 1_000.0;
            sleep(pause.mul_f64(0.5 + share / 2.0)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    async fn session(&self, pause: &mut Duration) -> Result<Infallible> {
        let (calls, _driver) = Calls::open(self.address, &self.identity.token).await?;
        let hello = Hello {
            protocol: PROTOCOL,
            gateway: self.identity.name.as_str().into(),
            group: Some(self.identity.group.as_str().into()),
            version: "fleet".into(),
            networks: vec![ServedNetwork {
                name: "runners".into(),
                cluster: "".into(),
                ranges: vec!["10.0.0.0/8".parse()?],
                ..ServedNetwork::default()
            }],
            resume: self.look(|held| held.resume.clone()),
        };
        let body = calls.stream(&hello).await?;
        tokio::select! {
            lost = self.follow(body, &calls, pause) => lost,
            never = self.acknowledge(&calls) => match never {},
        }
    }

    async fn follow(&self, mut body: Incoming, calls: &Calls, pause: &mut Duration) -> Result<Infallible> {
        let (mut text, mut assembler) = (Vec::new(), Assembler::default());
        loop {
            let came = timeout(SILENCE, body.frame()).await.context("silence")?;
            let frame = came.context("the stream ended")??;
            let Some(bytes) = frame.data_ref() else { continue };
            self.watch.bytes.fetch_add(bytes.len() as u64, Relaxed);
            text.extend_from_slice(bytes);
            let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            for line in text[..end].split(|byte| *byte == b'\n') {
                let frame = read_line(line)?;
                if let Frame::Begin { .. } = &frame {
                    *self.calls.lock() = Some(calls.clone());
                    self.watch.moved.notify_one();
                }
                *pause = SHORTEST;
                if let Some(batch) = assembler.take(frame)? {
                    self.put_in_force(batch)?;
                }
            }
            text.drain(..=end);
        }
    }

    fn put_in_force(&self, batch: Batch) -> Result<()> {
        let mut held = self.held.lock();
        if batch.reset {
            held.leases.clear();
            held.policies.clear();
            held.snapshots += 1;
        } else if held.resume.as_ref().map(|resume| &resume.epoch) != Some(&batch.epoch) {
            bail!("changes of another store");
        }
        let mut marked = held.waiting.is_some_and(|(_, marked)| marked);
        for change in batch.changes {
            match change {
                Change::Policy(record) => {
                    let newest = record.versions.last().map_or(0, |one| one.version);
                    // A record may come twice; it is there since the first time.
                    if held.policies.get(&record.id) != Some(&newest) && self.watch.is_marker(&record) {
                        marked = true;
                        self.watch.arrived();
                    }
                    held.policies.insert(record.id, newest);
                }
                Change::PolicyGone { id } => drop(held.policies.remove(&id)),
                Change::Lease(lease) => drop(held.leases.insert(lease.id)),
                Change::LeaseGone { id, .. } => drop(held.leases.remove(&id)),
                Change::Set(_)
                | Change::SetGone { .. }
                | Change::Attachment { .. }
                | Change::Token(_)
                | Change::TokenGone { .. }
                | Change::Issuer(_)
                | Change::IssuerGone { .. }
                | Change::Block(_) => {}
            }
        }
        held.resume = Some(Resume {
            epoch: batch.epoch,
            generation: batch.generation,
        });
        held.waiting = Some((batch.generation, marked));
        self.watch.commits.fetch_add(1, Relaxed);
        self.due.notify_one();
        Ok(())
    }

    /// One acknowledgement is under way at a time; what came meanwhile goes with the next one.
    async fn acknowledge(&self, calls: &Calls) -> Infallible {
        loop {
            let waiting = self.held.lock().waiting.take();
            let Some((generation, marked)) = waiting else {
                self.due.notified().await;
                continue;
            };
            let refused = Vec::new();
            match calls.ack(&Ack { generation, refused }).await {
                Ok(()) => {
                    self.watch.acks.fetch_add(1, Relaxed);
                    if marked {
                        self.watch.acknowledged();
                    }
                }
                Err(error) => {
                    self.watch.failed(&error);
                    self.unsent(generation, marked);
                    sleep(ACK_AGAIN).await;
                }
            }
        }
    }

    /// It goes with the next one.
    fn unsent(&self, generation: Generation, marked: bool) {
        let mut held = self.held.lock();
        let newer = held.waiting.unwrap_or((generation, false));
        held.waiting = Some((newer.0.max(generation), newer.1 || marked));
    }
}
