//! A job's end, by its own word.

use compact_str::CompactString;
use tidegate_control_wire::claim::{End, EndedBy};
use tidegate_control_wire::record::Ending;
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::{Credential, Lease, Party};
use tidegate_policy::subject::Standing;

use super::{Registrar, is_same_run};
use crate::jobs::asker::{Asker, Now};
use crate::jobs::proof::{Proof, Shown, scope_of};
use crate::jobs::refused::EndError;

impl Registrar {
    /// Ends the job that runs on the asker's machine; gives back its id.
    pub(crate) async fn end(
        &self,
        asker: Asker,
        shown: Shown<'_>,
        now: Now,
    ) -> Result<CompactString, EndError> {
        let _turn = self.turns.of(asker).await;
        let leases = &self.parts.leases;
        let Some(lease) = leases.lease_at(asker.source) else {
            let standing = leases.lookup(asker.source, now.moment).standing;
            return Err(match standing {
                Standing::Leased => EndError::NotByJob(Assurance::Static),
                Standing::Unleased | Standing::Quarantined | Standing::Unbound | Standing::Foreign => {
                    EndError::NoJob(asker.source)
                }
            });
        };
        self.may_end(&lease, asker, shown, now).await?;
        // Noted first: the stream may be on its way with the lease, and must not bring it back.
        self.outbox.note_ended(&lease.id);
        let changed = leases
            .end(&lease.id, &Party::Source(asker.source), now.moment)
            .map_err(|_| EndError::NoJob(asker.source))?;
        (self.parts.changed)(&changed);
        let end = End {
            at: now.wall,
            by: EndedBy::Job,
            ending: Ending::Quarantine,
        };
        if self.parts.control.is_configured() {
            self.keeper.end(lease.id.clone(), end).await;
        }
        self.keeper.save(now).await;
        tracing::info!(lease = %lease.id, source = %asker.source, "a job has ended");
        Ok(lease.id.clone())
    }

    /// Whether this request may end this lease: only by a credential as strong as the one that made it, so that nobody
    /// trades a job that is known well for one that is known less.
    async fn may_end(&self, lease: &Lease, asker: Asker, shown: Shown<'_>, now: Now) -> Result<(), EndError> {
        let known = lease.assurance();
        match known {
            Assurance::Claimed => return Ok(()),
            Assurance::Forge | Assurance::Static => return Err(EndError::NotByJob(known)),
            Assurance::Declared | Assurance::Signed => {}
        }
        match self.verify(shown, now).await? {
            Proof::Job(job, _) if is_same_run(&job.identity, &lease.job.identity) => Ok(()),
            Proof::Job(_, None) => Err(EndError::OtherJob(asker.source)),
            Proof::Job(_, Some(_)) | Proof::Token(_) if known == Assurance::Signed => {
                Err(EndError::Weaker(known))
            }
            Proof::Job(_, Some(token)) | Proof::Token(token) => {
                let credential = Credential::RunnerToken(scope_of(&token));
                let request = self.registration(asker, lease.job.identity.clone(), credential.clone());
                Ok(self.reaches(credential, &request, now)?)
            }
        }
    }
}
