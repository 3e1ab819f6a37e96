//! Owns the lab's one error type: what could not be made, and why.
//! Never decides whether a test fails; callers do.

use std::io;
use std::process::ExitStatus;

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call or file operation failed.
    #[error("lab: {what}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A set-up command (`ip`, `nft`, `git`, …) ended badly.
    #[error("lab: `{command}` ended with {status}: {stderr}")]
    Command {
        /// The command line, shortened.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        stderr: String,
    },
    /// A certificate could not be made.
    #[error("lab: certificate")]
    Certificate(#[from] rcgen::Error),
    /// A TLS configuration was refused.
    #[error("lab: TLS configuration")]
    Tls(#[from] rustls::Error),
    /// The caller's own text (a record, an address) makes no sense.
    #[error("lab: {what}: {why}")]
    Invalid {
        /// What was given.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something that should have become ready did not.
    #[error(transparent)]
    Waited(#[from] crate::WaitError),
}

/// Says what was being done when an I/O error came up.
pub(crate) trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T, LabError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io {
            what: what.into(),
            source,
        })
    }
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T, LabError> {
        self.map_err(io::Error::from).during(what)
    }
}

/// Refuses what the caller gave.
pub(crate) fn invalid(what: impl Into<String>, why: impl ToString) -> LabError {
    LabError::Invalid {
        what: what.into(),
        why: why.to_string(),
    }
}

/// An error with its causes on one line, where only text is kept.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
