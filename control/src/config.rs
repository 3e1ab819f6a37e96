//! The control plane's section of the configuration: what was written (`raw`) and what it means ([`ControlConfig`]).
//!
//! Owns reading and checking; never acts on it. Relative paths are relative to the file.

mod login;
mod raw;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tidegate_policy::settings::{self, parse_span};

use crate::feed::PublicKey;
use crate::fetch::allowed_url;
use crate::store::EventRetention;

pub use login::{LoginConfig, LoginGroup};

/// Name of the key that says where browsers come to.
const PUBLIC_URL: &str = "public-url";
/// Where the control plane listens when nothing is said.
const LISTEN: &str = "127.0.0.1:8443";
/// Shortest pause between two looks at a feed.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Why a configuration is refused: what, where, what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not the YAML that is expected.
    #[error("{path}{source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Place, problem, hint.
        source: settings::SettingsError,
    },
    /// A value that does not mean anything.
    #[error("{path}: control.{key}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: &'static str,
        /// What is wrong and what to write.
        message: String,
    },
}

/// The control plane's configuration, resolved: paths absolute, defaults filled in.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where the API and the gateways' sync are served.
    pub listen: SocketAddr,
    /// Certificate chain and key, both PEM; `None` is plain HTTP, on loopback only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where browsers reach the web UI, where that is not where it listens: scheme, host and port, without a slash at the
    /// end. With https, cookies are `Secure` though a proxy ends TLS.
    pub public_url: Option<String>,
    /// URL of the store.
    pub store: String,
    /// Where the first admin token is read from, or written to.
    pub bootstrap_token: Option<PathBuf>,
    /// Who may sign job identities.
    pub oidc: Vec<OidcConfig>,
    /// Where people log in to the web UI, besides showing a token.
    pub login: Option<LoginConfig>,
    /// Refuse policies with patterns that strangers can register names for.
    pub strict: bool,
    /// The global block list's signed feed.
    pub feed: Option<FeedConfig>,
    /// How long ended jobs are kept, as long as their events.
    pub keep_jobs: Duration,
    /// How long what jobs reached is kept.
    pub keep_events: EventRetention,
}

/// An issuer of job identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcConfig {
    /// Its URL, exactly as tokens name it.
    pub issuer: String,
    /// The audience that tokens must be for.
    pub audience: String,
    /// Owners whose jobs it may name; empty limits nothing.
    pub owners: Vec<String>,
    /// A further root certificate that its server may chain to (PEM).
    pub ca: Option<PathBuf>,
}

/// A signed feed of block entries.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// Where it is fetched.
    pub url: String,
    /// Who signs it.
    pub public_key: PublicKey,
    /// Between two looks.
    pub interval: Duration,
    /// A further root certificate that its server may chain to (PEM).
    pub ca: Option<PathBuf>,
}

impl ControlConfig {
    /// Reads the `control:` section of the file at `path`. Without one, `defaults_in` names the directory of a store
    /// and a first admin token of its own (`tidegate up`); `None` makes the missing section an error.
    pub fn read(path: &Path, defaults_in: Option<&Path>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path, defaults_in)
    }

    /// Checks the text of a configuration that stands at `path`.
    pub fn parse(text: &str, path: &Path, defaults_in: Option<&Path>) -> Result<Self, ConfigError> {
        let at = At { path };
        let file: raw::File = settings::read(text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source,
        })?;
        if file.version != 1 {
            let message = format!(
                "{} is not a version that this program reads; write 1",
                file.version
            );
            return Err(at.value("version", message));
        }
        match (file.control, defaults_in) {
            (Some(raw), _) => at.control(raw, defaults_in),
            (None, Some(_)) => at.control(raw::Control::default(), defaults_in),
            (None, None) => Err(at.value("listen", "the section `control` is missing".into())),
        }
    }
}

/// The place of the file: for errors, and for what relative paths are relative to.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a Path,
}

