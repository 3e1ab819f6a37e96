//! The allowed endpoint that came nearest to a refused name, found when somebody wants to read it.
//!
//! Owns what is needed to find it later. Looking for it costs more than the refusal itself, and in a flood of refused names
//! nobody reads most of them, so a verdict only notes where to look: whoever writes an event or an explanation finds it,
//! mostly on another thread. Never decides.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::RuleList;
use crate::compile::rules::RuleRef;
use crate::name::DnsName;

/// Where the nearest rule is to be looked for. Three words; cloning counts two references. Until it is dropped it keeps the
/// list alive, which may be that of a policy since replaced.
#[derive(Clone, Default)]
pub struct Nearest(Option<(Arc<RuleList>, DnsName)>);

impl Nearest {
    /// No rule came near: another reason refused, or nothing has a name.
    pub const NONE: Self = Self(None);

    /// The rule of this list that is nearest to a name, if any is near.
    pub fn among(list: &Arc<RuleList>, name: &DnsName) -> Self {
        Self(Some((Arc::clone(list), name.clone())))
    }

    /// Looks for the rule, each time anew; `None` when nothing is near.
    pub fn find(&self) -> Option<RuleRef> {
        self.0.as_ref().and_then(|(list, name)| list.nearest(name))
    }

    /// True when there is nowhere to look.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Nearest {
    /// The rule, looked for.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.find().fmt(out)
    }
}

impl Serialize for Nearest {
    /// The rule's text, or nothing.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.find().serialize(serializer)
    }
}
