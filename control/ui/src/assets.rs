//! Styles, scripts and the icon: in the binary, under a path that changes with what is in them, kept by browsers for
//! ever.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::Ui;
use crate::error::{Failure, Problem};

const JS: &str = "text/javascript; charset=utf-8";

/// Name, media type, text. Scripts import each other by `./name.js`.
const ASSETS: &[(&str, &str, &str)] = &[
    (
        "tidegate.css",
        "text/css; charset=utf-8",
        concat!(
            include_str!("../assets/base.css"),
            include_str!("../assets/parts.css"),
            include_str!("../assets/code.css"),
            include_str!("../assets/policies.css"),
            include_str!("../assets/watch.css"),
        ),
    ),
    ("app.js", JS, include_str!("../assets/app.js")),
    ("time.js", JS, include_str!("../assets/time.js")),
    ("load.js", JS, include_str!("../assets/load.js")),
    ("events.js", JS, include_str!("../assets/events.js")),
    ("job-events.js", JS, include_str!("../assets/job-events.js")),
    ("editor.js", JS, include_str!("../assets/editor.js")),
    ("impact.js", JS, include_str!("../assets/impact.js")),
    ("select.js", JS, include_str!("../assets/select.js")),
    ("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
];

/// One hash for all, so that scripts find each other beside themselves. FNV-1a: it tells builds apart, nothing else.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let bytes = ASSETS
        .iter()
        .flat_map(|(name, _, text)| name.bytes().chain(text.bytes()));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut text = String::with_capacity(16);
    // Writing to a string does not fail.
    let _ = write!(text, "{hash:016x}");
    text
});

/// Where an asset is.
pub(crate) fn place(name: &str) -> String {
    format!("/ui/static/{}/{name}", *HASH)
}

pub(crate) fn routes() -> Router<Ui> {
    Router::new().route("/ui/static/{hash}/{name}", get(asset))
}

async fn asset(Path((hash, name)): Path<(String, String)>) -> Response {
    let Some((_, media, text)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        let problem = Problem::new(StatusCode::NOT_FOUND, "there is no such file");
        return Failure::from(problem).into_response();
    };
    // Another build's page may ask here while instances are replaced: it gets what there is, for now.
    let kept = if hash == *HASH {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    ([(CONTENT_TYPE, *media), (CACHE_CONTROL, kept)], *text).into_response()
}
