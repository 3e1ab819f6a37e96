//! Open flows: by subject and by source, with the evidence that they were admitted by. Owns the caps on how
//! many there are and the re-judging of all of them after a change of policy or lease; never touches a
//! socket (it cancels the flow's task, which does). Driven by the flows themselves and by `gateway`.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use metrics::Gauge;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_dns::{Clock, Subjects};
use tidegate_policy::DnsName;
use tidegate_policy::detection::Detection;
use tidegate_policy::judge::flow::{
    Evidence, Flow, FlowRuling, ProxyTarget, Route, judge_flow, judge_tunnelled,
};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::subject::Subject;
use tidegate_policy::ticket::TicketHold;
use tidegate_policy::verdict::{Reason, Refusal};
use tokio::sync::Notify;

use crate::address::ClientAddr;
use crate::places::Places;
use crate::relay::Traffic;

/// Tickets that one flow holds at most: all names of an ordinary address.
const MOST_HELD: usize = 8;

/// What an admitted flow is re-judged by.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The flow, with the address that was dialled.
    pub flow: Flow,
    /// What its first bytes said.
    pub detection: Detection,
    /// Whom the forward proxy at the address is asked for, when it is one.
    pub target: Option<ProxyTarget>,
    /// The name for which the dialled address was proven.
    pub proven: Option<DnsName>,
}

/// Why the registry ends a flow.
#[derive(Clone, Debug)]
pub enum Closing {
    /// A new policy, or the policy of a new lease, refuses it.
    Refused {
        /// `policy-changed` or `lease-changed`.
        reason: Reason,
        /// What the new policy says.
        ruling: Box<FlowRuling>,
        /// What it judged.
        admission: Box<Admission>,
    },
    /// The gateway stops.
    Drained,
}

/// All open flows. Shared by every core.
pub struct FlowRegistry {
    open: Mutex<Places<Arc<Entry>>>,
    subjects: Arc<dyn Subjects>,
    clock: Clock,
    bounds: Bounds,
    gauge: Gauge,
    emptied: Notify,
}

/// Bounds of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Flows in all.
    pub flows: usize,
    /// Flows of one subject.
    pub per_job: usize,
    /// How long tickets live on after a flow that used them.
    pub ticket_hold: Duration,
}

struct Entry {
    source: IpAddr,
    traffic: Arc<Traffic>,
    closing: AtomicBool,
    /// The flow's task, which waits for `closing`.
    task: AtomicWaker,
    state: Mutex<State>,
}

/// Mostly one name is proven.
type Holds = SmallVec<[TicketHold; 1]>;

struct State {
    subject: Arc<Subject>,
    admission: Option<Admission>,
    holds: Holds,
    cause: Option<Box<Closing>>,
}

impl std::fmt::Debug for FlowRegistry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FlowRegistry")
            .field("open", &self.len())
            .finish_non_exhaustive()
    }
}

impl FlowRegistry {
    /// A registry without flows.
    pub fn new(subjects: Arc<dyn Subjects>, clock: Clock, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            subjects,
            clock,
            bounds,
            gauge: metrics::gauge!("tidegate_flows_open"),
            emptied: Notify::new(),
        })
    }

    /// Open flows.
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// True when no flow is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters a new flow of `client`, undecided yet. Refused at the bounds, with reason `limit`.
    pub fn enter(self: &Arc<Self>, subject: Arc<Subject>, client: ClientAddr) -> Result<FlowHandle, Refusal> {
        let mut open = self.open.lock();
        if open.len() >= self.bounds.flows || open.of_subject(subject.id) >= self.bounds.per_job {
            return Err(Refusal::because(Reason::Limit));
        }
        let (id, source) = (subject.id, client.ip());
        let entry = Arc::new(Entry {
            source,
            traffic: Arc::default(),
            closing: AtomicBool::new(false),
            task: AtomicWaker::new(),
            state: Mutex::new(State {
                subject,
                admission: None,
                holds: Holds::new(),
                cause: None,
            }),
        });
        let place = open.take(Arc::clone(&entry), id, source);
        self.gauge.set(open.len() as f64);
        drop(open);
        // A lease that changed since the subject was looked up re-judged a flow that was not here yet.
        self.rejudge_one(place, &entry);
        Ok(FlowHandle {
            registry: Arc::clone(self),
            place,
            entry,
        })
    }

    /// Judges every flow of a subject again, after its rulebook was swapped. Returns how many were closed.
    pub fn rejudge_subject(&self, id: u64) -> usize {
        let flows: Vec<_> = self.open.lock().subject(id).collect();
        self.rejudge(&flows)
    }

    /// Judges every flow of a source again, after a lease of it began, changed or ended.
    pub fn rejudge_source(&self, source: IpAddr) -> usize {
        let flows: Vec<_> = self.open.lock().source(source.to_canonical()).collect();
        self.rejudge(&flows)
    }

    /// Judges every flow again, after something changed that all jobs share.
    pub fn rejudge_all(&self) -> usize {
        let flows: Vec<_> = self.open.lock().all().collect();
        self.rejudge(&flows)
    }

    /// Ends every flow: the gateway stops.
    pub fn close_all(&self) {
        for (_, entry) in self.open.lock().all() {
            entry.close(Closing::Drained);
        }
    }

    /// Returns when no flow is open.
    pub async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            notified.await;
        }
    }

    fn rejudge(&self, flows: &[(u32, Arc<Entry>)]) -> usize {
        flows
            .iter()
            .filter(|(place, entry)| self.rejudge_one(*place, entry))
            .count()
    }

    /// True when the flow had to be closed.
    fn rejudge_one(&self, place: u32, entry: &Arc<Entry>) -> bool {
        let now = self.clock.now();
        let subject = self.subjects.subject(entry.source, now);
        let changed = entry.state.lock().subject.id != subject.id;
        if changed {
            self.move_to(place, entry, &subject);
        }
        let Some(admission) = entry.state.lock().admission.clone() else {
            // Undecided: it will be judged by its new subject when it is.
            return false;
        };
        let ruling = admission.judge(&subject, &subject.rulebook(), now);
        if ruling_stands(&ruling) {
            return false;
        }
        let reason = if changed {
            Reason::LeaseChanged
        } else {
            Reason::PolicyChanged
        };
        entry.close(Closing::Refused {
            reason,
            ruling: Box::new(ruling),
            admission: Box::new(admission),
        });
        true
    }

    fn move_to(&self, place: u32, entry: &Arc<Entry>, subject: &Arc<Subject>) {
        let mut open = self.open.lock();
        // It may have left meanwhile, and another one have come.
        if open.get(place).is_some_and(|there| Arc::ptr_eq(there, entry)) {
            open.change_subject(place, subject.id);
        }
        entry.change_subject(subject);
    }

    fn leave(&self, place: u32, entry: &Entry) {
        let mut open = self.open.lock();
        open.leave(place);
        let left = open.len();
        self.gauge.set(left as f64);
        if left == 0 {
            self.emptied.notify_waiters();
        }
        drop(open);
        let holds = std::mem::take(&mut entry.state.lock().holds);
        for hold in holds {
            hold.release(self.bounds.ticket_hold, self.clock.now());
        }
    }
}

