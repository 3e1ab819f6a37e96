//! Owns how a test talks to a running control plane: its API, whether it is
//! ready, its first admin token. `Control` and a `Gateway` that is `up` have
//! one. Starts and ends nothing.

use std::path::PathBuf;

use serde_json::Value;

use crate::api::{Answer, Api, ApiRequest};
use crate::error::{LabError, with_causes};
use crate::program::START;
use crate::wait::wait_until;

/// The API of a running control plane, called from its own machine.
#[derive(Debug)]
pub struct ControlApi {
    api: Api,
    token_file: PathBuf,
}

impl ControlApi {
    pub(crate) fn new(api: Api, token_file: PathBuf) -> Self {
        Self { api, token_file }
    }

    /// Sends a request with a bearer token and a JSON body, if any.
    pub async fn api(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, LabError> {
        self.api.call(method, path, token, body).await
    }

    /// A request with more to say: `If-Match`, a YAML body, another timeout.
    pub fn request(&self, method: &str, path: &str) -> ApiRequest<'_> {
        self.api.request(method, path)
    }

    /// The first admin token; waits until the program has written it.
    pub async fn admin_token(&self) -> Result<String, LabError> {
        let written = wait_until(
            "the first admin token",
            START,
            async || match std::fs::read_to_string(&self.token_file) {
                Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
                Ok(_) => Err("an empty file".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        );
        Ok(written.await?)
    }

    /// One look at `/readyz`; what it says unless it is ready.
    pub(crate) async fn is_ready(&self) -> Result<(), String> {
        match self.api("GET", "/readyz", None, None).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.to_string()),
            Err(error) => Err(with_causes(&error)),
        }
    }
}
