//! Jobs that begin and end: registrations at the gateways, as many as go or so many a second.
//!
//! Owns the book of what lives. A registration that gets no answer is told again with the same id, as a gateway's outbox
//! does; one that never gets any is counted as failed, and its lease does not count as living.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_bench::measure::{Quantiles, instant};
use tidegate_control_wire::claim::{Claim, End, EndedBy, Granted};
use tidegate_control_wire::record::{CredentialKind, Ending, LeaseRecord};
use tidegate_policy::effective::Generation;
use tidegate_policy::job::{Assurance, JobIdentity};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::member::Member;

/// How often one thing is tried, and the pause between.
const TRIES: u32 = 30;
const AGAIN: Duration = Duration::from_millis(200);
/// Paced registrations under way at once; what is due beyond that is counted as late.
const MOST: usize = 512;
/// How long a lease lasts: longer than any run.
const HOURS: i64 = 12;

/// What lives, and what became of the rest.
#[derive(Debug, Default)]
pub struct Book {
    living: Mutex<VecDeque<(usize, String)>>,
    next: AtomicU64,
    /// Registrations that were told again.
    pub again: AtomicU64,
    /// Registrations and ends that never got a good answer.
    pub failed: AtomicU64,
    /// Registrations that another gateway of the group had not in force when they were answered.
    pub unseen: AtomicU64,
    /// Those that were due while too many were under way.
    pub late: AtomicU64,
}

/// What some registrations took.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    /// From the first try to the good answer.
    pub waits: Quantiles,
    /// By the clock.
    pub elapsed: Duration,
}

impl Registered {
    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.waits.len() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// What a gateway has to tell.
#[derive(Clone, Copy, Debug)]
enum Word<'a> {
    Begins(&'a Claim),
    Ends(&'a str, &'a End),
}

impl Book {
    /// Living leases.
    pub fn living(&self) -> usize {
        self.living.lock().len()
    }

    /// The same by group of `group` gateways.
    pub fn by_group(&self, group: usize) -> BTreeMap<usize, u64> {
        let mut groups = BTreeMap::new();
        for (gateway, _) in &*self.living.lock() {
            *groups.entry(gateway / group).or_default() += 1;
        }
        groups
    }

    async fn register(&self, member: &Member, policies: usize) -> Option<Duration> {
        let number = self.next.fetch_add(1, Relaxed);
        let claim = Claim {
            lease: lease(member, number, policies),
            replaces: Vec::new(),
            proof: None,
            granted: false,
        };
        let id = claim.lease.id.to_string();
        let begun = instant();
        let granted = self.persist(member, Word::Begins(&claim)).await??;
        if granted.members.iter().any(|one| !one.has_it) {
            self.unseen.fetch_add(1, Relaxed);
        }
        self.living.lock().push_back((member.identity.index, id));
        Some(begun.elapsed())
    }

    async fn end_oldest(&self, fleet: &Shared) {
        let Some((gateway, id)) = self.living.lock().pop_front() else {
            return;
        };
        let end = End {
            at: Timestamp::now(),
            by: EndedBy::Job,
            ending: Ending::Release,
        };
        self.persist(&fleet[gateway], Word::Ends(&id, &end)).await;
    }

