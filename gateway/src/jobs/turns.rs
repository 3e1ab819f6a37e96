//! One change of a machine's lease at a time: between asking the control plane and granting, nobody else may be granted
//! the same source.
//!
//! Owns who is in turn. Bounded by the changes in progress: a machine that waits for nobody has no entry.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_policy::lease::Mac;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};

/// What is changed: all addresses of one machine are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Machine {
    /// On a link.
    Seen(Mac),
    /// Behind a router.
    Address(IpAddr),
}

/// The machines whose leases are being changed.
#[derive(Debug, Default)]
pub(super) struct Turns {
    gates: Arc<Mutex<HashMap<Machine, Arc<Gate<()>>>>>,
}

/// The right to change a machine's lease, while it lives.
#[derive(Debug)]
pub(super) struct Turn {
    machine: Machine,
    gates: Arc<Mutex<HashMap<Machine, Arc<Gate<()>>>>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the right; in the order in which it was asked for.
    pub(super) async fn take(&self, machine: Machine) -> Turn {
        let gate = Arc::clone(self.gates.lock().entry(machine).or_default());
        // Made before the wait: who gives up waiting tidies up too.
        let mut turn = Turn {
            machine,
            gates: Arc::clone(&self.gates),
            held: None,
        };
        turn.held = Some(gate.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut gates = self.gates.lock();
        self.held = None;
        // Who waits holds a reference, and gets it under the lock that is held here.
        if gates
            .get(&self.machine)
            .is_some_and(|gate| Arc::strong_count(gate) == 1)
        {
            gates.remove(&self.machine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_machine_waits_for_itself_and_for_no_other() {
        let turns = Arc::new(Turns::default());
        let machine = |octet| Machine::Seen(Mac([2, 0, 0, 0, 0, octet]));
        let first = turns.take(machine(1)).await;
        let other = turns.take(machine(2)).await;
        let waiting = {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { drop(turns.take(machine(1)).await) })
        };
        while Arc::strong_count(&turns.gates.lock()[&machine(1)]) < 3 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.expect("comes to its turn");
        drop(other);
        assert!(turns.gates.lock().is_empty(), "nobody is remembered");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let machine = Machine::Address(IpAddr::from([10, 77, 1, 2]));
        let first = turns.take(machine).await;
        {
            let mut waiting = Box::pin(turns.take(machine));
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        drop(first);
        assert!(turns.gates.lock().is_empty());
        let second = turns.take(machine).await;
        let mut late = Box::pin(turns.take(machine));
        assert!(futures_util::poll!(&mut late).is_pending());
        drop(second);
        drop(late);
        assert!(turns.gates.lock().is_empty());
    }
}
