//! What a union does: its mode, and the switches that it keeps for host agents.
//!
//! Pure. Owns that it blocks only when every job did and everything that they allowed is known, and that whatever speaks
//! against blocking is told.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use tidegate_policy::verdict::Mode;

use super::Sum;
use crate::import::args::Choice;
use crate::import::block::Wanted;
use crate::import::policy::State;

impl Sum<'_, '_, '_> {
    /// Switches that every step has. One that only some have would change the others.
    pub(super) fn flags(&mut self) -> Vec<&'static str> {
        let mut counted: BTreeMap<&'static str, (usize, u32)> = BTreeMap::new();
        for (flag, line) in self.blocks.iter().flat_map(|(_, _, block)| &block.flags) {
            counted.entry(flag).or_insert((0, *line)).0 += 1;
        }
        let all = self.blocks.len();
        for (flag, (count, _)) in counted.iter().filter(|(_, (count, _))| *count < all) {
            let why =
                format!("{count} of {all} Harden-Runner steps have it, and a policy has it for all of them");
            self.items.lost(
                0,
                flag,
                &why,
                "write it to the policy if it is to hold for every job",
            );
        }
        counted.retain(|_, (count, _)| *count == all);
        counted.into_keys().collect()
    }

    /// What the policy does. Reasons against blocking are told whenever somebody wants it to.
    pub(super) fn mode(&mut self) -> Mode {
        let unhardened = self.governed.iter().filter(|one| one.state == State::Unhardened);
        let audited = self.governed.iter().filter(|one| one.state == State::Audit);
        let mut reasons: Vec<String> = audited.map(|one| format!("job {} audits", one.job)).collect();
        reasons.extend(unhardened.map(|one| format!("job {} has no Harden-Runner step", one.job)));
        let unknown = self
            .blocks
            .iter()
            .filter(|(_, _, block)| block.mode == Wanted::Unknown);
        reasons.extend(unknown.map(|(label, _, _)| format!("what job {label} does is not known")));
        reasons.append(&mut self.unknown);
        let blocks = self
            .blocks
            .iter()
            .any(|(_, _, block)| block.mode == Wanted::Block);
        let why = shortened(&mut reasons);
        match self.union.choice {
            Choice::Audit => Mode::Audit,
            Choice::Keep if reasons.is_empty() => Mode::Block,
            Choice::Keep if !blocks => Mode::Audit,
            Choice::Keep => {
                let todo = "see to it, then write `egress-policy: block` to the policy";
                self.items.changed(
                    0,
                    "egress-policy: audit",
                    &format!("it was block for some, but {why}"),
                    todo,
                );
                Mode::Audit
            }
            Choice::Block if reasons.is_empty() => Mode::Block,
            Choice::Block => {
                let todo = "simulate the policy before it is attached";
                self.items
                    .changed(0, "egress-policy: block", &format!("by --mode, but {why}"), todo);
                Mode::Block
            }
        }
    }
}

/// The first few, each once.
fn shortened(reasons: &mut Vec<String>) -> String {
    const SHOWN: usize = 4;
    let mut seen = HashSet::new();
    reasons.retain(|reason| seen.insert(reason.clone()));
    let mut text = reasons.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if let Some(more) = reasons.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = write!(text, "; and {more} more reasons");
    }
    text
}
