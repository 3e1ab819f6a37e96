//! From a request to a lease: the order of things when a job is registered, ends, or is claimed.
//!
//! Verified here by what was synced, weighed by the lease table, recorded by the control plane, then put in place
//! ([`grant`]). With control away it is put in place at once and told later. Owns that order and nothing else: rules of
//! leases are the table's, sentences of refusals [`super::refused`]'s. Driven by the runner API and, once a second, by
//! [`Registrar::tick`].

mod end;
mod grant;
mod monitor;
mod verify;
mod vouch;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use metrics::counter;
use parking_lot::Mutex;
use tidegate_control_wire::claim::{Member, OnceProof};
use tidegate_control_wire::id::new_id;
use tidegate_control_wire::record::CredentialKind;
use tidegate_policy::job::JobIdentity;
use tidegate_policy::lease::{Credential, Lease, LeaseTable, RegisterError, Registration};

use self::grant::Weighed;
use super::ask::JobStart;
use super::asker::{Asker, Now};
use super::authority::Authority;
use super::keeper::Keeper;
use super::outbox::Outbox;
use super::proof::{Proof, Shown, scope_of};
use super::refused::StartError;
use super::replays::{MAX_PROOFS, Replays};
use super::turns::Turns;

/// How long a lease lives when nobody ends it: as long as the forge lets a job run on a self-hosted runner, which is five
/// days, and an hour for what the runner does before and after. A machine that dies earlier is its provisioner's or the
/// next job's to end.
pub(crate) const JOB_LIFETIME: Duration = Duration::from_hours(5 * 24 + 1);

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

impl Registrar {
    /// Opens what the last process left in the state directory.
    pub(crate) fn open(parts: Parts, state_dir: &Path) -> io::Result<Self> {
        let outbox = Outbox::open(state_dir)?;
        Self::over(parts, outbox, state_dir)
    }

    /// The same with this outbox, which lies in the state directory.
    pub(super) fn over(parts: Parts, outbox: Outbox, state_dir: &Path) -> io::Result<Self> {
        let outbox = Arc::new(outbox);
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
        self.admit(weighed, now).await
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
