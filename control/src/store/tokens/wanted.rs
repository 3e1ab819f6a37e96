//! What may be asked of a token: which limits go with which role, and how they are spelled.

use crate::model::{NewToken, Role};
use crate::store::{StoreError, names};

/// Longest name, in characters.
const MAX_NAME: usize = 128;
/// Entries of one list.
const MAX_LIMITS: usize = 200;

/// The token in canonical form, or which field is wrong and why.
pub(super) fn canonical(wanted: &NewToken) -> Result<NewToken, StoreError> {
    let wanted = NewToken {
        role: wanted.role,
        name: label("name", &wanted.name)?,
        owners: list("owners", &wanted.owners, owner)?,
        repos: list("repos", &wanted.repos, repo)?,
        networks: list("networks", &wanted.networks, |text| label("networks", text))?,
        cluster: wanted
            .cluster
            .as_deref()
            .map(|text| label("cluster", text))
            .transpose()?,
        expires_at: wanted.expires_at,
    };
    fitting(&wanted)?;
    Ok(wanted)
}

/// Which limits a role has.
fn fitting(wanted: &NewToken) -> Result<(), StoreError> {
    let (owners, repos, machines) = match wanted.role {
        Role::Admin | Role::Editor | Role::Viewer => (true, false, false),
        Role::Gateway => (false, false, false),
        Role::Provisioner => (true, false, true),
        Role::Runner => (true, true, true),
    };
    let unfit = |field| {
        let reason = format!("a token of the role {} has none", wanted.role);
        Err(StoreError::invalid(field, reason))
    };
    if !owners && !wanted.owners.is_empty() {
        return unfit("owners");
    }
    if !repos && !wanted.repos.is_empty() {
        return unfit("repos");
    }
    if !machines && !wanted.networks.is_empty() {
        return unfit("networks");
    }
    if !machines && wanted.cluster.is_some() {
        return unfit("cluster");
    }
    if wanted.role == Role::Runner && wanted.owners.is_empty() && wanted.repos.is_empty() {
        let reason = "a runner's token names the owners or repositories whose jobs it may register";
        return Err(StoreError::invalid("owners", reason));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if wanted.role == Role::Gateway && !wanted.name.chars().all(plain) {
        let reason = "a gateway's token is named as the gateway: letters, digits, `-`, `_` and `.`";
        return Err(StoreError::invalid("name", reason));
    }
    Ok(())
}

/// Every entry in canonical form, sorted, each once.
fn list(
    field: &'static str,
    texts: &[String],
    one: impl Fn(&str) -> Result<String, StoreError>,
) -> Result<Vec<String>, StoreError> {
    if texts.len() > MAX_LIMITS {
        let reason = format!("{MAX_LIMITS} at most, found {}", texts.len());
        return Err(StoreError::invalid(field, reason));
    }
    let mut list: Vec<String> = texts.iter().map(|text| one(text)).collect::<Result<_, _>>()?;
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

/// A name for people and machines: printable, not empty, white space around it left out.
fn label(field: &'static str, text: &str) -> Result<String, StoreError> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > MAX_NAME || text.chars().any(char::is_control) {
        let reason = format!("1 to {MAX_NAME} characters without control characters");
        return Err(StoreError::invalid(field, reason));
    }
    Ok(text.to_owned())
}

fn owner(text: &str) -> Result<String, StoreError> {
    segment(text).ok_or_else(|| {
        let reason = format!("{:?} is not an owner; write acme", short(text));
        StoreError::invalid("owners", reason)
    })
}

fn repo(text: &str) -> Result<String, StoreError> {
    let both = text
        .split_once('/')
        .and_then(|(owner, name)| segment(owner).zip(segment(name)));
    both.map(|(owner, name)| format!("{owner}/{name}"))
        .ok_or_else(|| {
            let reason = format!("{:?} is not a repository; write acme/web", short(text));
            StoreError::invalid("repos", reason)
        })
}

/// One part of a repository's name, in lower case: forges compare without case.
fn segment(text: &str) -> Option<String> {
    names::owner(text).ok()
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
