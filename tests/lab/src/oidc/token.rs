//! Owns the tokens of an issuer: JSON Web Tokens in compact form (RFC 7515
//! section 7.1), good ones and each way of being bad. No sockets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::key::{Key, base64};
use crate::error::{LabError, invalid};

/// A token to be signed. Made by [`OidcIssuer::token`](super::OidcIssuer::token).
#[derive(Debug)]
#[must_use = "a token is nothing until it is signed"]
pub struct Token<'a> {
    keys: &'a Mutex<Vec<Key>>,
    key: Option<String>,
    header: Value,
    spoiled: bool,
}

impl<'a> Token<'a> {
    pub(super) fn new(keys: &'a Mutex<Vec<Key>>) -> Self {
        Self {
            keys,
            key: None,
            header: json!({"typ": "JWT"}),
            spoiled: false,
        }
    }

    /// Signs with this key, withdrawn or not, instead of the newest.
    pub fn key(mut self, kid: &str) -> Self {
        self.key = Some(kid.to_owned());
        self
    }

    /// Says another `kid` in the header than that of the key; `None` says none.
    pub fn kid(mut self, kid: Option<&str>) -> Self {
        self.header["kid"] = json!(kid);
        self
    }

    /// Says this algorithm in the header and signs by it as well as the key
    /// can: `none` has no signature, `HS256` takes the public key for a secret,
    /// an RSA key does RS256, RS384, RS512 and PS256.
    pub fn alg(mut self, alg: &str) -> Self {
        self.header["alg"] = json!(alg);
        self
    }

    /// Sets any other member of the header: `crit`, `jku`, `typ`, …
    pub fn header(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    /// Flips a bit of the signature.
    pub fn bad_signature(mut self) -> Self {
        self.spoiled = true;
        self
    }

    /// The token with these claims.
    pub fn sign(mut self, claims: &Value) -> Result<String, LabError> {
        let keys = self.keys.lock();
        let key = match &self.key {
            Some(kid) => keys.iter().find(|key| key.kid == *kid),
            None => keys.last(),
        };
        let missing = || invalid(format!("key {:?}", self.key), "the issuer has none of that name");
        let key = key.ok_or_else(missing)?;
        if self.header.get("alg").is_none() {
            self.header["alg"] = json!(key.alg());
        }
        match self.header.get("kid") {
            None => self.header["kid"] = json!(key.kid),
            Some(Value::Null) => drop(
                self.header
                    .as_object_mut()
                    .and_then(|header| header.remove("kid")),
            ),
            Some(_) => {}
        }
        let alg = self.header["alg"].as_str().unwrap_or_default();
        let header = base64(self.header.to_string().as_bytes());
        let message = format!("{header}.{}", base64(claims.to_string().as_bytes()));
        let mut signature = key.sign(alg, message.as_bytes())?;
        if let (true, Some(first)) = (self.spoiled, signature.first_mut()) {
            *first ^= 1;
        }
        Ok(format!("{message}.{}", base64(&signature)))
    }
}

/// What GitHub's issuer says of a job of workflow file `workflow` (`ci.yml`)
/// in `repo` (`acme/web`), valid for five minutes; `jti` is new every time.
pub(super) fn claims(issuer: &str, repo: &str, workflow: &str, audience: &str) -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let owner = repo.split('/').next().unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (now, branch) = (now.as_secs(), "refs/heads/main");
    let jti = format!(
        "{:08x}-lab-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let reference = format!("{repo}/.github/workflows/{workflow}@{branch}");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    json!({
        "iss": issuer, "aud": audience, "jti": jti, "sub": format!("repo:{repo}:ref:{branch}"),
        "iat": now, "nbf": now, "exp": now + 300,
        "repository": repo, "repository_id": "74", "repository_visibility": "private",
        "repository_owner": owner, "repository_owner_id": "65",
        "workflow": workflow, "workflow_ref": reference, "workflow_sha": commit,
        "job_workflow_ref": reference, "job_workflow_sha": commit,
        "run_id": "1001", "run_number": "10", "run_attempt": "1", "event_name": "push",
        "ref": branch, "ref_type": "branch", "ref_protected": "true", "base_ref": "", "head_ref": "",
        "sha": commit, "actor": "alice", "actor_id": "12", "runner_environment": "self-hosted",
    })
}
