//! The API's client: one request after another, each bounded in time and size.
//!
//! Owns paths, conditions and pages; refusals become sentences in [`error`]. It follows no redirect (the token would go
//! where nobody sent it) and repeats nothing: whoever calls again converges.

mod error;

use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::args::Remote;
use super::reach::Reach;
use crate::Usage;
use error::{cause, refusal};

pub(crate) use error::CallError;

/// Until a connection is there.
const CONNECT: Duration = Duration::from_secs(10);
/// Until an answer is there; the server gives up after half of it.
const ANSWER: Duration = Duration::from_mins(1);
/// Largest answer, in bytes: a page of the largest policies.
const MAX_ANSWER: usize = 512 << 20;
/// Until an answer that is read while it is made ends.
const WITHOUT_END: Duration = Duration::from_hours(24 * 365);
/// Items of a page.
const PAGE: usize = 100;
/// How the server tells our changes from others in its histories.
const VIA: HeaderName = HeaderName::from_static("tidegate-via");

/// A client of one control plane.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The version that it shows, for `If-Match`.
    pub(crate) etag: Option<HeaderValue>,
    /// What is said beside the body.
    pub(crate) headers: HeaderMap,
    /// The body; null when there is none.
    pub(crate) json: Value,
    server: String,
}

/// A list, gathered from its pages.
#[derive(Debug)]
pub(crate) struct List {
    /// As many as were asked for.
    pub(crate) items: Vec<Value>,
    /// There are more than were asked for.
    pub(crate) more: bool,
    /// What stood beside the items on the first page.
    pub(crate) beside: Map<String, Value>,
    server: String,
}

/// A request to be made.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Client {
    /// A client as the arguments describe it.
    pub(crate) fn new(args: &Remote) -> anyhow::Result<Self> {
        let reach = Reach::new(args)?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, reach.authorization.clone());
        headers.insert(VIA, HeaderValue::from_static("cli"));
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .redirect(Policy::none());
        if reach.is_plain() {
            // A proxy would read the token; and there is no certificate to judge.
            builder = builder.no_proxy().tls_certs_only([]);
        }
        if let Some(ca) = reach.ca {
            builder = builder.tls_certs_only(ca);
        }
        let http = builder
            .build()
            .map_err(|error| Usage(format!("TLS can't be used: {}", cause(&error))))?;
        Ok(Self {
            http,
            server: reach.server,
        })
    }

    /// A request to a path below `/api/v1`, by its segments. A segment that would be taken as a way up is wrong usage.
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Result<Call<'_>, Usage> {
        let mut url = self.server.clone();
        for segment in path {
            // Encoded or not, these are never sent as names (WHATWG URL, "double-dot path segment").
            if matches!(*segment, "" | "." | "..") {
                return Err(Usage(format!("{segment:?} is no name")));
            }
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        Ok(Call {
            client: self,
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
        })
    }

    /// An answer that this program does not understand.
    pub(crate) fn strange(&self, reason: &str) -> CallError {
        CallError::Strange {
            server: self.server.to_string(),
            reason: reason.to_owned(),
        }
    }

    /// No answer, or half of one.
    pub(crate) fn unreachable(&self, reason: String) -> CallError {
        CallError::Unreachable {
            server: self.server.to_string(),
            reason,
        }
    }

    /// The same, with the library's reason.
    pub(crate) fn broken(&self, error: &reqwest::Error) -> CallError {
        self.unreachable(cause(error))
    }

    /// A list, page by page, until `most` items are there.
    pub(crate) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        most: usize,
    ) -> anyhow::Result<List> {
        let mut list = List {
            items: Vec::new(),
            more: false,
            beside: Map::new(),
            server: self.server.to_string(),
        };
        let mut after: Option<String> = None;
        loop {
            let limit = PAGE.min(most - list.items.len());
            let mut call = self.call(Method::GET, path)?.query("limit", &limit.to_string());
            for (name, value) in query {
                call = call.query(name, value);
            }
            if let Some(after) = &after {
                call = call.query("after", after);
            }
            let page: PageOf = call.send().await?.read()?;
            let full = list.items.len() + page.items.len() >= most;
            if list.items.is_empty() {
                list.beside = page.beside;
            }
            list.items.extend(page.items);
            list.items.truncate(most);
            match page.next {
                Some(next) if !full && after.as_ref() != Some(&next) => after = Some(next),
                Some(_) if full => {
                    list.more = true;
                    return Ok(list);
                }
                Some(next) => {
                    let reason = format!("the page after {next:?} is said to be itself");
                    let server = list.server;
                    return Err(CallError::Strange { server, reason }.into());
                }
                None => return Ok(list),
            }
        }
    }
}

