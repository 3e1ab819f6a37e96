//! The control plane as registrations see it: a seam, so that the rules can be tried without one.

use std::pin::Pin;
use std::sync::Arc;

use tidegate_control_wire::claim::{Claim, End, Granted};
use tidegate_control_wire::mirror::Credentials;
use tidegate_policy::effective::Generation;

use crate::sync::{ClaimError, Control, LinkState};

/// A future on the heap.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who keeps the leases of all gateways.
pub(crate) trait Authority: Send + Sync {
    /// True where there is a control plane at all.
    fn is_configured(&self) -> bool;
    /// True while it can be asked.
    fn is_there(&self) -> bool;
    /// Tokens and issuers of this moment.
    fn credentials(&self) -> Arc<Credentials>;
    /// Position of the newest change that is in force.
    fn generation(&self) -> Generation;
    /// Has a lease recorded. Answers within a few seconds.
    fn claim<'a>(&'a self, claim: &'a Claim) -> Pending<'a, Result<Granted, ClaimError>>;
    /// Has the end of a lease recorded. Answers within a few seconds.
    fn end<'a>(&'a self, id: &'a str, end: &'a End) -> Pending<'a, Result<(), ClaimError>>;
    /// Says that a token of this issuer names a key that was not synced; true when newer ones may come.
    fn unknown_key<'a>(&'a self, issuer: &'a str) -> Pending<'a, bool>;
    /// Waits until it comes or goes.
    fn changed(&self) -> Pending<'_, ()>;
}

impl Authority for Control {
    fn is_configured(&self) -> bool {
        Self::is_configured(self)
    }

    fn is_there(&self) -> bool {
        *self.link().borrow() == LinkState::Connected
    }

    fn credentials(&self) -> Arc<Credentials> {
        Self::credentials(self)
    }

    fn generation(&self) -> Generation {
        Self::generation(self)
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> Pending<'a, Result<Granted, ClaimError>> {
        Box::pin(Self::claim(self, claim))
    }

    fn end<'a>(&'a self, id: &'a str, end: &'a End) -> Pending<'a, Result<(), ClaimError>> {
        Box::pin(Self::end(self, id, end))
    }

    fn unknown_key<'a>(&'a self, issuer: &'a str) -> Pending<'a, bool> {
        Box::pin(Self::unknown_key(self, issuer))
    }

    fn changed(&self) -> Pending<'_, ()> {
        let mut link = self.link();
        Box::pin(async move {
            // An error is the end of the connection's keeper, and of the process with it.
            if link.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
