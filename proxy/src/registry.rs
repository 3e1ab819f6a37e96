//! Open flows: by subject and by source, with the evidence that they were admitted by. Owns the caps on how
//! many there are and the re-judging of all of them after a change of policy or lease; never touches a
//! socket (it cancels the flow's task, which does). Driven by the flows themselves and by `gateway`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use parking_lot::Mutex;
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
use tokio_util::sync::CancellationToken;

use crate::address::ClientAddr;
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
    inner: Mutex<Inner>,
    subjects: Arc<dyn Subjects>,
    clock: Clock,
    bounds: Bounds,
    open: Gauge,
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

#[derive(Default)]
struct Inner {
    next: u64,
    flows: HashMap<u64, Arc<Entry>>,
    by_subject: HashMap<u64, HashSet<u64>>,
    by_source: HashMap<IpAddr, HashSet<u64>>,
}

struct Entry {
    source: IpAddr,
    traffic: Arc<Traffic>,
    closing: CancellationToken,
    state: Mutex<State>,
}

struct State {
    subject: Arc<Subject>,
    admission: Option<Admission>,
    holds: Vec<TicketHold>,
    cause: Option<Closing>,
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
            inner: Mutex::default(),
            subjects,
            clock,
            bounds,
            open: metrics::gauge!("tidegate_flows_open"),
            emptied: Notify::new(),
        })
    }

    /// Open flows.
    pub fn len(&self) -> usize {
        self.inner.lock().flows.len()
    }

    /// True when no flow is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters a new flow of `client`, undecided yet. Refused at the bounds, with reason `limit`.
    pub fn enter(self: &Arc<Self>, subject: Arc<Subject>, client: ClientAddr) -> Result<FlowHandle, Refusal> {
        let mut inner = self.inner.lock();
        let of_job = inner.by_subject.get(&subject.id).map_or(0, HashSet::len);
        if inner.flows.len() >= self.bounds.flows || of_job >= self.bounds.per_job {
            return Err(Refusal::because(Reason::Limit));
        }
        let id = inner.next;
        inner.next += 1;
        inner.by_subject.entry(subject.id).or_default().insert(id);
        inner.by_source.entry(client.ip()).or_default().insert(id);
        let state = State {
            subject,
            admission: None,
            holds: Vec::new(),
            cause: None,
        };
        let entry = Arc::new(Entry {
            source: client.ip(),
            traffic: Arc::default(),
            closing: CancellationToken::new(),
            state: Mutex::new(state),
        });
        inner.flows.insert(id, Arc::clone(&entry));
        self.open.set(inner.flows.len() as f64);
        drop(inner);
        // A lease that changed since the subject was looked up re-judged a flow that was not here yet.
        self.rejudge_one(id, &entry);
        Ok(FlowHandle {
            registry: Arc::clone(self),
            id,
            entry,
        })
    }

    /// Judges every flow of a subject again, after its rulebook was swapped. Returns how many were closed.
    pub fn rejudge_subject(&self, id: u64) -> usize {
        let flows = {
            let inner = self.inner.lock();
            inner.pick(inner.by_subject.get(&id))
        };
        self.rejudge(&flows)
    }

    /// Judges every flow of a source again, after a lease of it began, changed or ended.
    pub fn rejudge_source(&self, source: IpAddr) -> usize {
        let flows = {
            let inner = self.inner.lock();
            inner.pick(inner.by_source.get(&source.to_canonical()))
        };
        self.rejudge(&flows)
    }

    /// Judges every flow again, after something changed that all jobs share.
    pub fn rejudge_all(&self) -> usize {
        let flows: Vec<_> = self
            .inner
            .lock()
            .flows
            .iter()
            .map(|(id, entry)| (*id, Arc::clone(entry)))
            .collect();
        self.rejudge(&flows)
    }

    /// Ends every flow: the gateway stops.
    pub fn close_all(&self) {
        for entry in self.inner.lock().flows.values() {
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

    fn rejudge(&self, flows: &[(u64, Arc<Entry>)]) -> usize {
        flows
            .iter()
            .filter(|(id, entry)| self.rejudge_one(*id, entry))
            .count()
    }

    /// True when the flow had to be closed.
    fn rejudge_one(&self, id: u64, entry: &Arc<Entry>) -> bool {
        let now = self.clock.now();
        let subject = self.subjects.subject(entry.source, now);
        let before = entry.subject();
        let changed = before.id != subject.id;
        if changed {
            self.move_to(id, entry, &subject);
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

    fn move_to(&self, id: u64, entry: &Entry, subject: &Arc<Subject>) {
        let mut inner = self.inner.lock();
        if inner.flows.contains_key(&id) {
            remove_from(&mut inner.by_subject, entry.subject().id, id);
            inner.by_subject.entry(subject.id).or_default().insert(id);
        }
        entry.change_subject(subject);
    }

    fn leave(&self, id: u64, entry: &Entry) {
        let mut inner = self.inner.lock();
        inner.flows.remove(&id);
        remove_from(&mut inner.by_subject, entry.subject().id, id);
        remove_from(&mut inner.by_source, entry.source, id);
        self.open.set(inner.flows.len() as f64);
        if inner.flows.is_empty() {
            self.emptied.notify_waiters();
        }
        drop(inner);
        let holds = std::mem::take(&mut entry.state.lock().holds);
        for hold in holds {
            hold.release(self.bounds.ticket_hold, self.clock.now());
        }
    }
}

impl Inner {
    fn pick(&self, ids: Option<&HashSet<u64>>) -> Vec<(u64, Arc<Entry>)> {
        let found = |id: &u64| self.flows.get(id).map(|entry| (*id, Arc::clone(entry)));
        ids.into_iter().flatten().filter_map(found).collect()
    }
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, HashSet<u64>>, key: K, id: u64) {
    if let Some(ids) = map.get_mut(&key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(&key);
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
    fn holds(&self, subject: &Subject, now: tidegate_policy::Moment) -> Vec<TicketHold> {
        let names = match &self.proven {
            Some(name) => std::iter::once(name.clone()).collect(),
            None => subject.tickets().names_at(self.flow.address, now),
        };
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
        self.state.lock().cause.get_or_insert(cause);
        self.closing.cancel();
    }
}

/// A flow's place in the registry; dropping it leaves.
pub struct FlowHandle {
    registry: Arc<FlowRegistry>,
    id: u64,
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
        let current = self.subject().rulebook();
        if !Arc::ptr_eq(&current, book) {
            self.registry.rejudge_one(self.id, &self.entry);
        }
    }

    /// Leaves the flow without anything to be re-judged by until it is admitted again; its tickets stay its.
    pub fn rest(&self) {
        self.entry.state.lock().admission = None;
    }

    /// True when the registry ends the flow.
    pub fn is_closing(&self) -> bool {
        self.entry.closing.is_cancelled()
    }

    /// Returns when the registry ends the flow.
    pub async fn closed(&self) -> Closing {
        self.entry.closing.cancelled().await;
        self.entry.state.lock().cause.clone().unwrap_or(Closing::Drained)
    }
}

impl Drop for FlowHandle {
    fn drop(&mut self) {
        self.registry.leave(self.id, &self.entry);
    }
}
