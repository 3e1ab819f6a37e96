//! What a client says of a job without any credential: it enriches, and never decides.

use compact_str::CompactString;
use tidegate_control_wire::claim::{End, EndedBy};
use tidegate_control_wire::record::{CredentialKind, Ending};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::lease::{Credential, Party};
use tidegate_policy::subject::RunnerKind;

use super::grant::Weighed;
use super::{Registrar, conflict, is_same_run};
use crate::jobs::asker::{Asker, Now};
use crate::jobs::refused::MonitorError;

impl Registrar {
    /// Takes a claim without a credential: it fills in what a lease leaves open, or makes a lease that decides nothing.
    /// Gives back the lease's id.
    pub(crate) async fn monitor(
        &self,
        asker: Asker,
        claimed: JobIdentity,
        now: Now,
    ) -> Result<CompactString, MonitorError> {
        let _turn = self.turns.of(asker).await;
        let leases = &self.parts.leases;
        self.make_room(asker, &claimed, now).await;
        if leases.enrich(asker.source, claimed.clone(), now.moment) {
            let subject = leases.lookup(asker.source, now.moment);
            return Ok(subject.job().map(|job| job.id.clone()).unwrap_or_default());
        }
        let request = self.registration(asker, claimed, Credential::Claimed);
        let weighed = Weighed {
            preview: leases.preview(&request, now.moment).map_err(conflict)?,
            request,
            kind: CredentialKind::Claimed,
            token: None,
            proof: None,
        };
        if let Some(lease) = &weighed.preview.held {
            return Ok(lease.id.clone());
        }
        // It decides nothing, so nobody is asked first: the client gives up after three seconds.
        let mut claim = self.claim_of(&weighed, now);
        claim.granted = true;
        let registered = self.put(weighed.request, &claim.replaces, now)?;
        if self.parts.control.is_configured()
            && let Err(error) = self.keeper.grant(claim, false).await
        {
            // Nobody would ever hear of it, so it does not begin.
            let by = Party::Operator;
            if let Ok(changed) = leases.end(&registered.lease.id, &by, now.moment) {
                leases.release_quarantine(&changed, &by);
                (self.parts.changed)(&changed);
            }
            return Err(error.into());
        }
        Ok(registered.lease.id.clone())
    }

    /// On a machine that runs one job after another, the next job's claim ends the one before: nobody else would.
    async fn make_room(&self, asker: Asker, claimed: &JobIdentity, now: Now) {
        let leases = &self.parts.leases;
        let Some(lease) = leases.lease_at(asker.source) else {
            return;
        };
        let another = lease.assurance() == Assurance::Claimed && !is_same_run(&lease.job.identity, claimed);
        if !another || lease.subject.network.runners != RunnerKind::Persistent {
            return;
        }
        // Noted first: the stream may be on its way with it.
        self.outbox.note_ended(&lease.id);
        if let Ok(changed) = leases.end(&lease.id, &Party::Source(asker.source), now.moment) {
            (self.parts.changed)(&changed);
            if self.parts.control.is_configured() {
                let end = End {
                    at: now.wall,
                    by: EndedBy::Replaced,
                    ending: Ending::Release,
                };
                self.keeper.end(lease.id.clone(), end).await;
            }
        }
    }
}
