//! From a request to a lease: the order of things when a job is registered, ends, or is claimed.
//!
//! Verified here by what was synced, weighed by the lease table, recorded by the control plane, then put in place. With
//! control away it is put in place at once and told later. Owns that order and nothing else: rules of leases are the
//! table's, sentences of refusals [`super::refused`]'s. Driven by the runner API and, once a second, by
//! [`Registrar::tick`].

mod end;
mod monitor;
mod verify;
mod vouch;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use metrics::counter;
use parking_lot::Mutex;
use tidegate_control_wire::claim::{Claim, End, EndedBy, Granted, Member, OnceProof, Refusal};
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::record::{CredentialKind, Ending, LeaseRecord};
use tidegate_policy::job::JobIdentity;
use tidegate_policy::lease::{
    Credential, Lease, LeaseTable, Party, Preview, RegisterError, Registered, Registration,
};

use tokio::time::timeout;

use super::ask::JobStart;
use super::asker::{Asker, Now};
use super::authority::Authority;
use super::keeper::Keeper;
use super::outbox::Outbox;
use super::proof::{Proof, Shown, scope_of};
use super::refused::StartError;
use super::replays::{MAX_PROOFS, Replays, Use};
use super::turns::Turns;
use crate::sync::ClaimError;

/// How long a lease lives when nobody ends it: as long as the forge lets a job run on a self-hosted runner, which is five
/// days, and an hour for what the runner does before and after. A machine that dies earlier is its provisioner's or the
/// next job's to end.
pub(crate) const JOB_LIFETIME: Duration = Duration::from_hours(5 * 24 + 1);

/// How long a claim that was refused for an older one waits for news of that one's end to be told.
const NEWS: Duration = Duration::from_secs(2);

/// What has to follow when sources have another subject: their flows are judged again.
pub(crate) type Changed = Arc<dyn Fn(&[IpAddr]) + Send + Sync>;

/// A job that is registered.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    /// Its lease.
    pub(crate) lease: Arc<Lease>,
    /// It was registered by this request.
    pub(crate) fresh: bool,
    /// The other gateways of the group, as far as they answered.
    pub(crate) members: Vec<Member>,
}

/// Everything that a registrar works with.
pub(crate) struct Parts {
    /// The gateway's name.
    pub(crate) gateway: CompactString,
    /// The lease table.
    pub(crate) leases: Arc<LeaseTable>,
    /// The control plane.
    pub(crate) control: Arc<dyn Authority>,
    /// What follows a change.
    pub(crate) changed: Changed,
}

/// Registers and ends jobs.
pub(crate) struct Registrar {
    parts: Parts,
    outbox: Arc<Outbox>,
    keeper: Arc<Keeper>,
    replays: Mutex<Replays>,
    turns: Turns,
}

/// A registration that the table would grant, on its way to the control plane.
struct Weighed {
    request: Registration,
    preview: Preview,
    kind: CredentialKind,
    token: Option<CompactString>,
    proof: Option<OnceProof>,
}

impl Registrar {
    /// Opens what the last process left in the state directory.
    pub(crate) fn open(parts: Parts, state_dir: &Path) -> io::Result<Self> {
        let outbox = Arc::new(Outbox::open(state_dir)?);
        let keeper = Arc::new(Keeper::open(
            Arc::clone(&parts.leases),
            Arc::clone(&outbox),
            state_dir,
        )?);
        Ok(Self {
            parts,
            outbox,
            keeper,
            replays: Mutex::new(Replays::new(MAX_PROOFS)),
            turns: Turns::default(),
        })
    }

    /// What the control plane is to be told.
    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// What outlives the process, for who takes leases over from the stream.
    pub(crate) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Tells the control plane what waits, for ever.
    pub(crate) async fn tell(&self) {
        self.outbox.run(&*self.parts.control).await;
    }

    /// Registers the job that is about to run on the asker's machine.
    pub(crate) async fn start(
        &self,
        asker: Asker,
        start: &JobStart,
        bearer: Option<&str>,
        now: Now,
    ) -> Result<Started, StartError> {
        let oidc = start.oidc_token.as_deref();
        let proof = self.verify(Shown { bearer, oidc }, now).await?;
        let request = self.request(asker, start, &proof)?;
        let _turn = self.turns.of(asker).await;
        if let Proof::Job(_, Some(token)) = &proof {
            self.reaches(Credential::RunnerToken(scope_of(token)), &request, now)?;
        }
        let preview = self
            .parts
            .leases
            .preview(&request, now.moment)
            .map_err(conflict)?;
        if let Some(lease) = preview.held {
            return Ok(Started {
                lease,
                fresh: false,
                members: Vec::new(),
            });
        }
        let (kind, token) = match &proof {
            Proof::Token(token) => (CredentialKind::RunnerToken, Some(token)),
            Proof::Job(_, token) => (CredentialKind::Oidc, token.as_ref()),
        };
        let weighed = Weighed {
            request,
            preview,
            kind,
            token: token.map(|token| token.id.clone()),
            proof: once(&proof),
        };
        self.use_proof(&weighed, now)?;
        let proof = weighed.proof.clone();
        self.grant(weighed, now).await.inspect_err(|_| {
            if let Some(proof) = &proof {
                self.replays.lock().give_back(proof);
            }
        })
    }

