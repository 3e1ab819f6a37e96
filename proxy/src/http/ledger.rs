//! The events of one HTTP connection: one a distinct authority and verdict, with a count. Owns when they are
//! emitted (refusals at once, everything else when the connection ends or the bound is reached); never
//! decides. Driven by `session`, `h2c` and the audit observer.

use std::sync::Arc;

use tidegate_policy::detection::Authority;
use tidegate_policy::judge::flow::FlowRuling;
use tidegate_policy::verdict::{Reason, Verdict};

use crate::context::{FlowContext, Remarks};
use crate::explain::Explanation;
use crate::record::OpenRecord;
use crate::relay::Traffic;

/// Distinct authorities and verdicts that one connection keeps open; past it, the event of the one that was
/// seen longest ago is emitted, and its next request begins another.
pub(super) const MOST_ENTRIES: usize = 64;

/// What makes two requests one event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    authority: Authority,
    target_port: Option<u16>,
    verdict: Verdict,
    reason: Option<Reason>,
}

struct Entry {
    key: Key,
    /// The event to come: of a permit, or of a refusal's repetitions.
    record: Option<OpenRecord>,
    /// What the first of equal refusals was told.
    told: Option<Explanation>,
    traffic: Arc<Traffic>,
}

/// A judged request.
pub(super) struct Entered<'a> {
    pub(super) authority: &'a Authority,
    /// The port that a forward proxy is asked for, where it was made to one.
    pub(super) target_port: Option<u16>,
    pub(super) ruling: &'a FlowRuling,
    pub(super) remarks: Remarks,
}

/// The events of one connection; those not emitted yet are when this is dropped.
pub(super) struct Ledger<'a> {
    context: &'a FlowContext,
    /// The last seen one last.
    entries: Vec<Entry>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(context: &'a FlowContext) -> Self {
        Self {
            context,
            entries: Vec::new(),
        }
    }

    /// True before the first request.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Records a request that is let through; its bytes are to be counted in what is returned.
    pub(super) fn permit(&mut self, entered: Entered<'_>) -> Arc<Traffic> {
        let context = self.context;
        let entry = self.entry(&entered);
        entry.once_more(context, entered);
        Arc::clone(&entry.traffic)
    }

    /// Records a refused request. The first of its kind is an event at once, whose words all others are
    /// told too.
    pub(super) fn refuse(&mut self, entered: Entered<'_>) -> Explanation {
        let context = self.context;
        let entry = self.entry(&entered);
        if let Some(told) = &entry.told {
            let told = told.clone();
            entry.once_more(context, entered);
            return told;
        }
        let told = context.refuse(entered.ruling, entered.remarks);
        let told = entered
            .target_port
            .map_or(told.clone(), |port| told.for_port(port));
        entry.told = Some(told.clone());
        told
    }

    /// Adds a remark to the event whose bytes are counted in `traffic`.
    pub(super) fn note(&mut self, traffic: &Arc<Traffic>, note: &str) {
        let found = self
            .entries
            .iter_mut()
            .find(|entry| Arc::ptr_eq(&entry.traffic, traffic));
        if let Some(record) = found.and_then(|entry| entry.record.as_mut()) {
            record.note(note);
        }
    }

    fn entry(&mut self, entered: &Entered<'_>) -> &mut Entry {
        let key = entered.key();
        let entry = if let Some(at) = self.entries.iter().position(|entry| entry.key == key) {
            self.entries.remove(at)
        } else {
            if self.entries.len() >= MOST_ENTRIES {
                self.entries.remove(0);
            }
            Entry {
                key,
                record: None,
                told: None,
                traffic: Arc::default(),
            }
        };
        let at = self.entries.len();
        self.entries.push(entry);
        &mut self.entries[at]
    }
}

impl Entered<'_> {
    fn key(&self) -> Key {
        Key {
            authority: self.authority.clone(),
            target_port: self.target_port,
            verdict: self.ruling.judgement.verdict(),
            reason: self.ruling.judgement.refusal().map(|refusal| refusal.reason),
        }
    }
}

impl Entry {
    fn once_more(&mut self, context: &FlowContext, entered: Entered<'_>) {
        if let Some(record) = &mut self.record {
            context
                .proxy
                .metrics
                .verdict(entered.remarks.kind, &entered.ruling.judgement);
            record.amend(|event| event.count += 1);
        } else {
            let traffic = Arc::clone(&self.traffic);
            self.record = Some(context.permit_apart(entered.ruling, entered.remarks, traffic));
        }
    }
}
