//! Who is asking, as far as this gateway can know it at this moment.

use std::sync::Arc;
use std::time::Duration;

use tidegate_control_wire::oidc::OidcError;
use tidegate_policy::effective::Store;

use super::Registrar;
use crate::jobs::asker::Now;
use crate::jobs::proof::{self, Proof, ProofError, Shown};
use crate::jobs::refused::AuthError;

/// How often, and how far apart, it is looked for an issuer's newer keys: for a second in all.
const KEY_LOOKS: u32 = 20;
const KEY_PAUSE: Duration = Duration::from_millis(50);

impl Registrar {
    /// Finds out who is asking. An issuer may have changed its keys since the control plane looked last, so a key that is
    /// not known is waited for.
    pub(super) async fn verify(&self, shown: Shown<'_>, now: Now) -> Result<Proof, AuthError> {
        match self.check(shown, now) {
            Err(AuthError::Proof(ProofError::Oidc(OidcError::UnknownKey { issuer, kid }))) => {
                if self.newer_keys(&issuer).await {
                    self.check(shown, now)
                } else {
                    Err(ProofError::Oidc(OidcError::UnknownKey { issuer, kid }).into())
                }
            }
            checked => checked,
        }
    }

    async fn newer_keys(&self, issuer: &str) -> bool {
        let control = &self.parts.control;
        let before = control.credentials();
        if !control.unknown_key(issuer).await {
            return false;
        }
        for _ in 0..KEY_LOOKS {
            tokio::time::sleep(KEY_PAUSE).await;
            if !Arc::ptr_eq(&before, &control.credentials()) {
                return true;
            }
        }
        false
    }

    fn check(&self, shown: Shown<'_>, now: Now) -> Result<Proof, AuthError> {
        let control = &self.parts.control;
        proof::verify(shown, &control.credentials(), now.wall).map_err(|error| {
            let unasked = matches!(error, ProofError::Missing | ProofError::Two);
            if !unasked && !control.is_configured() {
                AuthError::NoControl
            } else if !unasked && self.parts.leases.policies().store == Store::NeverRead {
                AuthError::NeverSynced
            } else {
                error.into()
            }
        })
    }
}
