//! Tokens: which there are, making one, taking one back.
//!
//! A token's text is on the one page that answers its making, and nowhere else: not in an address, not in a cookie.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Tab, names};
use crate::Ui;
use crate::error::{Failure, Problem};
use crate::form::Fields;
use crate::page::{Area, Page, done, show, show_with};
use crate::session::Session;
use crate::text::{Text, url};
use crate::time::When;

/// Roles with what they are for.
const ROLES: &[(&str, &str)] = &[
    ("viewer", "reads everything"),
    ("editor", "reads, and changes policies and endpoint sets"),
    ("gateway", "connects a gateway; its name is the gateway's"),
    ("provisioner", "registers jobs for runners, from an autoscaler"),
    ("runner", "lets a runner register its own jobs"),
];

pub(crate) fn routes() -> Router<Ui> {
    Router::new()
        .route("/ui/settings/tokens", get(list).post(make))
        .route("/ui/settings/tokens/new", get(form))
        .route("/ui/settings/tokens/{id}/revoke", get(ask).post(revoke))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    role: String,
    state: String,
    search: String,
    after: String,
}

#[derive(Debug, Deserialize)]
struct Token {
    id: Text,
    role: Text,
    name: Text,
    #[serde(default)]
    owners: Vec<Text>,
    #[serde(default)]
    repos: Vec<Text>,
    #[serde(default)]
    networks: Vec<Text>,
    cluster: Option<Text>,
    created_at: When,
    created_by: Text,
    expires_at: Option<When>,
    revoked_at: Option<When>,
    last_used_at: Option<When>,
}

impl Token {
    /// What it is limited to.
    fn limits(&self) -> String {
        let mut limits = Vec::new();
        for list in [&self.owners, &self.repos, &self.networks] {
            if !list.is_empty() {
                limits.push(names(list, ""));
            }
        }
        if let Some(cluster) = &self.cluster {
            limits.push(format!("cluster {cluster}"));
        }
        if limits.is_empty() {
            return "everything".to_owned();
        }
        limits.join("; ")
    }

    fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|end| end.0 <= jiff::Timestamp::now())
    }

    fn is_good(&self) -> bool {
        self.revoked_at.is_none() && !self.is_expired()
    }

    fn revoke_href(&self) -> String {
        url(&["ui", "settings", "tokens", self.id.raw(), "revoke"], &[])
    }

    fn audit_href(&self) -> String {
        url(&["ui", "audit-log"], &[("actor", self.id.raw())])
    }
}

#[derive(Debug, Deserialize)]
struct Tokens {
    items: Vec<Token>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "settings/tokens.html")]
struct List {
    page: Page,
    tabs: [Tab; 3],
    tab: Tab,
    asked: Asked,
    items: Vec<Token>,
    older: String,
    newer: String,
}

async fn list(session: Session, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let living = match asked.state.as_str() {
        "dead" => "false",
        "all" => "",
        _ => "true",
    };
    let query = [
        ("role", asked.role.as_str()),
        ("living", living),
        ("search", asked.search.trim()),
        ("order", "desc"),
        ("after", &asked.after),
        ("limit", "100"),
    ];
    let found: Tokens = session.api.get(&url(&["tokens"], &query)).await?;
    let here = |after: &str| {
        let query = [
            ("role", asked.role.as_str()),
            ("state", &asked.state),
            ("search", &asked.search),
            ("after", after),
        ];
        url(&["ui", "settings", "tokens"], &query)
    };
    let older = found.next.as_deref().map(here).unwrap_or_default();
    let newer = if asked.after.is_empty() {
        String::new()
    } else {
        here("")
    };
    Ok(show(&List {
        page: session.page("Tokens", Area::Settings),
        tabs: Tab::ALL,
        tab: Tab::Tokens,
        asked,
        items: found.items,
        older,
        newer,
    }))
}

/// What is typed, to be shown again.
#[derive(Debug, Default)]
struct Typed {
    role: String,
    name: String,
    owners: String,
    repos: String,
    networks: String,
    cluster: String,
    expires: String,
}

#[derive(Template)]
#[template(path = "settings/token_new.html")]
struct New {
    page: Page,
    roles: &'static [(&'static str, &'static str)],
    typed: Typed,
    problem: Option<Problem>,
}

