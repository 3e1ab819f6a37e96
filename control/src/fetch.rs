//! What the control plane fetches from others: an issuer's keys, a feed.
//!
//! Owns the client and its few freedoms: https (plain HTTP on loopback only), redirects within one scheme, bodies and
//! waits with bounds, no proxy from the environment. It never looks into what it fetched; `oidc` and `feed` drive it
//! by a [`Schedule`], `login` asks when somebody logs in.

mod schedule;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use thiserror::Error;

pub use schedule::Pace;
pub(crate) use schedule::{Schedule, chance};

/// Wait for a connection, and between two pieces of a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// Redirects that one request follows at most.
const MAX_REDIRECTS: usize = 3;

/// Longest entity tag that is kept, in bytes.
const MAX_ETAG: usize = 256;

/// Why no client could be made. Names the setting that is wrong.
#[derive(Debug, Error)]
pub enum SetupError {
    /// An address that may not be fetched.
    #[error("{0:?} can't be fetched; write an https:// URL (http:// only on loopback)")]
    Url(String),
    /// The file of the further root certificate can't be read.
    #[error("can't read the certificates in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file has no certificate in PEM.
    #[error("{0} has no certificate in PEM")]
    NoCertificate(PathBuf),
    /// A certificate that is none, or no root certificates at all.
    #[error("can't set up TLS")]
    Tls(#[source] reqwest::Error),
}

/// Why a document was not fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No connection, broken off, too slow.
    #[error("no answer from {url}")]
    Transport {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Anything but 200, and 304 where that was asked for.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// Larger than such a document may be.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The bound in bytes.
        limit: usize,
    },
}

/// What came back.
pub(crate) enum Fetched {
    /// The server says that the document is the one of the entity tag.
    Unchanged,
    /// A document.
    Document {
        /// Its bytes.
        body: Vec<u8>,
        /// Its entity tag, to be asked with next time.
        etag: Option<HeaderValue>,
    },
}

/// How much of a server's time and bytes is taken.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Largest body in bytes.
    pub(crate) bytes: usize,
    /// The whole request, body included.
    pub(crate) time: Duration,
}

/// The client for one configured server.
#[derive(Clone)]
pub(crate) struct Fetcher {
    client: Client,
}

impl Fetcher {
    /// Makes a client that trusts the system's roots and those in `ca`.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, SetupError> {
        Self::with(ca, Policy::custom(redirect))
    }

    /// The same for what must not be sent anywhere else.
    pub(crate) fn without_redirects(ca: Option<&Path>) -> Result<Self, SetupError> {
        Self::with(ca, Policy::none())
    }

    fn with(ca: Option<&Path>, redirects: Policy) -> Result<Self, SetupError> {
        let roots = ca.map(read_roots).transpose()?.unwrap_or_default();
        let client = Client::builder()
            .tls_certs_merge(roots)
            .redirect(redirects)
            .connect_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .no_proxy()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(SetupError::Tls)?;
        Ok(Self { client })
    }

    /// Gets a document; asks only for another one when the entity tag of the last is given.
    pub(crate) async fn get(
        &self,
        url: &Url,
        known: Option<&HeaderValue>,
        bounds: Bounds,
    ) -> Result<Fetched, FetchError> {
        let mut request = self.client.get(url.clone()).timeout(bounds.time);
        if let Some(etag) = known {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let transport = |source: reqwest::Error| FetchError::Transport {
            url: url.to_string(),
            source: source.without_url(),
        };
        let response = request.send().await.map_err(transport)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => return Ok(Fetched::Unchanged),
            status => {
                return Err(FetchError::Status {
                    url: url.to_string(),
                    status,
                });
            }
        }
        let etag = response
            .headers()
            .get(ETAG)
            .filter(|etag| etag.len() <= MAX_ETAG)
            .cloned();
        let body = read_bounded(response, bounds.bytes)
            .await
            .map_err(transport)?
            .ok_or_else(|| FetchError::TooLarge {
                url: url.to_string(),
                limit: bounds.bytes,
            })?;
        Ok(Fetched::Document { body, etag })
    }
}

/// What a client proves itself by.
#[derive(Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) name: &'a str,
    pub(crate) secret: &'a str,
}

impl Fetcher {
    /// Sends a form and reads what is answered, whatever its status.
    pub(crate) async fn post_form(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        credentials: Option<Credentials<'_>>,
        bounds: Bounds,
    ) -> Result<(StatusCode, Vec<u8>), FetchError> {
        let mut request = self
            .client
            .post(url.clone())
            .timeout(bounds.time)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(encoded(form));
        if let Some(Credentials { name, secret }) = credentials {
            // RFC 6749 §2.3.1: both are encoded as in a form first.
            request = request.basic_auth(part(name), Some(part(secret)));
        }
        let transport = |source: reqwest::Error| FetchError::Transport {
            url: url.to_string(),
            source: source.without_url(),
        };
        let response = request.send().await.map_err(transport)?;
        let status = response.status();
        let body = read_bounded(response, bounds.bytes)
            .await
            .map_err(transport)?
            .ok_or_else(|| FetchError::TooLarge {
                url: url.to_string(),
                limit: bounds.bytes,
            })?;
        Ok((status, body))
    }
}

/// `application/x-www-form-urlencoded`, which is what a query is written in.
fn encoded(form: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:/").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(form);
    }
    url.as_ref().and_then(Url::query).unwrap_or_default().to_owned()
}

/// One text, encoded as in a form.
fn part(text: &str) -> String {
    let pair = encoded(&[("", text)]);
    pair.strip_prefix('=').unwrap_or(&pair).to_owned()
}

/// Reads a body; `None` as soon as it is larger than the bound, or says that it will be.
async fn read_bounded(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(announced as usize);
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body))
}

/// An address that may be fetched: https, or plain HTTP to this machine itself.
pub(crate) fn allowed_url(text: &str) -> Result<Url, SetupError> {
    let refused = || SetupError::Url(text.chars().take(200).collect());
    let url = Url::parse(text).map_err(|_| refused())?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(refused()),
    }
}

/// True for `localhost` and the addresses of loopback.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A redirect may name another place of the same kind, never a plainer one.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    let same = attempt
        .previous()
        .first()
        .is_some_and(|first| first.scheme() == attempt.url().scheme());
    if same && allowed_url(attempt.url().as_str()).is_ok() {
        attempt.follow()
    } else {
        attempt.error("a redirect to another scheme")
    }
}

fn read_roots(path: &Path) -> Result<Vec<Certificate>, SetupError> {
    let pem = std::fs::read(path).map_err(|source| SetupError::Read {
        path: path.to_owned(),
        source,
    })?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(SetupError::Tls)?;
    if roots.is_empty() {
        return Err(SetupError::NoCertificate(path.to_owned()));
    }
    Ok(roots)
}

/// An error with what caused it, in one line.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    line
}

#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