/// An open flow stands when its very address may still be dialled.
fn ruling_stands(ruling: &FlowRuling) -> bool {
    match &ruling.route {
        Route::Dial(_) => true,
        Route::Closed | Route::Resolve(_) => false,
        // In audit; in block `otherwise` is closed.
        Route::Confirm { otherwise, .. } => ruling_stands(otherwise),
    }
}

impl Admission {
    fn judge(&self, subject: &Subject, book: &Rulebook, now: tidegate_policy::Moment) -> FlowRuling {
        let evidence = Evidence {
            tickets: subject.tickets(),
            proven: self.proven.as_ref(),
            now,
        };
        match &self.target {
            Some(target) => judge_tunnelled(book, self.flow, target, &self.detection, evidence),
            None => judge_flow(book, self.flow, &self.detection, evidence),
        }
    }

    /// The tickets that this flow counts on.
    fn holds(&self, subject: &Subject, now: tidegate_policy::Moment) -> Holds {
        if let Some(name) = &self.proven {
            let held = TicketHold::take(subject.tickets(), name, self.flow.address);
            return held.into_iter().collect();
        }
        let names = subject.tickets().names_at(self.flow.address, now);
        names
            .iter()
            .take(MOST_HELD)
            .filter_map(|name| TicketHold::take(subject.tickets(), name, self.flow.address))
            .collect()
    }
}

impl Entry {
    fn subject(&self) -> Arc<Subject> {
        Arc::clone(&self.state.lock().subject)
    }

    /// The tickets of the old subject are no longer this flow's business; its proof stays with it.
    fn change_subject(&self, subject: &Arc<Subject>) {
        let mut state = self.state.lock();
        state.subject = Arc::clone(subject);
        state.holds.clear();
    }

    fn close(&self, cause: Closing) {
        self.state.lock().cause.get_or_insert_with(|| Box::new(cause));
        self.closing.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// A flow's place in the registry; dropping it leaves.
pub struct FlowHandle {
    registry: Arc<FlowRegistry>,
    place: u32,
    entry: Arc<Entry>,
}

impl FlowHandle {
    /// The party that the flow is judged as; another one after a change of lease.
    pub fn subject(&self) -> Arc<Subject> {
        self.entry.subject()
    }

    /// What passed so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.entry.traffic
    }

    /// Keeps what the flow is re-judged by from now on, and its tickets. `book` is the rulebook that admitted
    /// it: when another one is in place by now, the flow is judged again at once.
    pub fn admit(&self, admission: Admission, book: &Arc<Rulebook>) {
        let now = self.registry.clock.now();
        let holds = {
            let mut state = self.entry.state.lock();
            let holds = admission.holds(&state.subject, now);
            state.admission = Some(admission);
            std::mem::replace(&mut state.holds, holds)
        };
        for hold in holds {
            hold.release(self.registry.bounds.ticket_hold, now);
        }
        if !self.entry.state.lock().subject.is_judged_by(book) {
            self.registry.rejudge_one(self.place, &self.entry);
        }
    }

    /// Leaves the flow without anything to be re-judged by until it is admitted again; its tickets stay its.
    pub fn rest(&self) {
        self.entry.state.lock().admission = None;
    }

    /// True when the registry ends the flow.
    pub fn is_closing(&self) -> bool {
        self.entry.closing.load(Ordering::Acquire)
    }

    /// Returns when the registry ends the flow. For one task: who waits last is told.
    pub async fn closed(&self) -> Closing {
        poll_fn(|cx| {
            if !self.is_closing() {
                self.entry.task.register(cx.waker());
                // Ended before it was known whom to tell.
                if !self.is_closing() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(())
        })
        .await;
        let cause = self.entry.state.lock().cause.clone();
        cause.map_or(Closing::Drained, |cause| *cause)
    }
}

impl Drop for FlowHandle {
    fn drop(&mut self) {
        self.registry.leave(self.place, &self.entry);
    }
}
