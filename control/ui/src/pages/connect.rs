//! Connecting runners: what to run on a runner's machine, filled in for each network that gateways serve.
//!
//! Owns the snippets. They are text for people to copy; nothing here changes a machine. A token that is made here is
//! shown once, in the answer to the form that made it, and nowhere else.

mod snippets;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use self::snippets::{Place, Snippet};
use crate::Ui;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, show, show_with};
use crate::session::Session;
use crate::text::{Text, url};

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/connect", get(networks))
        .route("/ui/connect/{network}", get(network))
        .route("/ui/connect/{network}/token", post(make_token))
}

#[derive(Debug, Deserialize)]
struct Gateways {
    items: Vec<Gateway>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Gateway {
    name: Text,
    #[serde(default)]
    connected: bool,
    networks: Vec<Served>,
}

/// A network as one gateway serves it.
#[derive(Clone, Debug, Deserialize)]
struct Served {
    name: Text,
    #[serde(default)]
    cluster: Text,
    #[serde(default)]
    ranges: Vec<Text>,
    #[serde(default)]
    min_assurance: Option<Text>,
    #[serde(default)]
    default_policy: Option<Text>,
    #[serde(default)]
    runners: Option<Text>,
}

/// A network with every gateway that serves it.
#[derive(Clone, Debug)]
struct Network {
    served: Served,
    gateways: Vec<(Text, bool)>,
}

impl Network {
    fn href(&self) -> String {
        url(&["ui", "connect", self.served.name.raw()], &[])
    }
}

/// Pages of a thousand gateways that are read at most.
const PAGES: usize = 20;

/// Every gateway.
async fn gateways(session: &Session) -> Result<Vec<Gateway>, Problem> {
    let mut all = Vec::new();
    let mut after = String::new();
    for _ in 0..PAGES {
        let query = [("limit", "1000"), ("after", after.as_str())];
        let found: Gateways = session.api.get(&url(&["gateways"], &query)).await?;
        all.extend(found.items);
        match found.next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(all)
}

/// The networks of all gateways, by name. Gateways of one group serve the same ones.
async fn read(session: &Session) -> Result<Vec<Network>, Problem> {
    let mut networks: Vec<Network> = Vec::new();
    for gateway in gateways(session).await? {
        for served in gateway.networks {
            let at = (gateway.name.clone(), gateway.connected);
            match networks.iter_mut().find(|one| one.served.name == served.name) {
                Some(known) => {
                    let new = |range: &Text| !known.served.ranges.contains(range);
                    let further: Vec<Text> = served.ranges.iter().filter(|one| new(one)).cloned().collect();
                    known.served.ranges.extend(further);
                    known.gateways.push(at);
                }
                None => networks.push(Network {
                    served,
                    gateways: vec![at],
                }),
            }
        }
    }
    networks.sort_by(|a, b| a.served.name.cmp(&b.served.name));
    Ok(networks)
}

#[derive(Template)]
#[template(path = "connect/list.html")]
struct List {
    page: Page,
    networks: Vec<Network>,
}

async fn networks(session: Session) -> Result<Response, Failure> {
    Ok(show(&List {
        networks: read(&session).await?,
        page: session.page("Connect runners", Area::Connect),
    }))
}

/// What only people know of their network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// The gateway's address in this network.
    via: String,
    /// Where the Actions runner is installed.
    runner: String,
}

/// A runner token as it is typed.
#[derive(Clone, Debug, Default)]
struct Typed {
    name: String,
    owners: String,
    until: String,
}

#[derive(Template)]
#[template(path = "connect/one.html")]
struct One {
    page: Page,
    network: Network,
    asked: Asked,
    snippets: Vec<Snippet>,
    typed: Typed,
    /// The text of a token that was made just now.
    token: Option<String>,
    can_make: bool,
    problem: Option<Problem>,
}

impl One {
    fn action(&self) -> String {
        let path = ["ui", "connect", self.network.served.name.raw(), "token"];
        url(&path, &[("via", &self.asked.via), ("runner", &self.asked.runner)])
    }
}

async fn network(
    session: Session,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failure> {
    Ok(show(&one(&session, &name, asked).await?))
}

async fn one(session: &Session, name: &str, asked: Asked) -> Result<One, Problem> {
    let known = read(session).await?;
    let Some(network) = known.into_iter().find(|one| one.served.name.raw() == name) else {
        let detail = "no gateway serves a network of this name; it appears when its gateway first connects";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let mut page = One {
        page: session.page(&format!("Connect runners: {name}"), Area::Connect),
        typed: Typed {
            name: format!("runners of {name}"),
            owners: session.page("", Area::Connect).owner,
            until: String::new(),
        },
        snippets: Vec::new(),
        token: None,
        can_make: session.who.is_admin(),
        problem: None,
        network,
        asked,
    };
    match Place::of(&page.asked.via, &page.asked.runner, &page.network.served.ranges) {
        Ok(place) => page.snippets = snippets::all(&place),
        Err(problem) => page.problem = Some(problem),
    }
    Ok(page)
}

#[derive(Debug, Serialize)]
struct NewToken<'a> {
    role: &'static str,
    name: &'a str,
    owners: Vec<&'a str>,
    networks: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Made {
    token: String,
}

/// Makes a runner token for this network. Its text stands in this answer only, which no browser keeps.
async fn make_token(
    session: Session,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    fields: Fields,
) -> Result<Response, Failure> {
    let mut page = one(&session, &name, asked).await?;
    page.typed = Typed {
        name: fields.get("name").into(),
        owners: fields.get("owners").into(),
        until: fields.get("until").into(),
    };
    let separators = |c: char| c == ',' || c.is_whitespace();
    let new = NewToken {
        role: "runner",
        name: &page.typed.name,
        owners: page
            .typed
            .owners
            .split(separators)
            .filter(|one| !one.is_empty())
            .collect(),
        networks: [&name],
        expires_at: (!page.typed.until.is_empty()).then(|| format!("{}T23:59:59Z", page.typed.until)),
    };
    match session.api.post(&url(&["tokens"], &[]), &new).await {
        Ok(reply) => {
            let made: Made = reply.json()?;
            page.token = Some(made.token);
            Ok(show(&page))
        }
        Err(problem) => {
            let problem = Failure::problem(problem)?;
            let status = problem.status();
            page.problem = Some(problem);
            Ok(show_with(status, &page))
        }
    }
}
