//! The gateways together: made, grown, waited for, asked whether anything is missing.
//!
//! Owns the members and the tasks that they are. The run decides how many there are.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tidegate_bench::measure::instant;
use tidegate_control_wire::frame::Resume;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::calls::Calls;
use crate::member::{Identity, Member};
use crate::plane::Plane;
use crate::watch::Watch;

/// Between two looks at all members.
const LOOK: Duration = Duration::from_millis(20);
/// Tokens that are made at once.
const MAKERS: usize = 16;

/// A fleet of simulated gateways.
#[derive(Debug)]
pub struct Fleet {
    /// What is counted.
    pub watch: Arc<Watch>,
    /// The gateways, in the order in which they were made.
    pub members: Vec<Arc<Member>>,
    tasks: JoinSet<Infallible>,
    group: usize,
}

impl Fleet {
    /// Nobody yet; `group` gateways share their leases.
    pub fn new(group: usize) -> Self {
        Self {
            watch: Arc::default(),
            members: Vec::new(),
            tasks: JoinSet::new(),
            group,
        }
    }

    /// Adds gateways up to `to` that hold what the first one does (a gateway that was connected before has it on its
    /// disk), but for the first one itself, which gets a snapshot. Gives back how many are connected, and after how long.
    pub async fn grow(&mut self, plane: &Plane, to: usize, patience: Duration) -> Result<(usize, Duration)> {
        if self.members.is_empty() {
            self.add(plane, 1, None).await?;
            let first = Arc::clone(&self.members[0]);
            let has_it = || first.look(|held| held.resume.is_some());
            wait(patience, || usize::from(has_it()), 1).await;
            ensure!(
                has_it(),
                "the first gateway gets no snapshot: {:?}",
                self.watch.failures()
            );
        }
        let held = self.members[0].look(|held| held.resume.clone());
        let begun = self.add(plane, to, held).await?;
        let connected = wait(patience, || self.connected(), to).await;
        Ok((connected, begun.elapsed()))
    }

    /// Adds `more` gateways of one group that hold nothing; how long it takes each until it has the snapshot.
    pub async fn cold(
        &mut self,
        plane: &Plane,
        more: usize,
        patience: Duration,
    ) -> Result<(usize, Duration)> {
        let from = self.members.len();
        let begun = self.add(plane, from + more, None).await?;
        let whole = |member: &&Arc<Member>| member.look(|held| held.snapshots > 0);
        let cold = self.members[from..].to_vec();
        let reached = wait(patience, || cold.iter().filter(whole).count(), more).await;
        Ok((reached, begun.elapsed()))
    }

    /// How many have a stream.
    pub fn connected(&self) -> usize {
        let has = |member: &&Arc<Member>| member.calls().is_some();
        self.members.iter().filter(has).count()
    }

    async fn add(&mut self, plane: &Plane, to: usize, held: Option<Resume>) -> Result<std::time::Instant> {
        let from = self.members.len();
        let tokens = tokens(plane, from..to).await?;
        let begun = instant();
        for (index, token) in (from..to).zip(tokens) {
            let group = format!("pair-{}", index / self.group);
            // A store's history is a group's history.
            let resume = held.clone().map(|held| {
                let store = held
                    .epoch
                    .rsplit_once("/group:")
                    .map_or(held.epoch.as_str(), |(store, _)| store);
                Resume {
                    epoch: format!("{store}/group:{group}"),
                    generation: held.generation,
                }
            });
            let identity = Identity {
                name: name(index),
                group,
                token,
                index,
            };
            let member = Member::new(identity, plane.address(), Arc::clone(&self.watch), resume);
            let member = Arc::new(member);
            self.members.push(Arc::clone(&member));
            self.tasks.spawn(member.run());
        }
        Ok(begun)
    }

    /// Leases that each gateway holds more or less than its group has, and how many gateways that is.
    pub fn wrong_leases(&self, living: &BTreeMap<usize, u64>) -> (u64, usize) {
        let (mut missing, mut gateways) = (0, 0);
        for member in &self.members {
            let of_group = living.get(&(member.identity.index / self.group));
            let holds = member.look(|held| held.leases.len() as u64);
            let wrong = holds.abs_diff(of_group.copied().unwrap_or(0));
            missing += wrong;
            gateways += usize::from(wrong > 0);
        }
        (missing, gateways)
    }

    /// Gateways that the control plane says are connected and as far as they are themselves.
    pub async fn agreed(&self, admin: &Calls) -> Result<usize> {
        let page = admin.api(Method::GET, "/api/v1/gateways", None).await?;
        let connected = page["items"].as_array().into_iter().flatten();
        let told: BTreeMap<&str, u64> = connected
            .filter(|one| one["connected"] == true)
            .filter_map(|one| Some((one["name"].as_str()?, one["generation"].as_u64()?)))
            .collect();
        let agrees = |member: &&Arc<Member>| {
            let here = member.look(|held| held.resume.as_ref().map(|resume| resume.generation.0));
            told.get(member.identity.name.as_str()).copied() == here
        };
        Ok(self.members.iter().filter(agrees).count())
    }
}

/// Waits until the count is `want` or patience ends; says what it was last.
pub async fn wait(patience: Duration, count: impl Fn() -> usize, want: usize) -> usize {
    let begun = instant();
    loop {
        let now = count();
        if now >= want || begun.elapsed() > patience {
            return now;
        }
        sleep(LOOK).await;
    }
}

fn name(index: usize) -> String {
    format!("gw-{index:05}")
}

/// Tokens of these gateways, in their order.
async fn tokens(plane: &Plane, range: std::ops::Range<usize>) -> Result<Vec<String>> {
    let (admin, _driver) = plane.admin().await?;
    let next = Arc::new(AtomicUsize::new(range.start));
    let mut makers = JoinSet::new();
    for _ in 0..MAKERS {
        let (admin, next, end) = (admin.clone(), Arc::clone(&next), range.end);
        makers.spawn(async move {
            let mut made = Vec::new();
            loop {
                let index = next.fetch_add(1, Relaxed);
                if index >= end {
                    return anyhow::Ok(made);
                }
                let wanted: Value = json!({"role": "gateway", "name": name(index)});
                let token = admin.api(Method::POST, "/api/v1/tokens", Some(&wanted)).await?;
                let text = token["token"].as_str().context("no token")?;
                made.push((index, text.to_owned()));
            }
        });
    }
    let mut all = Vec::new();
    while let Some(made) = makers.join_next().await {
        all.extend(made??);
    }
    all.sort_unstable();
    Ok(all.into_iter().map(|(_, token)| token).collect())
}