    /// Asks until there is a good answer, or [`TRIES`] are over.
    async fn persist(&self, member: &Member, word: Word<'_>) -> Option<Option<Granted>> {
        for tried in 0..TRIES {
            if tried > 0 {
                self.again.fetch_add(1, Relaxed);
                sleep(AGAIN).await;
            }
            let Some(calls) = member.calls() else { continue };
            let answer = match word {
                Word::Begins(claim) => calls.claim(claim).await.map(Some),
                Word::Ends(id, end) => calls.end(id, end).await.map(|()| None),
            };
            match answer {
                Ok(answer) => return Some(answer),
                Err(error) => member.failed(&error),
            }
        }
        self.failed.fetch_add(1, Relaxed);
        None
    }
}

/// Gateways by their number.
type Shared = Arc<[Arc<Member>]>;

/// Registers until `target` leases live, `in_flight` at a time, or until patience ends.
pub async fn fill(
    fleet: &Fleet,
    book: &Arc<Book>,
    (target, policies): (usize, usize),
    (in_flight, patience): (usize, Duration),
) -> Result<Registered> {
    let members: Shared = fleet.members.clone().into();
    ensure!(!members.is_empty(), "there is no gateway");
    let begun = instant();
    let next = Arc::new(AtomicUsize::new(book.living()));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (members, book, next) = (Arc::clone(&members), Arc::clone(book), Arc::clone(&next));
        workers.spawn(async move {
            let mut waits = Vec::new();
            while begun.elapsed() < patience {
                let number = next.fetch_add(1, Relaxed);
                if number >= target {
                    break;
                }
                waits.extend(book.register(&members[number % members.len()], policies).await);
            }
            waits
        });
    }
    let waits = workers.join_all().await.concat();
    Ok(Registered {
        waits: Quantiles::of(waits),
        elapsed: begun.elapsed(),
    })
}

/// Registers `rate` jobs a second and ends as many, the oldest first, until told to stop.
pub async fn pace(
    members: Vec<Arc<Member>>,
    book: &Arc<Book>,
    (rate, policies): (u64, usize),
    over: impl Future<Output = ()>,
) -> Result<Registered> {
    let members: Shared = members.into();
    ensure!(!members.is_empty() && rate > 0, "nothing to pace");
    let room = Arc::new(Semaphore::new(MOST));
    let begun = instant();
    let mut running = JoinSet::new();
    let mut waits = Vec::new();
    let due = async {
        for turn in 0_u64.. {
            let at = Duration::from_micros(turn * 1_000_000 / rate);
            sleep(at.saturating_sub(begun.elapsed())).await;
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                book.late.fetch_add(1, Relaxed);
                continue;
            };
            let (members, book) = (Arc::clone(&members), Arc::clone(book));
            running.spawn(async move {
                // A prime step visits all gateways before it repeats one.
                let at = (turn as usize).wrapping_mul(7_919) % members.len();
                let wait = book.register(&members[at], policies).await;
                book.end_oldest(&members).await;
                drop(permit);
                wait
            });
            while let Some(done) = running.try_join_next() {
                waits.extend(done.ok().flatten());
            }
        }
    };
    tokio::select! {
        () = due => {}
        () = over => {}
    }
    let elapsed = begun.elapsed();
    while let Some(done) = running.join_next().await {
        waits.extend(done?);
    }
    Ok(Registered {
        waits: Quantiles::of(waits),
        elapsed,
    })
}

fn lease(member: &Member, number: u64, policies: usize) -> LeaseRecord {
    // Numbers are never given twice, so that no two leases of a group share a source.
    let [.., a, b, c] = number.to_be_bytes();
    let policy = number as usize % policies;
    let (owner, repo) = crate::publish::governed(policy);
    let now = Timestamp::now();
    LeaseRecord {
        id: format!("job_fleet-{number}").into(),
        gateway: member.identity.name.as_str().into(),
        network: "runners".into(),
        sources: vec![IpAddr::V4(Ipv4Addr::new(10, a, b, c))],
        identity: JobIdentity {
            owner: owner.into(),
            repo: repo.into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: compact_str::format_compact!("{number}"),
            run_attempt: 1,
            runner_name: compact_str::format_compact!("runner-{number}"),
            cluster: "".into(),
            event: "push".into(),
            git_ref: "refs/heads/main".into(),
            actor: "ada".into(),
            head_repo: "".into(),
            assurance: Assurance::Declared,
        },
        credential: CredentialKind::RunnerToken,
        token_id: None,
        began: Generation(0),
        started_at: now,
        expires_at: now + jiff::SignedDuration::from_hours(HOURS),
    }
}
