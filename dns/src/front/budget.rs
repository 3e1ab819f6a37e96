//! The DNS budget of a job: how many distinct names below allowed wildcards it may ask for.
//!
//! A wildcard lets a job put payload into labels (`base32(secret).cdn.example`, evasion D13), and so do
//! service labels, which follow the name below them (`_base32(secret).a.example`). Real jobs ask for few
//! distinct names of either kind; a tunnel needs thousands. Other exact names cost nothing, and a name that
//! was asked for before costs nothing again. Pure: `now` is an argument.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::{DnsName, Moment};

/// Subjects whose budgets are kept; those least recently charged go first.
const MAX_SUBJECTS: usize = 16_384;
/// Names remembered a subject; past this the memory starts anew and known names cost again.
const MAX_SEEN: usize = 8_192;

/// The size of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Distinct names at once. 512 names of 200 usable octets are 100 KB.
    pub burst: u32,
    /// Distinct names regained a minute.
    pub per_minute: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            burst: 512,
            per_minute: 60,
        }
    }
}

/// One name in the unit in which budgets count: a millisecond regains `per_minute` units, exactly.
const NAME: u64 = 60_000;

/// The budgets of all subjects.
#[derive(Debug, Default)]
pub struct Budgets {
    hasher: RandomState,
    subjects: Mutex<HashMap<u64, Bucket>>,
    /// [`Budgets::epoch`]; written under the lock only.
    epoch: AtomicU64,
}

/// One subject's budget.
#[derive(Debug)]
struct Bucket {
    /// What is left, in units of [`NAME`].
    tokens: u64,
    filled: Moment,
    seen: HashSet<u64>,
}

impl Budgets {
    /// Charges a query for `name`, permitted by `rule`, to a subject. False when its budget is used up.
    pub fn charge(
        &self,
        subject: u64,
        name: &DnsName,
        rule: &RuleRef,
        config: BudgetConfig,
        now: Moment,
    ) -> bool {
        if Self::is_free(name, rule) {
            return true;
        }
        let hash = self.hasher.hash_one(name);
        let mut subjects = self.subjects.lock();
        if subjects.len() >= MAX_SUBJECTS && !subjects.contains_key(&subject) {
            make_room(&mut subjects);
            self.epoch.fetch_add(1, Ordering::Release);
        }
        let bucket = subjects.entry(subject).or_insert_with(|| Bucket {
            tokens: u64::from(config.burst) * NAME,
            filled: now,
            seen: HashSet::new(),
        });
        let (is_within, has_forgotten) = bucket.charge(hash, config, now);
        if has_forgotten {
            self.epoch.fetch_add(1, Ordering::Release);
        }
        is_within
    }

    /// True when a query for `name`, permitted by `rule`, costs nothing whatever was asked for before.
    pub fn is_free(name: &DnsName, rule: &RuleRef) -> bool {
        !is_wildcard(rule.text()) && name.without_service_labels() == *name
    }

    /// Changes whenever names are forgotten that were charged: as long as it stays, a name costs nothing again.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Subjects that have a budget.
    pub fn len(&self) -> usize {
        self.subjects.lock().len()
    }

