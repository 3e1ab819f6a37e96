//! What a credential is good for besides registering: reading what would govern a job.
//!
//! The same credentials by the same rules as a registration, and nothing is done: no lease, no proof used up.

use tidegate_policy::job::JobIdentity;
use tidegate_policy::lease::Credential;

use super::Registrar;
use crate::jobs::asker::{Asker, Now};
use crate::jobs::proof::{Proof, ProofError, Shown, scope_of};
use crate::jobs::refused::AuthError;

impl Registrar {
    /// True when who shows this token could register this job from its own address.
    pub(crate) async fn vouches(
        &self,
        asker: Asker,
        token: &str,
        job: &JobIdentity,
        now: Now,
    ) -> Result<bool, AuthError> {
        let shown = Shown {
            bearer: Some(token),
            oidc: None,
        };
        match self.verify(shown, now).await? {
            Proof::Job(signed, _) => Ok(signed.identity.repo == job.repo),
            Proof::Token(token) => {
                let credential = Credential::RunnerToken(scope_of(&token));
                let request = self.registration(asker, job.clone(), credential.clone());
                Ok(self.reaches(credential, &request, now).is_ok())
            }
        }
    }

    /// The job that an OIDC token is of. It stays good for registering that job.
    pub(crate) async fn signed(&self, token: &str, now: Now) -> Result<JobIdentity, AuthError> {
        let shown = Shown {
            bearer: Some(token),
            oidc: None,
        };
        match self.verify(shown, now).await? {
            Proof::Job(signed, _) => Ok(signed.identity),
            Proof::Token(_) => Err(ProofError::NoJob.into()),
        }
    }
}
