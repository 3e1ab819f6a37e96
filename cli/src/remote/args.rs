//! Arguments of the commands that talk to a control plane. Nothing is done here.
//!
//! Owns what all of them share: where the control plane is, who asks, how the answer is shown.

pub(crate) mod coverage;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod things;

use std::path::PathBuf;

use clap::Args;

/// Where the control plane is and how its answers are shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The control plane: `https://control.example:8443`. Plain `http://` is for this machine only.
    #[arg(
        long,
        global = true,
        env = "TIDEGATE_SERVER",
        value_name = "URL",
        help_heading = "Control plane"
    )]
    pub(crate) server: Option<String>,
    /// File with the API token; without it, the text in TIDEGATE_TOKEN is used.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Control plane")]
    pub(crate) token_file: Option<PathBuf>,
    /// Trust this private CA (PEM) for the control plane, and no other.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Control plane")]
    pub(crate) ca: Option<PathBuf>,
    /// Print the API's JSON instead of tables.
    #[arg(long, global = true, help_heading = "Control plane")]
    pub(crate) json: bool,
}

/// Whose things.
#[derive(Clone, Debug, Args)]
pub(crate) struct Owner {
    /// The organization or user.
    #[arg(long, env = "TIDEGATE_OWNER", value_name = "OWNER")]
    pub(crate) owner: String,
}

/// How much of a list.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Most {
    /// Show at most so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}