    /// True when no subject was ever charged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Drops the quarter of the budgets that was charged least recently: in one go, so that the next
/// thousands of subjects cost no search.
fn make_room(subjects: &mut HashMap<u64, Bucket>) {
    let mut ages: Vec<(Moment, u64)> = subjects.iter().map(|(id, bucket)| (bucket.filled, *id)).collect();
    ages.sort_unstable();
    for (_, id) in ages.into_iter().take(MAX_SUBJECTS / 4) {
        subjects.remove(&id);
    }
}

impl Bucket {
    /// Whether the name is within the budget, and whether others were forgotten for it.
    fn charge(&mut self, name: u64, config: BudgetConfig, now: Moment) -> (bool, bool) {
        let gained =
            u64::try_from(now.since(self.filled).min(Duration::from_hours(24)).as_millis()).unwrap_or(0);
        self.tokens =
            (self.tokens + gained * u64::from(config.per_minute)).min(u64::from(config.burst) * NAME);
        self.filled = now;
        if self.seen.contains(&name) {
            return (true, false);
        }
        if self.tokens < NAME {
            return (false, false);
        }
        self.tokens -= NAME;
        let forgets = self.seen.len() >= MAX_SEEN;
        if forgets {
            self.seen.clear();
        }
        self.seen.insert(name);
        (true, forgets)
    }
}

/// True when the host of an endpoint as written has a wildcard; a `*` among the ports does not count.
fn is_wildcard(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or(text);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.contains('*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const CONFIG: BudgetConfig = BudgetConfig {
        burst: 10,
        per_minute: 60,
    };

    fn name(n: u32) -> DnsName {
        DnsName::parse(&format!("n{n}.w.test")).unwrap()
    }

    fn wildcard() -> RuleRef {
        RuleRef::global("*.w.test:443")
    }

    #[test]
    fn d13_distinct_names_below_a_wildcard_use_the_budget_up() {
        let budgets = Budgets::default();
        let at = Moment::from_millis;
        for n in 0..10 {
            assert!(budgets.charge(1, &name(n), &wildcard(), CONFIG, at(0)));
        }
        assert!(!budgets.charge(1, &name(10), &wildcard(), CONFIG, at(0)));
        assert!(
            budgets.charge(1, &name(3), &wildcard(), CONFIG, at(0)),
            "a known name costs nothing"
        );
        assert!(
            budgets.charge(2, &name(10), &wildcard(), CONFIG, at(0)),
            "another job has its own"
        );
        assert!(!budgets.charge(1, &name(10), &wildcard(), CONFIG, at(999)));
        assert!(
            budgets.charge(1, &name(10), &wildcard(), CONFIG, at(1_998)),
            "one name a second comes back"
        );
    }

    #[test]
    fn exact_names_cost_nothing_whatever_their_ports() {
        let budgets = Budgets::default();
        for n in 0..100 {
            let rule = RuleRef::global(format!("n{n}.w.test:*"));
            assert!(budgets.charge(1, &name(n), &rule, CONFIG, Moment::default()));
        }
        assert!(budgets.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_idlest() {
        let budgets = Budgets::default();
        for id in 0..=MAX_SUBJECTS as u64 {
            budgets.charge(id, &name(0), &wildcard(), CONFIG, Moment::from_millis(id));
        }
        assert!(budgets.len() <= MAX_SUBJECTS);
    }

    #[test]
    fn the_epoch_changes_when_names_are_forgotten_and_only_then() {
        let budgets = Budgets::default();
        let rich = BudgetConfig {
            burst: 2 * MAX_SEEN as u32,
            per_minute: 0,
        };
        for n in 0..MAX_SEEN as u32 {
            assert!(budgets.charge(1, &name(n), &wildcard(), rich, Moment::default()));
        }
        let before = budgets.epoch();
        budgets.charge(1, &name(0), &wildcard(), rich, Moment::default());
        assert_eq!(budgets.epoch(), before);
        budgets.charge(1, &name(MAX_SEEN as u32), &wildcard(), rich, Moment::default());
        assert_ne!(budgets.epoch(), before, "one name too many");
        for id in 2..=MAX_SUBJECTS as u64 {
            budgets.charge(id, &name(0), &wildcard(), rich, Moment::default());
        }
        let before = budgets.epoch();
        budgets.charge(0, &name(0), &wildcard(), rich, Moment::default());
        assert_ne!(budgets.epoch(), before, "one subject too many");
    }

    #[test]
    fn wildcards_are_told_from_port_ranges() {
        assert!(is_wildcard("*.a.test") && is_wildcard("x*.a.test:*") && is_wildcard("*:443/udp"));
        assert!(!is_wildcard("a.test:*") && !is_wildcard("a.test") && !is_wildcard("a.test:443/tcp"));
    }
}
