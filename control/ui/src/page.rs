//! The frame of every page: title, navigation, who is logged in, which organization, how it looks.
//!
//! Owns what `base.html` shows and how a page is sent. What pages show inside of it is theirs.

use askama::Template;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{Html, IntoResponse, Redirect, Response};

use crate::error::{Failure, Problem};
use crate::session::Who;
use crate::text::{Text, url};
use crate::{Ui, cookies};

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the system has it.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(crate) fn of(text: Option<&str>) -> Self {
        match text {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::Auto,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// Entries of the navigation; [`Area::None`] marks none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    None,
    Overview,
    Policies,
    EndpointSets,
    Baselines,
    Coverage,
    Unidentified,
    Runs,
    Events,
    Detections,
    Gateways,
    Connect,
    GlobalBlock,
    AuditLog,
    Settings,
}

/// A group of the navigation.
type Group = (&'static str, &'static [(Area, &'static str, &'static str)]);

/// The navigation: groups with their entries; a path that begins with `orgs/` has the organization put in.
const NAVIGATION: &[Group] = &[
    (
        "Watch",
        &[
            (Area::Overview, "Overview", ""),
            (Area::Coverage, "Coverage", "coverage"),
            (Area::Runs, "Runs", "runs"),
            (Area::Events, "Network events", "events"),
            (Area::Detections, "Detections", "detections"),
            (Area::Unidentified, "Unidentified sources", "unidentified"),
        ],
    ),
    (
        "Decide",
        &[
            (Area::Policies, "Policies", "orgs/policies"),
            (Area::EndpointSets, "Endpoint sets", "orgs/endpoint-sets"),
            (Area::Baselines, "Baselines", "baselines"),
            (Area::GlobalBlock, "Global block list", "global-block"),
        ],
    ),
    (
        "Run",
        &[
            (Area::Gateways, "Gateways", "gateways"),
            (Area::Connect, "Connect runners", "connect"),
            (Area::AuditLog, "Audit log", "audit-log"),
            (Area::Settings, "Settings", "settings"),
        ],
    ),
];

/// An entry as it is drawn.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) word: &'static str,
    pub(crate) href: String,
    pub(crate) is_current: bool,
}

/// What the frame shows. The first field of every page's template.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) area: Area,
    /// The organization that is looked at; empty while none was chosen.
    pub(crate) owner: String,
    pub(crate) who: Option<Who>,
    pub(crate) theme: Theme,
    pub(crate) flash: Option<&'static str>,
    /// Path and query of this page: where a change of its looks leads back to. Empty for the answer to a form, which no
    /// address leads back to.
    pub(crate) here: String,
    /// Modules besides `app.js`.
    pub(crate) scripts: &'static [&'static str],
}

impl Page {
    /// A page of one organization.
    pub(crate) fn of(mut self, owner: &str) -> Self {
        owner.clone_into(&mut self.owner);
        self
    }

    /// A page with scripts of its own, by their names in `assets/`.
    pub(crate) fn with(mut self, scripts: &'static [&'static str]) -> Self {
        self.scripts = scripts;
        self
    }

    /// The title as it is shown.
    pub(crate) fn heading(&self) -> Text {
        self.title.as_str().into()
    }

    /// The organization as it is shown.
    pub(crate) fn organization(&self) -> Text {
        self.owner.as_str().into()
    }

    /// True when buttons that change policies are shown.
    pub(crate) fn can_write(&self) -> bool {
        self.who.as_ref().is_some_and(Who::can_write)
    }

    /// The navigation.
    pub(crate) fn navigation(&self) -> Vec<(&'static str, Vec<Entry>)> {
        let entries = |entries: &[(Area, &'static str, &'static str)]| {
            let entry = |(area, word, path): &(Area, &'static str, &'static str)| Entry {
                word,
                href: self.href(path),
                is_current: *area == self.area,
            };
            entries.iter().map(entry).collect()
        };
        NAVIGATION
            .iter()
            .map(|(group, inner)| (*group, entries(inner)))
            .collect()
    }

    fn href(&self, path: &str) -> String {
        match path.strip_prefix("orgs/") {
            None => url(&["ui", path], &[]),
            Some(to) if self.owner.is_empty() => url(&["ui", "orgs"], &[("to", to)]),
            Some(to) => url(&["ui", "orgs", &self.owner, to], &[]),
        }
    }
}

/// Marks an answer as a whole page, for the layers around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole;

/// Sends a page.
pub(crate) fn show<T: Template>(template: &T) -> Response {
    show_with(StatusCode::OK, template)
}

/// Sends a page with another status: 422 for a form with errors, 409 for a conflict.
pub(crate) fn show_with<T: Template>(status: StatusCode, template: &T) -> Response {
    let mut response = show_part(template);
    *response.status_mut() = status;
    response.extensions_mut().insert(Whole);
    response
}

/// Sends a part of a page, which a script puts in its place.
pub(crate) fn show_part<T: Template>(template: &T) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Failure::from(Problem::own("the page could not be made")).into_response()
        }
    }
}

/// To another page after a change, with what there is to say: a code of `flash.rs`.
pub(crate) fn done(ui: &Ui, to: &str, flash: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Some(cookie) = cookies::brief(ui.settings.secure, cookies::FLASH, flash) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}
