//! From a registration that the table would grant to a lease that stands.
//!
//! Owns the order in which its proof is used, the control plane is asked and the lease put in place; and what a try that came
//! to nothing leaves behind, so that the same job can try again and nobody else can by its proof.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use compact_str::CompactString;
use tidegate_control_wire::claim::{Claim, End, EndedBy, Granted, OnceProof, Refusal};
use tidegate_control_wire::record::{CredentialKind, Ending, LeaseRecord};
use tidegate_policy::lease::{Lease, Mac, Party, Preview, RegisterError, Registered, Registration};
use tokio::time::timeout;

use super::{Registrar, Started, conflict, count_conflict};
use crate::jobs::asker::Now;
use crate::jobs::outbox::OutboxFull;
use crate::jobs::refused::StartError;
use crate::jobs::replays::{Tried, Use};
use crate::sync::ClaimError;

/// How long a claim that was refused for an older one waits for news of that one's end to be told.
const NEWS: Duration = Duration::from_secs(2);

/// A registration that the table would grant, on its way to the control plane.
pub(super) struct Weighed {
    pub(super) request: Registration,
    pub(super) preview: Preview,
    pub(super) kind: CredentialKind,
    pub(super) token: Option<CompactString>,
    pub(super) proof: Option<OnceProof>,
}

impl Registrar {
    /// Uses the proof, and grants the lease. One that does not come about gives the proof back.
    pub(super) async fn admit(&self, mut weighed: Weighed, now: Now) -> Result<Started, StartError> {
        let Some(proof) = weighed.proof.clone() else {
            return self.grant(weighed, now).await;
        };
        if let Some(id) = self.tried_before(&weighed) {
            weighed.request.id = id;
        }
        self.use_proof(&proof, &weighed, now)?;
        let granted = self.grant(weighed, now).await;
        granted.inspect_err(|_| self.replays.lock().give_back(&proof))
    }

    /// The id under which the control plane may have the very same lease by the same proof: claimed under it once more, it
    /// is no other job.
    fn tried_before(&self, weighed: &Weighed) -> Option<CompactString> {
        let replays = self.replays.lock();
        let Tried { lease, mac } = replays.tried(weighed.proof.as_ref()?)?;
        let preview = &weighed.preview;
        let is_same = *mac == weighed.request.mac
            && lease.network == preview.network
            && lease.sources == preview.sources
            && lease.identity == preview.identity;
        (is_same && !self.outbox.is_ended(&lease.id)).then(|| lease.id.clone())
    }

    fn use_proof(&self, proof: &OnceProof, weighed: &Weighed, now: Now) -> Result<(), StartError> {
        match self.replays.lock().take(proof, &weighed.request.id, now.wall) {
            Use::First => Ok(()),
            Use::Full => Err(StartError::TooManyProofs),
            Use::Again => {
                count_conflict("replayed");
                Err(StartError::Replayed)
            }
        }
    }

    /// Has the lease recorded, then puts it in place. With control away, the other way round.
    async fn grant(&self, weighed: Weighed, now: Now) -> Result<Started, StartError> {
        let mut claim = self.claim_of(&weighed, now);
        let mut request = weighed.request;
        let mut members = Vec::new();
        let there = self.parts.control.is_there();
        match self.claim(&claim).await {
            Ok(Granted {
                began,
                members: others,
            }) => {
                request.began = began;
                members = others;
            }
            Err(ClaimError::Away) => {
                claim.granted = true;
                self.take_down(&claim, request.mac, there).await?;
            }
            Err(ClaimError::Refused { code, detail }) => {
                count_conflict(match code {
                    Refusal::Replayed => "replayed",
                    Refusal::Held => "held",
                    Refusal::TokenGone | Refusal::Invalid => "control",
                });
                return Err(StartError::Control { code, detail });
            }
        }
        let registered = self.put(request, &claim.replaces, now);
        let registered = match registered {
            Ok(registered) => registered,
            Err(error) => {
                // Somebody else was granted the source meanwhile; control must not go on thinking otherwise. The job
                // itself may have brought that about, so it frees nothing.
                let end = End {
                    at: now.wall,
                    by: EndedBy::Replaced,
                    ending: Ending::Quarantine,
                };
                self.keeper.end(claim.lease.id.clone(), end).await;
                return Err(error.into());
            }
        };
        let lease = registered.lease;
        tracing::info!(lease = %lease.id, repo = %lease.job.identity.repo, assurance = lease.assurance().as_str(),
            source = ?claim.lease.sources, "a job is registered");
        Ok(Started {
            lease,
            fresh: true,
            members,
        })
    }

