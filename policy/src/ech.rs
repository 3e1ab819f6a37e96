//! Which ECH configurations were published for which names, and what was seen at which address.
//!
//! A hello can't show by itself whether its ECH extension is real or GREASE. Its `config_id` can: real
//! ones use an id that an HTTPS record published. `dns` notes ids before it strips `ech` from answers;
//! the verdict asks [`EchLedger::published`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::name::DnsName;

/// Names (and as many addresses) kept; the oldest go first. 65 536 names are about 8 MiB.
const CAPACITY: usize = 65_536;

/// The set of config ids seen for one key: one bit an id.
type IdSet = [u64; 4];

/// A bounded memory of published ECH config ids. Shared by all jobs: what one job's answer revealed is
/// a fact about the name, not about the job.
#[derive(Debug, Default)]
pub struct EchLedger {
    inner: Mutex<Inner>,
    /// [`EchLedger::epoch`]; written under the lock only.
    epoch: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<DnsName, IdSet>,
    by_address: HashMap<IpAddr, IdSet>,
    name_order: VecDeque<DnsName>,
    address_order: VecDeque<IpAddr>,
}

impl EchLedger {
    /// Records that an HTTPS or SVCB answer for `name` published these config ids.
    pub fn note_name(&self, name: &DnsName, config_ids: &[u8]) {
        let mut inner = self.inner.lock();
        let Inner {
            by_name, name_order, ..
        } = &mut *inner;
        if note(by_name, name_order, name.clone(), config_ids) {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Records that `name` was seen at `address`, so that its ids count for every name there.
    pub fn note_address(&self, name: &DnsName, address: IpAddr) {
        let address = address.to_canonical();
        let mut inner = self.inner.lock();
        let Some(ids) = inner.by_name.get(name).copied() else {
            return;
        };
        let ids: Vec<u8> = (0..=u8::MAX).filter(|id| contains(&ids, *id)).collect();
        let Inner {
            by_address,
            address_order,
            ..
        } = &mut *inner;
        if note(by_address, address_order, address, &ids) {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Changes whenever the ledger comes to know another name, id or address, or forgets one: while it stays, an answer that
    /// was noted before has nothing new to tell.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// True when `config_id` was published for `name`, or for any name seen at `address`.
    pub fn published(&self, config_id: u8, name: Option<&DnsName>, address: IpAddr) -> bool {
        let inner = self.inner.lock();
        name.and_then(|name| inner.by_name.get(name))
            .is_some_and(|ids| contains(ids, config_id))
            || inner
                .by_address
                .get(&address.to_canonical())
                .is_some_and(|ids| contains(ids, config_id))
    }

    /// True when an HTTPS answer for `name` with `ech` was seen.
    pub fn knows(&self, name: &DnsName) -> bool {
        self.inner.lock().by_name.contains_key(name)
    }
}

fn contains(ids: &IdSet, id: u8) -> bool {
    ids.get(usize::from(id >> 6))
        .is_some_and(|word| word & (1 << (id & 63)) != 0)
}

/// Notes ids; true when that changed anything.
fn note<K: Clone + Eq + std::hash::Hash>(
    map: &mut HashMap<K, IdSet>,
    order: &mut VecDeque<K>,
    key: K,
    config_ids: &[u8],
) -> bool {
    let is_new = !map.contains_key(&key);
    if is_new {
        if map.len() >= CAPACITY
            && let Some(oldest) = order.pop_front()
        {
            map.remove(&oldest);
        }
        order.push_back(key.clone());
    }
    let ids = map.entry(key).or_default();
    let before = *ids;
    for id in config_ids {
        if let Some(word) = ids.get_mut(usize::from(id >> 6)) {
            *word |= 1 << (id & 63);
        }
    }
    is_new || *ids != before
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_id_counts_for_its_name_and_for_every_name_at_its_address() {
        let ledger = EchLedger::default();
        let (real, other) = (
            DnsName::parse("real.test").unwrap(),
            DnsName::parse("other.test").unwrap(),
        );
        let address: IpAddr = "192.0.2.20".parse().unwrap();
        ledger.note_name(&real, &[7, 200]);
        ledger.note_address(&real, address);
        assert!(ledger.published(200, Some(&real), "192.0.2.1".parse().unwrap()));
        assert!(ledger.published(7, Some(&other), address));
        assert!(!ledger.published(8, Some(&real), address));
    }

    #[test]
    fn the_epoch_changes_with_what_is_known_and_only_then() {
        let ledger = EchLedger::default();
        let (real, address) = (
            DnsName::parse("real.test").unwrap(),
            "192.0.2.20".parse().unwrap(),
        );
        let mut epochs = vec![ledger.epoch()];
        ledger.note_name(&real, &[7]);
        epochs.push(ledger.epoch());
        ledger.note_address(&real, address);
        epochs.push(ledger.epoch());
        ledger.note_name(&real, &[8]);
        epochs.push(ledger.epoch());
        assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
        ledger.note_name(&real, &[7, 8]);
        ledger.note_address(&DnsName::parse("other.test").unwrap(), address);
        assert_eq!(ledger.epoch(), epochs[3]);
    }

    #[test]
    fn the_ledger_is_bounded_and_forgets_the_oldest() {
        let ledger = EchLedger::default();
        for n in 0..=CAPACITY {
            ledger.note_name(&DnsName::parse(&format!("n{n}.test")).unwrap(), &[1]);
        }
        assert!(!ledger.knows(&DnsName::parse("n0.test").unwrap()));
        assert!(ledger.knows(&DnsName::parse("n1.test").unwrap()));
    }
}