#[derive(Deserialize)]
struct PageOf {
    items: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
    #[serde(flatten)]
    beside: Map<String, Value>,
}

impl Call<'_> {
    /// Adds a parameter.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// What was seen last of a stream.
    pub(crate) fn last_seen(mut self, id: u64) -> Self {
        self.headers
            .insert(HeaderName::from_static("last-event-id"), HeaderValue::from(id));
        self
    }

    /// Only if it is still what was read.
    pub(crate) fn if_match(mut self, etag: HeaderValue) -> Self {
        self.headers.insert(IF_MATCH, etag);
        self
    }

    /// Only if there is nothing yet.
    pub(crate) fn if_absent(mut self) -> Self {
        self.headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        self
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        // Plain data with text keys always serializes.
        self.body = serde_json::to_vec(body).unwrap_or_default();
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// With a text for a body.
    pub(crate) fn text(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        self
    }

    /// Asks; an answer above 399 is an error.
    pub(crate) async fn send(self) -> Result<Answer, CallError> {
        let client = self.client;
        let mut response = self.respond(ANSWER).await?;
        let body = read(client, &mut response).await?;
        let json = match body.as_slice() {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|error| client.strange(&error.to_string()))?,
        };
        Ok(Answer {
            etag: response.headers().get(ETAG).cloned(),
            headers: response.headers().clone(),
            json,
            server: client.server.to_string(),
        })
    }

    /// Asks for a text; an answer above 399 is an error.
    pub(crate) async fn read_text(self) -> Result<String, CallError> {
        let client = self.client;
        let mut response = self.respond(ANSWER).await?;
        let body = read(client, &mut response).await?;
        String::from_utf8(body).map_err(|_| client.strange("it is not in UTF-8"))
    }

    /// Asks for what is read while it is made, and may have no end; an answer above 399 is an error.
    pub(crate) async fn open(self) -> Result<Response, CallError> {
        let client = self.client;
        let begun = tokio::time::timeout(ANSWER, self.respond(WITHOUT_END)).await;
        begun.map_err(|_| client.unreachable(format!("no answer within {} s", ANSWER.as_secs())))?
    }

    async fn respond(self, patience: Duration) -> Result<Response, CallError> {
        let client = self.client;
        let request = client
            .http
            .request(self.method, self.url)
            .headers(self.headers)
            .timeout(patience)
            .body(self.body);
        let mut response = request.send().await.map_err(|error| client.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = read(client, &mut response).await?;
        let refusal = refusal(&response, &body, client.server.as_str());
        Err(CallError::Refused(Box::new(refusal)))
    }
}

/// A body of bounded size.
async fn read(client: &Client, response: &mut Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| client.broken(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(client.strange(&format!("it is larger than {} MiB", MAX_ANSWER >> 20)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

impl Answer {
    /// The body as it is meant.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, CallError> {
        understood(self.json, &self.server)
    }

    /// The same, for who also shows it as it is.
    pub(crate) fn peek<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        understood(self.json.clone(), &self.server)
    }

    /// The tag for `If-Match`.
    pub(crate) fn tag(&self) -> Result<HeaderValue, CallError> {
        self.etag.clone().ok_or_else(|| CallError::Strange {
            server: self.server.clone(),
            reason: "it has no ETag".into(),
        })
    }
}

impl List {
    /// The items as they are meant.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>, CallError> {
        let items = self.items.iter().cloned();
        items.map(|item| understood(item, &self.server)).collect()
    }

    /// As the API would show it in one page.
    pub(crate) fn into_json(self) -> Value {
        let mut whole = self.beside;
        whole.insert("items".into(), self.items.into());
        whole.insert("next".into(), Value::Null);
        whole.into()
    }
}

fn understood<T: DeserializeOwned>(json: Value, server: &str) -> Result<T, CallError> {
    serde_json::from_value(json).map_err(|error| CallError::Strange {
        server: server.to_owned(),
        reason: error.to_string(),
    })
}
