//! Arguments of `tidegate coverage`.

use clap::Args;

use super::{Most, Remote};

/// Every workflow that was seen: its policy, mode, assurance, refusals of the last 7 days, and whether it is ready for
/// block mode.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    tidegate coverage --owner acme --ready      # block mode would change nothing for these\n  \
    tidegate coverage --no-policy --json")]
pub(crate) struct Coverage {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Of an organization or user.
    #[arg(long, visible_alias = "org", value_name = "OWNER")]
    pub(crate) owner: Option<String>,
    /// Those in audit mode for which block mode would change nothing.
    #[arg(long, group = "kind")]
    pub(crate) ready: bool,
    /// Those that no policy is attached to.
    #[arg(long, group = "kind")]
    pub(crate) no_policy: bool,
    /// Those whose last job was known less well than its network demands.
    #[arg(long, group = "kind")]
    pub(crate) below_min_assurance: bool,
    #[command(flatten)]
    pub(crate) most: Most,
}

impl Coverage {
    /// The kind, as the API spells it.
    pub(crate) fn filter(&self) -> Option<&'static str> {
        [
            (self.ready, "ready-to-block"),
            (self.no_policy, "no-policy"),
            (self.below_min_assurance, "below-min-assurance"),
        ]
        .into_iter()
        .find_map(|(wanted, filter)| wanted.then_some(filter))
    }
}
