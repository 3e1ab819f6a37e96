//! Whether an answer that goes on for long may still go on: the token behind it has to stay good.
//!
//! Owns how soon a revocation is seen: one of this control plane before the next piece, one of another after
//! [`FRESH`].

use std::time::Duration;

use tokio::time::Instant;

use crate::api::auth::Caller;
use crate::api::state::ApiState;

/// How long a token is taken for good that was looked up.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// A caller's leave to be answered.
pub(super) struct Licence {
    state: ApiState,
    token: String,
    looked_up: Instant,
    revocations: u64,
}

impl Licence {
    /// Of a caller that was authenticated a moment ago.
    pub(super) fn of(state: &ApiState, caller: &Caller) -> Self {
        Self {
            state: state.clone(),
            token: caller.token.id.clone(),
            looked_up: Instant::now(),
            // Whatever was revoked before is looked up once more: the caller may have been among it.
            revocations: 0,
        }
    }

    /// To be asked before every piece. A store that can't say ends the answer: who asks again goes on where it ended.
    pub(super) async fn is_good(&mut self) -> bool {
        let revocations = self.state.authenticator.revocations();
        if revocations == self.revocations && self.looked_up.elapsed() < FRESH {
            return true;
        }
        let looked_up = Instant::now();
        match self.state.authenticator.is_living(&self.token).await {
            Ok(good) => {
                (self.looked_up, self.revocations) = (looked_up, revocations);
                good
            }
            Err(error) => {
                tracing::error!(error = error.chain(), "a token could not be looked up");
                false
            }
        }
    }
}
