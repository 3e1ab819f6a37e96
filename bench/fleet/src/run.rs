//! The order of things: for each size connect, stand still, publish, fill up, publish beside registrations; at the end
//! deliver events, connect with nothing, lose the control plane.
//!
//! Owns what is measured when; what it gives is an [`Outcome`]. Driven by `main` and the smoke test.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use tidegate_bench::measure::instant;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::calls::Calls;
use crate::events::{self, Delivered};
use crate::fleet::{Fleet, wait};
use crate::load::{self, Book, Registered};
use crate::outcome::{Cost, Figures, Herd, Outcome, Publishing};
use crate::plan::{Plan, Step};
use crate::plane::Plane;
use crate::publish;

/// Between two policies that are published.
const BETWEEN: Duration = Duration::from_millis(300);

/// What a run has in its hands.
struct Run<'a> {
    plan: &'a Plan,
    plane: Plane,
    fleet: Fleet,
    book: Arc<Book>,
    admin: Calls,
    /// What drives its connection.
    driver: JoinSet<()>,
    /// Which policy is published next.
    turn: usize,
    tell: &'a dyn Fn(&str),
}

/// Does everything that `plan` says, with the control plane of `program` in `folder`; `tell` hears how far it is.
pub async fn run(
    plan: &Plan,
    (program, folder): (&Path, &Path),
    store: Option<String>,
    tell: &dyn Fn(&str),
) -> Result<Outcome> {
    let plane = Plane::start(program, folder, store).await?;
    tell(&format!("control plane {} at {}", plane.pid()?, plane.address()));
    let (admin, driver) = plane.admin().await?;
    publish::fill(&admin, plan.policies, plan.endpoints).await?;
    tell(&format!(
        "{} policies of {} endpoints",
        plan.policies, plan.endpoints
    ));
    let mut run = Run {
        plan,
        plane,
        fleet: Fleet::new(plan.group),
        book: Arc::default(),
        admin,
        driver,
        turn: 0,
        tell,
    };
    let mut steps = Vec::new();
    for step in &plan.steps {
        let figures = run.step(*step).await?;
        tell(&crate::report::line(&figures));
        steps.push(figures);
    }
    let events = run.events().await?;
    tell(&crate::report::events_line(&events));
    let cold = run.cold().await?;
    tell(&crate::report::cold_line(&cold, plan.cold));
    let herd = run.herd().await?;
    tell(&crate::report::herd_line(&herd));
    let wrong = run.wrong().await;
    let agreed = (run.fleet.members.len(), run.agreed().await?);
    Ok(Outcome {
        steps,
        events,
        cold,
        herd,
        agreed,
        wrong,
        failed: run.book.failed.load(Relaxed),
    })
}