impl At<'_> {
    fn value(self, key: &'static str, message: String) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key,
            message,
        }
    }

    fn join(self, file: PathBuf) -> PathBuf {
        match self.path.parent() {
            Some(folder) if file.is_relative() => folder.join(file),
            _ => file,
        }
    }

    fn control(self, raw: raw::Control, defaults_in: Option<&Path>) -> Result<ControlConfig, ConfigError> {
        let listen: SocketAddr = {
            let text = raw.listen.as_deref().unwrap_or(LISTEN);
            let wrong = |_| {
                self.value(
                    "listen",
                    format!("{text:?} is not ADDRESS:PORT, such as {LISTEN}"),
                )
            };
            text.parse().map_err(wrong)?
        };
        if raw.tls.is_none() && !listen.ip().is_loopback() {
            let message = format!(
                "{listen} without `tls` would carry tokens in the clear; write tls: {{cert: …, key: …}}"
            );
            return Err(self.value("tls", message));
        }
        let public_url = raw.public_url.map(|url| self.public_url(&url)).transpose()?;
        let bootstrap_token = raw
            .bootstrap_token_file
            .map(|file| self.join(file))
            .or_else(|| defaults_in.map(|folder| folder.join("admin-token")));
        Ok(ControlConfig {
            listen,
            tls: raw.tls.map(|tls| (self.join(tls.cert), self.join(tls.key))),
            store: self.store(raw.store, defaults_in)?,
            bootstrap_token,
            oidc: self.oidc(raw.oidc)?,
            login: raw
                .login
                .map(|login| self.login(login, public_url.as_deref()))
                .transpose()?,
            public_url,
            strict: raw.strict,
            feed: raw.global_block_feed.map(|feed| self.feed(feed)).transpose()?,
            keep_jobs: self.span("retention.events", &raw.retention.events)?,
            keep_events: self.retention(&raw.retention)?,
        })
    }

    /// The origin of the web UI. Paths are its own, so nothing may stand behind the host.
    fn public_url(self, text: &str) -> Result<String, ConfigError> {
        let origin = allowed_url(text).ok().filter(|url| {
            let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            bare && url.username().is_empty() && url.password().is_none()
        });
        origin
            .map(|url| url.origin().ascii_serialization())
            .ok_or_else(|| {
                let message = format!(
                    "{text:?} is not where browsers reach this; write https://HOST[:PORT] without a path (http:// on \
                     loopback only)"
                );
                self.value(PUBLIC_URL, message)
            })
    }

    fn store(self, url: Option<String>, defaults_in: Option<&Path>) -> Result<String, ConfigError> {
        let Some(url) = url else {
            let Some(folder) = defaults_in else {
                let message = "write sqlite:///PATH or postgres://USER@HOST/DATABASE".to_owned();
                return Err(self.value("store", message));
            };
            return Ok(format!("sqlite://{}", folder.join("control.db").display()));
        };
        match url.strip_prefix("sqlite://") {
            Some(file) => Ok(format!("sqlite://{}", self.join(file.into()).display())),
            None if url.starts_with("postgres://") || url.starts_with("postgresql://") => Ok(url),
            None => {
                let message =
                    format!("{url:?} is no store; write sqlite:///PATH or postgres://USER@HOST/DATABASE");
                Err(self.value("store", message))
            }
        }
    }

    fn oidc(self, raw: Vec<raw::Oidc>) -> Result<Vec<OidcConfig>, ConfigError> {
        let mut issuers: Vec<OidcConfig> = Vec::new();
        for one in raw {
            if !one.issuer.starts_with("https://") && !one.issuer.starts_with("http://127.0.0.1") {
                let message = format!("{:?} must begin with https://", one.issuer);
                return Err(self.value("oidc", message));
            }
            if one.audience.is_empty() {
                return Err(self.value("oidc", format!("{} needs an audience", one.issuer)));
            }
            if issuers.iter().any(|other| other.issuer == one.issuer) {
                return Err(self.value("oidc", format!("{} is named twice", one.issuer)));
            }
            if one
                .owners
                .iter()
                .any(|owner| owner.is_empty() || owner.contains('/'))
            {
                let message = format!("{}: owners are organizations or users, without a `/`", one.issuer);
                return Err(self.value("oidc", message));
            }
            issuers.push(OidcConfig {
                issuer: one.issuer,
                audience: one.audience,
                owners: one.owners,
                ca: one.ca.map(|file| self.join(file)),
            });
        }
        Ok(issuers)
    }

    fn feed(self, raw: raw::Feed) -> Result<FeedConfig, ConfigError> {
        let key = "global-block-feed";
        let public_key = raw
            .public_key
            .parse()
            .map_err(|error| self.value(key, format!("public-key: {error}")))?;
        let interval = self.span(key, &raw.interval)?;
        if interval < MIN_INTERVAL {
            return Err(self.value(key, format!("interval: at least {} s", MIN_INTERVAL.as_secs())));
        }
        Ok(FeedConfig {
            url: raw.url,
            public_key,
            interval,
            ca: raw.ca.map(|file| self.join(file)),
        })
    }

    fn retention(self, raw: &raw::Retention) -> Result<EventRetention, ConfigError> {
        let kept = EventRetention {
            events: self.span("retention.events", &raw.events)?,
            rollups: self.span("retention.rollups", &raw.rollups)?,
        };
        if kept.rollups < kept.events {
            let message = format!(
                "{:?} is less than events are kept, {:?}; write as long or longer",
                raw.rollups, raw.events
            );
            return Err(self.value("retention.rollups", message));
        }
        Ok(kept)
    }

    fn span(self, key: &'static str, text: &str) -> Result<Duration, ConfigError> {
        parse_span(text)
            .ok_or_else(|| self.value(key, format!("{text:?} is not a time span; write 10m, 1h or 30d")))
    }
}

#[cfg(test)]
mod tests;
