//! The section as it is written: names, shapes and defaults, nothing resolved. An unknown key is an error.

use std::path::PathBuf;

use serde::Deserialize;
use tidegate_control_wire::secret::Role;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Version of the format: 1.
    pub(super) version: u32,
    /// The gateway's half; control doesn't look into it.
    #[serde(rename = "gateway")]
    pub(super) _gateway: Option<serde_yaml::Value>,
    /// The control plane's half.
    pub(super) control: Option<Control>,
}

/// `control:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Control {
    pub(super) listen: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) public_url: Option<String>,
    pub(super) store: Option<String>,
    pub(super) bootstrap_token_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) oidc: Vec<Oidc>,
    pub(super) login: Option<Login>,
    #[serde(default)]
    pub(super) strict: bool,
    pub(super) global_block_feed: Option<Feed>,
    #[serde(default)]
    pub(super) retention: Retention,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// One entry of `oidc:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Oidc {
    pub(super) issuer: String,
    pub(super) audience: String,
    #[serde(default)]
    pub(super) owners: Vec<String>,
    pub(super) ca: Option<PathBuf>,
}

/// `login:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Login {
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) scopes: Option<Vec<String>>,
    pub(super) name_claim: Option<String>,
    #[serde(default = "groups")]
    pub(super) groups_claim: String,
    pub(super) groups: Vec<LoginGroup>,
    pub(super) ca: Option<PathBuf>,
}

fn groups() -> String {
    "groups".into()
}

/// One entry of `login.groups:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginGroup {
    pub(super) group: String,
    pub(super) role: Role,
    #[serde(default)]
    pub(super) owners: Vec<String>,
}

/// `global-block-feed:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Feed {
    pub(super) url: String,
    pub(super) public_key: String,
    #[serde(default = "hourly")]
    pub(super) interval: String,
    pub(super) ca: Option<PathBuf>,
}

fn hourly() -> String {
    "1h".into()
}

/// `retention:`. The audit log is kept for ever, which is the only word that is taken for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retention {
    pub(super) events: String,
    pub(super) rollups: String,
    #[serde(rename = "audit")]
    pub(super) _audit: Forever,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: "30d".into(),
            rollups: "400d".into(),
            _audit: Forever::Forever,
        }
    }
}

/// `forever`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Forever {
    #[default]
    Forever,
}
