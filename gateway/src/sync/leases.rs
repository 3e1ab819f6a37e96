//! The control plane's words on leases, put to the lease table.

use std::net::IpAddr;

use jiff::Timestamp;
use tidegate_control_wire::frame::RefusedLease;
use tidegate_control_wire::mirror::LeaseTouch;
use tidegate_control_wire::record::{Ending, LeaseRecord};
use tidegate_policy::Moment;
use tidegate_policy::lease::{AdoptError, AdoptedLease, EndError, LeaseTable, Mac, Party};

use super::state::Control;
use crate::core::Core;

/// The lease table as the control plane's records speak of it.
pub(crate) struct Leases<'a> {
    table: &'a LeaseTable,
    now: Moment,
    /// The same moment, in the records' time.
    wall: Timestamp,
}

impl<'a> Leases<'a> {
    /// The table at this moment.
    pub(crate) fn new(core: &'a Core) -> Self {
        Self::at(&core.leases, core.clock.now(), Timestamp::now())
    }

    pub(crate) fn at(table: &'a LeaseTable, now: Moment, wall: Timestamp) -> Self {
        Self { table, now, wall }
    }

    /// Takes over leases that began or ended, in the order in which they did. Gives back the sources that have another
    /// subject now, and the leases that can't be in place here.
    pub(super) fn follow(
        &self,
        control: &Control,
        touches: Vec<LeaseTouch>,
    ) -> (Vec<IpAddr>, Vec<RefusedLease>) {
        let (mut changed, mut refused) = (Vec::new(), Vec::new());
        for touch in touches {
            match touch {
                // Perhaps the store was put back to a copy: as long as it believes in the lease, nobody else gets its source.
                LeaseTouch::New(lease) if control.is_ended(&lease.id) => control.tell_again(&lease.id),
                LeaseTouch::New(lease) => match self.adopt(&lease, |_| None) {
                    Ok(sources) => {
                        changed.extend(sources);
                        // Its job may have ended it since it was asked; who ends one notes that before.
                        if control.is_ended(&lease.id) {
                            changed.extend(self.end(&lease.id, Ending::Quarantine, &[]));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(lease = %lease.id, %error, "a lease of the control plane is not in place here");
                        refused.push(RefusedLease {
                            id: lease.id.clone(),
                            reason: error.to_string(),
                        });
                    }
                },
                LeaseTouch::Gone { id, ending, sources } => {
                    // Noted first: who puts the lease in place at this moment looks afterwards.
                    control.note_ended(&id);
                    changed.extend(self.end(&id, ending, &sources));
                }
            }
        }
        (changed, refused)
    }

    pub(super) fn adopt(
        &self,
        lease: &LeaseRecord,
        machine: impl Fn(IpAddr) -> Option<Mac>,
    ) -> Result<Vec<IpAddr>, AdoptError> {
        let lifetime = lease.expires_at.duration_since(self.wall);
        let adopted = AdoptedLease {
            id: lease.id.clone(),
            network: lease.network.clone(),
            sources: lease
                .sources
                .iter()
                .map(|source| (*source, machine(*source)))
                .collect(),
            identity: lease.identity.clone(),
            began: lease.began,
            // One that is over already has no time left, and is not put in place.
            lifetime: lifetime.try_into().unwrap_or_default(),
        };
        match self.table.adopt(adopted, self.now) {
            Err(AdoptError::Expired(_)) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Ends a lease. One that ended here before is ended all the same: what its sources became is control's to say.
    fn end(&self, id: &str, ending: Ending, sources: &[IpAddr]) -> Vec<IpAddr> {
        let mut changed = match self.table.end(id, &Party::Operator, self.now) {
            Ok(changed) => changed,
            Err(EndError::Unknown(_)) => Vec::new(),
            Err(error) => {
                tracing::warn!(lease = id, %error, "a lease that the control plane ended stays");
                return Vec::new();
            }
        };
        if ending == Ending::Release {
            changed.extend(self.table.release_left(id, sources));
        }
        changed
    }
}
