//! That turns are bounded, and that what reads much of the record takes one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use tempfile::TempDir;
use tidegate_control_wire::secret::Secret;
use tower::ServiceExt;

use super::*;
use crate::api::{ApiState, router};
use crate::model::{Actor, NewToken, Role};
use crate::store::Store;
use crate::sync::Hub;
use crate::view::View;

const FEW: Bounds = Bounds {
    what: "things",
    at_once: 2,
    waiting: 1,
    again: 7,
};

fn is_busy(response: &Response<Body>, again: u64) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[RETRY_AFTER], again.to_string().as_str());
}

#[tokio::test]
async fn as_many_as_may_work_and_wait_and_the_next_is_sent_away() {
    let turns = Turns::of(FEW);
    let first = turns.take().await.unwrap();
    let _second = turns.take().await.unwrap();
    let mut third = Box::pin(turns.take());
    assert!(third.as_mut().now_or_never().is_none(), "it waits");
    is_busy(&turns.take().await.unwrap_err().into_response(), 7);
    drop(first);
    let third = third.await.unwrap();
    let mut fourth = Box::pin(turns.take());
    assert!(fourth.as_mut().now_or_never().is_none(), "it waits");
    drop(fourth);
    let fifth = Box::pin(turns.take());
    drop(third);
    fifth.await.expect("who went away left the line");
}

/// An API over an empty store, and an admin's token.
async fn api() -> (ApiState, String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("control.db").display());
    let store = Store::open(&url).await.unwrap();
    let secret = Secret::new(Role::Admin);
    let wanted = NewToken {
        role: Role::Admin,
        name: "root".into(),
        owners: Vec::new(),
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    };
    store
        .create_token(&wanted, &secret.digest(), &Actor::system())
        .await
        .unwrap();
    let view = View::open(&store).await.unwrap();
    let state = ApiState::new(store.clone(), view, Hub::new(store));
    (state, secret.expose().to_owned(), folder)
}

async fn ask(router: &Router, token: &str, method: &str, path: &str, body: &str) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    router.clone().oneshot(request).await.unwrap()
}

/// Everybody's places are taken, then free again.
#[tokio::test]
async fn summaries_and_simulations_take_turns_of_their_own() {
    let (state, token, _folder) = api().await;
    let router = router(state.clone());
    let candidate = r#"{"yaml": "egress-policy: audit\n", "scopes": ["org:acme"]}"#;
    let summary = || ask(&router, &token, "GET", "/jobs/nobody/summary.md", "");
    let simulation = || {
        ask(
            &router,
            &token,
            "POST",
            "/orgs/acme/policies/web/simulate",
            candidate,
        )
    };
    let Bounds {
        at_once,
        waiting,
        again,
        ..
    } = state.summaries.bounds;
    let all = u32::try_from(at_once + waiting).unwrap();
    let taken = state.summaries.places.try_acquire_many(all).unwrap();
    is_busy(&summary().await, again);
    assert_eq!(simulation().await.status(), StatusCode::OK);
    drop(taken);
    assert_eq!(summary().await.status(), StatusCode::NOT_FOUND);
    let Bounds {
        at_once,
        waiting,
        again,
        ..
    } = state.simulations.bounds;
    let all = u32::try_from(at_once + waiting).unwrap();
    let taken = state.simulations.places.try_acquire_many(all).unwrap();
    is_busy(&simulation().await, again);
    assert_eq!(summary().await.status(), StatusCode::NOT_FOUND);
    drop(taken);
    assert_eq!(simulation().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn drafts_take_turns_of_their_own() {
    let (state, token, _folder) = api().await;
    let router = router(state.clone());
    let given = r#"{"owner": "acme", "from": {"endpoints": ["a.example:443"]}}"#;
    let draft = || ask(&router, &token, "POST", "/baselines/draft", given);
    let Bounds {
        at_once,
        waiting,
        again,
        ..
    } = state.drafts.bounds;
    let all = u32::try_from(at_once + waiting).unwrap();
    let taken = state.drafts.places.try_acquire_many(all).unwrap();
    is_busy(&draft().await, again);
    drop(taken);
    assert_eq!(draft().await.status(), StatusCode::OK);
    let places = state.drafts.places.available_permits();
    assert_eq!(places, at_once + waiting, "each is given back");
}
