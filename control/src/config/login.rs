//! `control.login`: at which issuer people log in, and what its groups give.

use std::path::PathBuf;

use tidegate_control_wire::secret::Role;

use super::{At, ConfigError, PUBLIC_URL, raw};
use crate::fetch::allowed_url;

/// Name of the section.
const KEY: &str = "login";
/// Scopes when nothing is said.
const SCOPES: [&str; 3] = ["openid", "profile", "email"];
/// Groups at most, and scopes.
const MOST: usize = 1_000;

/// Where people log in (OpenID Connect, authorization code with PKCE).
#[derive(Clone, PartialEq, Eq)]
pub struct LoginConfig {
    /// The issuer's URL, exactly as its tokens name it.
    pub issuer: String,
    /// What this deployment is called there.
    pub client_id: String,
    /// What it proves that by; `None` for a public client.
    pub client_secret: Option<String>,
    /// What is asked for; `openid` is among them.
    pub scopes: Vec<String>,
    /// The claim that names the person in histories; without one `email`, `preferred_username` or `sub`.
    pub name_claim: Option<String>,
    /// The claim that lists the person's groups.
    pub groups_claim: String,
    /// What each group gives.
    pub groups: Vec<LoginGroup>,
    /// Where the issuer sends browsers back to: the deployment's public URL.
    pub public_url: String,
    /// A further root certificate that the issuer may chain to (PEM).
    pub ca: Option<PathBuf>,
}

/// What a group gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginGroup {
    /// Its name, as the issuer writes it.
    pub group: String,
    /// Admin, editor or viewer.
    pub role: Role,
    /// Owners that the role is limited to; empty limits nothing.
    pub owners: Vec<String>,
}

impl std::fmt::Debug for LoginConfig {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret is for nobody's log.
        out.debug_struct("LoginConfig")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("public_url", &self.public_url)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

impl At<'_> {
    /// `public_url` is the deployment's, checked.
    pub(super) fn login(self, raw: raw::Login, public_url: Option<&str>) -> Result<LoginConfig, ConfigError> {
        let wrong = |message: String| Err(self.value(KEY, message));
        let Some(public_url) = public_url else {
            let message = "write where browsers reach this control plane, https://HOST[:PORT]: the issuer of `login` \
                           sends them back there";
            return Err(self.value(PUBLIC_URL, message.into()));
        };
        if allowed_url(&raw.issuer).is_err() {
            return wrong(format!("issuer: {:?} must begin with https://", raw.issuer));
        }
        if raw.client_id.trim().is_empty() {
            return wrong("client-id: write what the issuer calls this deployment".into());
        }
        if raw.groups.is_empty() || raw.groups.len() > MOST {
            return wrong(format!(
                "groups: write 1 to {MOST}, each with a role; nobody else can log in"
            ));
        }
        Ok(LoginConfig {
            client_secret: raw.client_secret_file.map(|file| self.secret(file)).transpose()?,
            public_url: public_url.to_owned(),
            scopes: self.scopes(raw.scopes)?,
            groups: raw
                .groups
                .into_iter()
                .map(|group| self.group(group))
                .collect::<Result<_, _>>()?,
            issuer: raw.issuer,
            client_id: raw.client_id,
            name_claim: raw.name_claim,
            groups_claim: raw.groups_claim,
            ca: raw.ca.map(|file| self.join(file)),
        })
    }

    fn secret(self, file: PathBuf) -> Result<String, ConfigError> {
        let file = self.join(file);
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let message = format!("client-secret-file: can't read {}: {error}", file.display());
            self.value(KEY, message)
        })?;
        let text = text.trim();
        if text.is_empty() {
            let message = format!("client-secret-file: {} is empty", file.display());
            return Err(self.value(KEY, message));
        }
        Ok(text.to_owned())
    }

    fn scopes(self, scopes: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
        let scopes = scopes.unwrap_or_else(|| SCOPES.map(str::to_owned).to_vec());
        // RFC 6749 §3.3.
        let token = |scope: &String| {
            !scope.is_empty()
                && scope
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
        };
        if scopes.len() > MOST || !scopes.iter().all(token) || !scopes.iter().any(|scope| scope == "openid") {
            let message =
                "scopes: write a list with `openid` in it, such as [openid, profile, email, groups]";
            return Err(self.value(KEY, message.into()));
        }
        Ok(scopes)
    }

    fn group(self, raw: raw::LoginGroup) -> Result<LoginGroup, ConfigError> {
        let name = &raw.group;
        if name.is_empty() {
            return Err(self.value(KEY, "groups: a group has no name".into()));
        }
        match raw.role {
            Role::Admin | Role::Editor | Role::Viewer => {}
            Role::Gateway | Role::Provisioner | Role::Runner => {
                let message = format!(
                    "groups: {name}: people are admin, editor or viewer, not {}",
                    raw.role
                );
                return Err(self.value(KEY, message));
            }
        }
        if let Some(odd) = raw.owners.iter().find(|owner| !is_owner(owner)) {
            let message = format!("groups: {name}: {odd:?} is no organization or user; write acme");
            return Err(self.value(KEY, message));
        }
        Ok(LoginGroup {
            owners: raw.owners.iter().map(|owner| owner.to_lowercase()).collect(),
            group: raw.group,
            role: raw.role,
        })
    }
}

/// What forges let an account be called.
fn is_owner(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=100).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
}