    fn request(&self, asker: Asker, start: &JobStart, proof: &Proof) -> Result<Registration, StartError> {
        let (identity, credential) = match proof {
            Proof::Token(token) => (start.identity()?, Credential::RunnerToken(scope_of(token))),
            Proof::Job(job, _) => (start.complete(job.identity.clone())?, Credential::Oidc),
        };
        Ok(self.registration(asker, identity, credential))
    }

    fn registration(&self, asker: Asker, identity: JobIdentity, credential: Credential) -> Registration {
        Registration {
            id: new_id("job").into(),
            sources: vec![asker.source],
            mac: asker.mac,
            identity,
            began: self.parts.control.generation(),
            lifetime: JOB_LIFETIME,
            credential,
        }
    }

    /// Whether a further credential covers the job and its network, by the table's own rules; what else stands in the
    /// way is not asked here.
    fn reaches(&self, credential: Credential, request: &Registration, now: Now) -> Result<(), RegisterError> {
        let request = Registration {
            credential,
            ..request.clone()
        };
        match self.parts.leases.preview(&request, now.moment) {
            Err(
                error @ (RegisterError::Network(_)
                | RegisterError::NotNamed(_)
                | RegisterError::Cluster { .. }
                | RegisterError::Foreign(_)
                | RegisterError::SourceCount(_)
                | RegisterError::Apart(..)),
            ) => Err(error),
            Ok(_)
            | Err(
                RegisterError::Held { .. }
                | RegisterError::Quarantined(_)
                | RegisterError::Unbound(_)
                | RegisterError::DuplicateId(_)
                | RegisterError::Full,
            ) => Ok(()),
        }
    }

    fn use_proof(&self, weighed: &Weighed, now: Now) -> Result<(), StartError> {
        let Some(proof) = &weighed.proof else {
            return Ok(());
        };
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
                self.keeper.grant(claim.clone(), there).await?;
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
    fn put(
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

    fn claim_of(&self, weighed: &Weighed, now: Now) -> Claim {
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

    /// Ends what has expired and takes down how sources are. To be called about once a second.
    pub(crate) async fn tick(&self, now: Now) {
        let changed = self.keeper.expire(now, self.parts.control.is_configured()).await;
        (self.parts.changed)(&changed);
        self.keeper.save(now).await;
    }

    /// Puts back in place what the last process left: leases that control was not told of, and quarantine. To be called
    /// after the synced state was put in force, and before runners are served.
    pub(crate) fn restore(&self, now: Now) {
        for claim in self.keeper.restore(now) {
            if let Some(proof) = &claim.proof {
                self.replays.lock().take(proof, &claim.lease.id, now.wall);
            }
        }
    }
}

/// True when both are of one run of one workflow, however much else is known of each.
fn is_same_run(one: &JobIdentity, other: &JobIdentity) -> bool {
    one.repo == other.repo
        && !one.run_id.is_empty()
        && one.run_id == other.run_id
        && (one.run_attempt == other.run_attempt || one.run_attempt == 0 || other.run_attempt == 0)
}

fn once(proof: &Proof) -> Option<OnceProof> {
    match proof {
        Proof::Token(_) => None,
        Proof::Job(job, _) => Some(OnceProof {
            issuer: job.issuer.clone(),
            key: job.replay_key.clone(),
            expires_at: job.expires_at,
        }),
    }
}

/// Counts a registration that the rules refused.
fn conflict(error: RegisterError) -> RegisterError {
    let reason = match &error {
        RegisterError::Held { .. } => "held",
        RegisterError::Quarantined(_) => "quarantined",
        RegisterError::Unbound(_) => "unbound",
        RegisterError::Network(_) | RegisterError::NotNamed(_) | RegisterError::Cluster { .. } => "scope",
        RegisterError::Full => "full",
        RegisterError::SourceCount(_)
        | RegisterError::Foreign(_)
        | RegisterError::Apart(..)
        | RegisterError::DuplicateId(_) => "invalid",
    };
    count_conflict(reason);
    error
}

fn count_conflict(reason: &'static str) {
    counter!("tidegate_lease_conflicts_total", "reason" => reason).increment(1);
}