    /// Takes a lease down, to be told later. Where there is no room for it, control may have taken the claim all the same.
    async fn take_down(&self, claim: &Claim, mac: Option<Mac>, there: bool) -> Result<(), OutboxFull> {
        let taken = self.keeper.grant(claim.clone(), there).await;
        if let (Err(_), Some(proof)) = (&taken, &claim.proof) {
            let lease = claim.lease.clone();
            self.replays.lock().undecided(proof, Tried { lease, mac });
        }
        taken
    }

    /// Asks control. That an earlier job of the source has ended may still be on its way there, behind other news, while
    /// its machine begins the next one.
    async fn claim(&self, claim: &Claim) -> Result<Granted, ClaimError> {
        let behind = self.outbox.newest();
        let answer = self.parts.control.claim(claim).await;
        match (&answer, behind) {
            (
                Err(ClaimError::Refused {
                    code: Refusal::Held, ..
                }),
                Some(number),
            ) => {
                if timeout(NEWS, self.outbox.told_up_to(number)).await.is_err() {
                    return answer;
                }
                match self.parts.control.claim(claim).await {
                    // It said no, and went away before it could say otherwise: that is no leave to go on without it.
                    Err(ClaimError::Away) => answer,
                    again @ (Ok(_) | Err(ClaimError::Refused { .. })) => again,
                }
            }
            (Ok(_) | Err(_), _) => answer,
        }
    }

    /// Puts a lease in place, with everything that follows from it.
    pub(super) fn put(
        &self,
        request: Registration,
        replaces: &[CompactString],
        now: Now,
    ) -> Result<Registered, RegisterError> {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let source = request.sources.first().copied().unwrap_or(unspecified);
        let registered = self
            .parts
            .leases
            .register(request, now.moment)
            .map_err(conflict)?;
        // The stream may be on its way with them.
        for id in replaces {
            self.outbox.note_ended(id);
        }
        (self.parts.changed)(&registered.changed);
        self.still_stands(&registered.lease, source, now)?;
        Ok(registered)
    }

    /// Control may have ended a lease before its own answer about it came: the stream does not wait for that. Looked at
    /// after the lease is in place, as the stream notes an end before it looks for the lease.
    fn still_stands(&self, lease: &Lease, source: IpAddr, now: Now) -> Result<(), RegisterError> {
        if !self.outbox.is_ended(&lease.id) {
            return Ok(());
        }
        if let Ok(changed) = self.parts.leases.end(&lease.id, &Party::Operator, now.moment) {
            (self.parts.changed)(&changed);
        }
        Err(conflict(RegisterError::Quarantined(source)))
    }

    pub(super) fn claim_of(&self, weighed: &Weighed, now: Now) -> Claim {
        let Weighed { request, preview, .. } = weighed;
        Claim {
            lease: LeaseRecord {
                id: request.id.clone(),
                gateway: self.parts.gateway.clone(),
                network: preview.network.clone(),
                sources: preview.sources.clone(),
                identity: preview.identity.clone(),
                credential: weighed.kind,
                token_id: weighed.token.clone(),
                began: preview.began,
                started_at: now.wall,
                expires_at: now.wall_of(now.moment.plus(request.lifetime)),
            },
            replaces: preview.replaces.clone(),
            proof: weighed.proof.clone(),
            granted: false,
        }
    }
}
