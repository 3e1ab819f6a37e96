//! The first admin token: without one nobody could make any other.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tidegate_control_wire::secret::{Role, Secret, SecretError};

use crate::model::NewToken;
use crate::store::{Store, StoreError};
use crate::sync::Hub;

/// Why there is no first admin token.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store has no admin token and the configuration names no file for one.
    #[error("the store has no admin token yet; name a file for the first one: control.bootstrap-token-file")]
    NoFile,
    /// The file can't be read or written.
    #[error("can't use control.bootstrap-token-file {file}")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{file} holds no admin token ({reason}); remove it to have one made")]
    Text {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The store failed.
    #[error("the first admin token can't be stored")]
    Store(#[from] StoreError),
}

/// Makes sure that there is an admin token: the one in `file`, or a new one, written there for its owner only. The file
/// is written before the token is stored, so that a token whose text nobody knows can't be the only one.
pub(crate) async fn first_admin(store: &Store, file: Option<&Path>) -> Result<(), BootstrapError> {
    if store.has_admin().await? {
        return Ok(());
    }
    let file = file.ok_or(BootstrapError::NoFile)?;
    let secret = match std::fs::read_to_string(file) {
        Ok(text) if !text.trim().is_empty() => parse(file, text.trim())?,
        Ok(_) => make(file)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(file)?,
        Err(source) => {
            return Err(BootstrapError::File {
                file: file.to_owned(),
                source,
            });
        }
    };
    let token = NewToken {
        role: Role::Admin,
        name: "bootstrap".into(),
        owners: Vec::new(),
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    };
    store
        .create_token(&token, &secret.digest(), &Hub::system())
        .await?;
    tracing::info!(file = %file.display(), "the first admin token is in this file");
    Ok(())
}

fn parse(file: &Path, text: &str) -> Result<Secret, BootstrapError> {
    let wrong = |reason: String| BootstrapError::Text {
        file: file.to_owned(),
        reason,
    };
    let secret = Secret::parse(text).map_err(|error: SecretError| wrong(error.to_string()))?;
    if secret.role() == Role::Admin {
        return Ok(secret);
    }
    Err(wrong(format!("it is a token of role {}", secret.role())))
}

fn make(file: &Path) -> Result<Secret, BootstrapError> {
    let secret = Secret::new(Role::Admin);
    let write = || -> std::io::Result<()> {
        let mut open = std::fs::OpenOptions::new();
        let mut out = open
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(file)?;
        writeln!(out, "{}", secret.expose())?;
        out.sync_all()
    };
    write().map_err(|source| BootstrapError::File {
        file: file.to_owned(),
        source,
    })?;
    Ok(secret)
}
