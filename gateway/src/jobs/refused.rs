//! Why a registration, an end or a claim is refused.
//!
//! Owns the closed sets of causes; [`crate::runner_api`] says them as problem documents.

use std::net::IpAddr;

use thiserror::Error;
use tidegate_control_wire::claim::Refusal;
use tidegate_policy::job::Assurance;
use tidegate_policy::lease::RegisterError;

use super::ask::AskError;
use super::outbox::OutboxFull;
use super::proof::ProofError;

/// A request that does not say who is asking, or says so before anybody could know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AuthError {
    /// What it shows is not good.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The control plane was never heard of, so no credential is known.
    #[error("this gateway has not heard from its control plane yet, so it knows no credentials; try again")]
    NeverSynced,
    /// There is no control plane, so no credential exists.
    #[error(
        "this gateway has no control plane, so there are no credentials; its leases come from its configuration"
    )]
    NoControl,
}

/// Why a job is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum StartError {
    /// What it says of itself does not make sense.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Who is asking is not known.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Its rules refuse it.
    #[error(transparent)]
    Lease(#[from] RegisterError),
    /// The OIDC token was used for another job.
    #[error("this OIDC token was used before; each registers one job, so ask the forge for another one")]
    Replayed,
    /// The control plane refused it.
    #[error("{detail}")]
    Control {
        /// Why, for programs.
        code: Refusal,
        /// Why, for people.
        detail: String,
    },
    /// It could not be told to the control plane later.
    #[error(transparent)]
    Outbox(#[from] OutboxFull),
    /// Too many proofs are remembered.
    #[error("too many OIDC tokens are in use at once; try again")]
    TooManyProofs,
}

/// Why a job is not ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum EndError {
    /// There is none.
    #[error("no job is registered for {0}")]
    NoJob(IpAddr),
    /// Who is asking is not known.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The credential is weaker than the one that the job was registered by.
    #[error("a job that is known by {} is not ended by a runner token; show the job's own OIDC token", .0.as_str())]
    Weaker(Assurance),
    /// The OIDC token is another job's.
    #[error("the OIDC token is of another job than the one that is registered for {0}")]
    OtherJob(IpAddr),
    /// The token does not reach the job.
    #[error(transparent)]
    Scope(#[from] RegisterError),
    /// The configuration or the forge decides when it ends.
    #[error("a lease that is known by {} is not ended by its job", .0.as_str())]
    NotByJob(Assurance),
}

/// Why a claim is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum MonitorError {
    /// It does not make sense.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The source may hold no lease.
    #[error(transparent)]
    Lease(#[from] RegisterError),
    /// It could not be told to the control plane later.
    #[error(transparent)]
    Outbox(#[from] OutboxFull),
}
