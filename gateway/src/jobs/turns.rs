//! One change of a machine's lease at a time: between asking the control plane and granting, nobody else may be granted
//! the same source. Neither another address of the machine, nor the same address with another hardware address: who is
//! root on a runner chooses both.
//!
//! Owns who is in turn. Bounded by the changes in progress: a machine that waits for nobody has no entry.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tidegate_policy::lease::Mac;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};

use super::asker::Asker;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Machine {
    /// What a machine on a link holds: all of its addresses are one.
    Seen(Mac),
    /// What an address holds, whoever shows it.
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
    /// Waits for the right to change what an asker's address and its machine hold. The address comes first: who has a
    /// machine's turn waits for nobody any more, so no two wait for each other.
    pub(super) async fn of(&self, asker: Asker) -> (Turn, Option<Turn>) {
        let address = self.take(Machine::Address(asker.source)).await;
        match asker.mac {
            Some(mac) => (address, Some(self.take(Machine::Seen(mac)).await)),
            None => (address, None),
        }
    }

    /// Waits for the right; in the order in which it was asked for.
    async fn take(&self, machine: Machine) -> Turn {
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
