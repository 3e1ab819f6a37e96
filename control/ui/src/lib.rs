//! The web UI: pages for people, made on the server from what the public API answers.
//!
//! Owns HTML, its styles and scripts, the session's cookie, and the headers that pages need. It is a client of the API
//! like any other: each page asks `/api/v1/…` of the router beside it, in the process, by the session's token
//! ([`client`]); so who may see or change what is decided in one place only, the API. It knows no store, decides
//! nothing, and never forwards a request of a browser: it makes new ones.
//!
//! # Adding a page
//!
//! 1. `pages/<area>.rs` with `pub(crate) fn routes() -> Router<Ui>`, merged in [`pages::routes`]. Paths are whole
//!    (`/ui/…`). Routes that take documents get `.layer(DefaultBodyLimit::max(EDITOR_BODY))`.
//! 2. A handler takes [`session::Session`] first (no session: it sends people to the login page, and 401 to fragments
//!    and streams), asks `session.api`, and answers `Result<Response, Failure>`; `?` turns every refusal of the API into
//!    its error page.
//! 3. Small structs with the shown fields only, read by serde; strings from anywhere are [`text::Text`], times are
//!    [`time::When`]. URLs are made by [`text::url`] only.
//! 4. A template in `templates/<area>/` that extends `base.html`, with a field `page: Page`; [`page::show`] renders it.
//!    No inline script, style or handler: the Content-Security-Policy would refuse them.
//! 5. Changes are forms: `POST` → the API → [`page::done`] (303, with a flash message of `flash.rs`). What the API
//!    refused is shown in the form again, with what was typed ([`error::Failure::problem`]).
//! 6. Tests in `control/tests/ui/<area>.rs`, on its `bench.rs`.
//!
//! ```ignore
//! pub(crate) fn routes() -> Router<Ui> {
//!     Router::new().route("/ui/gateways", get(list))
//! }
//!
//! #[derive(Deserialize)]
//! struct Gateway { name: Text, last_seen_at: When }
//!
//! #[derive(Template)]
//! #[template(path = "gateways/list.html")]
//! struct List { page: Page, items: Vec<Gateway> }
//!
//! async fn list(session: Session) -> Result<Response, Failure> {
//!     let found: Items<Gateway> = session.api.get(&url(&["gateways"], &[])).await?;
//!     let page = session.page("Gateways", Area::Gateways);
//!     Ok(show(&List { page, items: found.items }))
//! }
//! ```

#![allow(clippy::struct_field_names, reason = "fields are named as the API names them")]

mod assets;
mod chart;
mod client;
mod cookies;
mod diff;
mod error;
mod event;
mod flash;
mod form;
mod guard;
mod owner;
mod page;
mod pages;
mod proposal;
mod resume;
mod session;
mod spark;
mod text;
mod time;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::sync::Semaphore;

/// Largest body of a form, in bytes.
const FORM_BODY: usize = 256 << 10;
/// Largest body of a form that carries a document: 1 MiB of YAML, percent-encoded by the browser, three for one at most.
pub(crate) const EDITOR_BODY: usize = 6 << 20;

/// How the UI is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UiSettings {
    /// Browsers reach it by HTTPS: cookies are `Secure` and bound to the host. False on plain loopback only.
    pub secure: bool,
    /// The origin that browsers see (`https://tidegate.example.test`), where a proxy stands before and rewrites `Host`.
    pub public_origin: Option<String>,
}

/// What every page shares. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    /// The API, without the gateways' sync.
    pub(crate) api: Router,
    pub(crate) settings: Arc<UiSettings>,
    /// Places for forms whose session ended.
    pub(crate) holding: Arc<Semaphore>,
}

/// The pages over an API, to be merged with it: whole paths, `/` and below `/ui`, no fallback. Requests carry the address
/// of their sender as `ConnectInfo<SocketAddr>`, which is all that is handed on of them.
pub fn router(api: Router, settings: UiSettings) -> Router {
    let ui = Ui {
        api,
        settings: Arc::new(settings),
        holding: Arc::new(Semaphore::new(resume::AT_ONCE)),
    };
    pages::routes()
        .layer(DefaultBodyLimit::max(FORM_BODY))
        .layer(from_fn_with_state(ui.clone(), resume::hold))
        .layer(guard::csrf(&ui.settings))
        .layer(from_fn_with_state(ui.clone(), guard::explain))
        .layer(from_fn(guard::bounded))
        .layer(from_fn_with_state(ui.clone(), guard::headers))
        .with_state(ui)
}