async fn form(session: Session) -> Response {
    show(&New {
        page: session.page("New token", Area::Settings),
        roles: ROLES,
        typed: Typed {
            role: "viewer".into(),
            ..Typed::default()
        },
        problem: None,
    })
}

#[derive(Debug, Serialize)]
struct Wanted<'a> {
    role: &'a str,
    name: &'a str,
    owners: Vec<&'a str>,
    repos: Vec<&'a str>,
    networks: Vec<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Made {
    id: Text,
    token: Text,
}

#[derive(Template)]
#[template(path = "settings/token_made.html")]
struct MadePage {
    page: Page,
    made: Made,
    name: Text,
    role: Text,
}

async fn make(session: Session, fields: Fields) -> Result<Response, Failure> {
    let text = |name: &str| fields.get(name).to_owned();
    let typed = Typed {
        role: text("role"),
        name: text("name"),
        owners: text("owners"),
        repos: text("repos"),
        networks: text("networks"),
        cluster: text("cluster"),
        expires: text("expires"),
    };
    let problem = match expiry(&typed.expires) {
        Ok(expires_at) => {
            let wanted = Wanted {
                role: &typed.role,
                name: &typed.name,
                owners: words(&typed.owners),
                repos: words(&typed.repos),
                networks: words(&typed.networks),
                cluster: &typed.cluster,
                expires_at,
            };
            match session.api.post(&url(&["tokens"], &[]), &wanted).await {
                Ok(reply) => {
                    return Ok(show_with(
                        StatusCode::CREATED,
                        &MadePage {
                            page: session.page("Token made", Area::Settings),
                            made: reply.json()?,
                            name: typed.name.into(),
                            role: typed.role.into(),
                        },
                    ));
                }
                Err(problem) => Failure::problem(problem)?,
            }
        }
        Err(problem) => problem,
    };
    let status = problem.status();
    let page = New {
        page: session.page("New token", Area::Settings),
        roles: ROLES,
        typed,
        problem: Some(problem),
    };
    Ok(show_with(status, &page))
}

/// Words with spaces, commas or lines between them.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .collect()
}

/// The end of a day, in UTC; nothing when nothing is said.
fn expiry(text: &str) -> Result<Option<String>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.parse::<Date>().ok().and_then(|day| {
        let end = day.at(23, 59, 59, 0).to_zoned(TimeZone::UTC).ok()?;
        Some(end.timestamp().to_string())
    });
    let odd = || {
        let mut problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the last day has to be a date, such as 2027-01-31",
        );
        problem.field = Some("expires_at".into());
        problem
    };
    end.map(Some).ok_or_else(odd)
}

#[derive(Template)]
#[template(path = "settings/token_revoke.html")]
struct Ask {
    page: Page,
    token: Token,
}

/// One token, by its id.
async fn find(session: &Session, id: &str) -> Result<Token, Problem> {
    let query = [("search", id), ("limit", "10")];
    let found: Tokens = session.api.get(&url(&["tokens"], &query)).await?;
    let token = found.items.into_iter().find(|token| token.id.raw() == id);
    token.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such token"))
}

async fn ask(session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    let token = find(&session, &id).await?;
    let page = session.page("Revoke token", Area::Settings);
    Ok(show(&Ask { page, token }))
}

async fn revoke(State(ui): State<Ui>, session: Session, Path(id): Path<String>) -> Result<Response, Failure> {
    session.api.delete(&url(&["tokens", &id], &[]), None).await?;
    Ok(done(&ui, "/ui/settings/tokens", "token-revoked"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_day_ends_with_its_last_second() {
        assert_eq!(expiry("").unwrap(), None);
        assert_eq!(expiry("2027-01-31").unwrap().unwrap(), "2027-01-31T23:59:59Z");
        for odd in ["soon", "2027-02-30", "2027-01-31T10:00:00Z extra"] {
            assert_eq!(expiry(odd).unwrap_err().status, 422, "{odd}");
        }
    }

    #[test]
    fn words_are_told_apart_by_anything_between_them() {
        assert_eq!(
            words(" acme, umbrella\n\tinitech,,"),
            ["acme", "umbrella", "initech"]
        );
        assert!(words("").is_empty());
    }
}