impl Run<'_> {
    async fn step(&mut self, step: Step) -> Result<Figures> {
        let plan = self.plan;
        let before = (self.fleet.members.len(), self.book.living());
        let trouble = self.trouble();
        let lost = self.fleet.watch.lost.load(Relaxed);
        let empty = self.plane.memory()?;
        let connected = self.fleet.grow(&self.plane, step.gateways, plan.patience).await?;
        let with_gateways = self.plane.memory()?;
        (self.tell)(&format!(
            "{} gateways after {:.1} s",
            connected.0,
            connected.1.as_secs_f64()
        ));
        let (idle, ()) = self.charged(async |_| sleep(plan.idle).await).await?;
        let quiet = self.publishing().await?;
        let (filling, filled) = self.charged(async |run| run.fill(step.leases).await).await?;
        let filled = filled?;
        let with_leases = self.plane.memory()?;
        let (busy, paced) = self.busy().await?;
        let wrong = self.wrong().await;
        let now = self.trouble();
        Ok(Figures {
            step,
            connected,
            memory: [empty, with_gateways, with_leases],
            added: (
                step.gateways.saturating_sub(before.0),
                self.book.living().saturating_sub(before.1),
            ),
            idle,
            quiet,
            filled,
            filling,
            living: self.book.living(),
            busy,
            paced,
            trouble: std::array::from_fn(|at| now[at] - trouble[at]),
            failures: self.fleet.watch.failures(),
            lost: self.fleet.watch.lost.load(Relaxed) - lost,
            wrong,
        })
    }

    fn trouble(&self) -> [u64; 4] {
        let book = &self.book;
        [&book.again, &book.failed, &book.unseen, &book.late].map(|count: &AtomicU64| count.load(Relaxed))
    }

    /// Does something, and says what it cost.
    async fn charged<T>(&mut self, work: impl AsyncFnOnce(&mut Self) -> T) -> Result<(Cost, T)> {
        let of = |run: &Self| {
            let watch = &run.fleet.watch;
            (watch.bytes.load(Relaxed), watch.commits.load(Relaxed))
        };
        let (begun, cpu, before) = (instant(), self.plane.cpu()?, of(self));
        let done = work(self).await;
        let after = of(self);
        let cost = Cost {
            elapsed: begun.elapsed(),
            cpu: self.plane.cpu()?.saturating_sub(cpu),
            bytes: after.0 - before.0,
            commits: after.1 - before.1,
        };
        Ok((cost, done))
    }

    async fn fill(&mut self, target: usize) -> Result<Registered> {
        let plan = self.plan;
        let pace = (plan.in_flight, plan.patience);
        load::fill(&self.fleet, &self.book, (target, plan.policies), pace).await
    }

    /// Publishes some policies, one after another.
    async fn publishing(&mut self) -> Result<Publishing> {
        let plan = self.plan;
        let (cost, all) = self
            .charged(async |run| {
                let mut all = Vec::new();
                for _ in 0..plan.publishes {
                    let which = (run.turn % plan.policies, plan.endpoints);
                    let all_of_them = (run.fleet.members.len(), plan.patience / 10);
                    all.push(publish::publish(&run.fleet, &run.admin, which, all_of_them).await?);
                    run.turn += 1;
                    sleep(BETWEEN).await;
                }
                anyhow::Ok(all)
            })
            .await?;
        Ok(Publishing { all: all?, cost })
    }

    /// The same beside registrations and ends.
    async fn busy(&mut self) -> Result<(Publishing, Registered)> {
        let (pacing, stop) = self.pacing();
        let published = self.publishing().await;
        stop.notify_one();
        Ok((published?, pacing.await??))
    }

    /// Registrations and ends beside whatever comes, until told to stop.
    fn pacing(&self) -> (JoinHandle<Result<Registered>>, Arc<Notify>) {
        let stop = Arc::new(Notify::new());
        let (members, book) = (self.fleet.members.clone(), Arc::clone(&self.book));
        let (stopped, rate) = (Arc::clone(&stop), (self.plan.pace, self.plan.policies));
        let pacing = tokio::spawn(async move { load::pace(members, &book, rate, stopped.notified()).await });
        (pacing, stop)
    }

    async fn events(&mut self) -> Result<(Delivered, Registered, Cost)> {
        let plan = self.plan;
        let (pacing, stop) = self.pacing();
        let (cost, delivered) = self
            .charged(async |run| events::deliver(&run.fleet, plan.events).await)
            .await?;
        stop.notify_one();
        Ok((delivered?, pacing.await??, cost))
    }

    async fn cold(&mut self) -> Result<(usize, Duration, Cost)> {
        let plan = self.plan;
        let (cost, cold) = self
            .charged(async |run| run.fleet.cold(&run.plane, plan.cold, plan.patience).await)
            .await?;
        let (reached, elapsed) = cold?;
        Ok((reached, elapsed, cost))
    }

    async fn herd(&mut self) -> Result<Herd> {
        let plan = self.plan;
        drop(self.fleet.watch.failures());
        let refused = self.fleet.watch.refused.load(Relaxed);
        let begun = instant();
        self.plane.restart()?;
        self.plane.ready().await?;
        let ready = begun.elapsed();
        (self.admin, self.driver) = self.plane.admin().await?;
        let offset = begun.elapsed();
        let all = self.fleet.members.len();
        let which = (self.turn % plan.policies, plan.endpoints);
        self.turn += 1;
        let published = publish::publish(&self.fleet, &self.admin, which, (all, plan.patience)).await?;
        let current = &published.reached.acknowledged;
        Ok(Herd {
            ready,
            reached: (current.len(), all),
            current: current.clone(),
            offset,
            cpu: self.plane.cpu()?,
            refused: self.fleet.watch.refused.load(Relaxed) - refused,
            failures: self.fleet.watch.failures(),
        })
    }

    /// Gateways with another number of leases than their group has, once what is under way has arrived.
    async fn wrong(&self) -> usize {
        let living = self.book.by_group(self.plan.group);
        let all = self.fleet.members.len();
        let right = || all - self.fleet.wrong_leases(&living).1;
        all - wait(self.plan.patience / 10, right, all).await
    }

    /// Gateways that control says are as far as they are, once what is under way has arrived.
    async fn agreed(&self) -> Result<usize> {
        let begun = instant();
        loop {
            let agreed = self.fleet.agreed(&self.admin).await?;
            if agreed == self.fleet.members.len() || begun.elapsed() > self.plan.patience / 10 {
                return Ok(agreed);
            }
            sleep(BETWEEN).await;
        }
    }
}
