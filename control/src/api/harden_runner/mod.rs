//! The policy store's part of the Harden-Runner clients' wire, as its Terraform provider uses it (harden-runner-wire.md).
//!
//! Owns the routes below `/v1/github/{owner}/actions/policies`, beside `/api/v1`: the provider is given this control
//! plane's address as its base. Tokens, roles, refusals and the history are those of every other route; a policy is the
//! same policy, and what the wire can't say of it is kept ([`document`]). The clients on runners ask their gateway.

mod document;
mod scopes;
mod shape;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidegate_policy::job::Scope;
use utoipa::IntoParams;

use self::shape::{WireAttachments, WirePolicy, WirePolicyUpdate};
use super::auth::Caller;
use super::documents::{check_size, wrong};
use super::errors;
use super::extract::{LargeJson, Names};
use super::problem::{Code, Refused};
use super::state::ApiState;
use crate::model::Policy;
use crate::store::{Attaching, Expected, Put, StoreError};

/// Tries of a change, while others write the same policy.
const TRIES: u32 = 16;

/// Which policy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct WireNamed {
    /// Organization.
    #[param(
        min_length = 1,
        max_length = 100,
        pattern = "^[A-Za-z0-9._-]+$",
        example = "acme"
    )]
    owner: String,
    /// Name, unique among the owner's.
    #[serde(rename = "policyName")]
    #[param(rename = "policyName", min_length = 1, max_length = 100, example = "base")]
    policy_name: String,
}

/// Makes or changes a policy, as the Harden-Runner clients' Terraform provider does.
///
/// What is left out stays as it is stored, and so does what this shape can't say (`use`, `icmp`, `platform`).
#[utoipa::path(post, path = "/v1/github/{owner}/actions/policies/{policyName}", tag = "harden-runner",
    params(WireNamed), request_body = WirePolicyUpdate,
    responses((status = 200, body = WirePolicy), (status = 201, body = WirePolicy)))]
pub(super) async fn wire_put_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<WireNamed>,
    LargeJson(said): LargeJson<WirePolicyUpdate>,
) -> Result<Response, Refused> {
    let caller = by_wire(caller);
    caller.check_owner(&named.owner)?;
    named.is_meant_by(&said)?;
    let wanted = said.attachments.as_ref();
    let wanted = wanted
        .map(|wanted| scopes::scopes(&named.owner, wanted))
        .transpose()?;
    for _ in 0..TRIES {
        let stored = named.stored(&state).await?;
        if let Some(wanted) = &wanted {
            let held = stored.iter().flat_map(held);
            check_scopes(&caller, wanted.iter().cloned().chain(held))?;
        }
        let put = named.put(stored.as_ref(), &said, wanted.clone())?;
        let text = put.yaml.clone().unwrap_or_default();
        let done = state
            .store
            .put_policy(&named.owner, &named.policy_name, put, &caller.actor);
        match done.await {
            // Somebody wrote in between.
            Err(StoreError::Stale { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(refused(error, &text, &named.policy_name)),
            Ok(policy) => {
                let status = if stored.is_some() {
                    StatusCode::OK
                } else {
                    StatusCode::CREATED
                };
                return Ok((status, axum::Json(named.shown(&state, &policy).await?)).into_response());
            }
        }
    }
    Err(StoreError::Busy.into())
}

/// A policy with its attachments, as the Harden-Runner clients' Terraform provider reads it.
#[utoipa::path(get, path = "/v1/github/{owner}/actions/policies/{policyName}", tag = "harden-runner",
    params(WireNamed), responses((status = 200, body = WirePolicy)))]
pub(super) async fn wire_get_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<WireNamed>,
) -> Result<Response, Refused> {
    caller.check_owner(&named.owner)?;
    let policy = named.policy(&state).await?;
    Ok(axum::Json(named.shown(&state, &policy).await?).into_response())
}

/// Detaches a policy everywhere and deletes it; its history stays.
#[utoipa::path(delete, path = "/v1/github/{owner}/actions/policies/{policyName}", tag = "harden-runner",
    params(WireNamed), responses((status = 204, description = "Deleted")))]
pub(super) async fn wire_delete_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<WireNamed>,
) -> Result<Response, Refused> {
    let caller = by_wire(caller);
    caller.check_owner(&named.owner)?;
    let policy = named.policy(&state).await?;
    check_scopes(&caller, held(&policy))?;
    let WireNamed { owner, policy_name } = &named;
    let deleted = state.store.delete_policy(owner, policy_name, None, &caller.actor);
    deleted.await.map_err(errors::of_query)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Attaches a policy to scopes, besides those that it holds.
///
/// A scope that another policy holds is a conflict that names it.
#[utoipa::path(post, path = "/v1/github/{owner}/actions/policies/{policyName}/attach", tag = "harden-runner",
    params(WireNamed), request_body = WireAttachments, responses((status = 200, body = WirePolicy)))]
pub(super) async fn wire_attach_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<WireNamed>,
    LargeJson(said): LargeJson<WireAttachments>,
) -> Result<Response, Refused> {
    let caller = by_wire(caller);
    caller.check_owner(&named.owner)?;
    let wanted = scopes::scopes(&named.owner, &said)?;
    if wanted.is_empty() {
        let detail =
            "this attaches nothing: set `apply_to_org`, `apply_to_repo`, or name workflows or clusters";
        return Err(Refused::invalid("org", detail));
    }
    check_scopes(&caller, wanted.iter().cloned())?;
    let policy = named.policy(&state).await?;
    let before = named.attachments(&state, &policy).await?;
    let put = Put {
        expected: Expected::Any,
        yaml: None,
        attaching: Attaching::Also(wanted),
        written: Some(text_of(&scopes::merged(before, &said))),
    };
    let done = state
        .store
        .put_policy(&named.owner, &named.policy_name, put, &caller.actor);
    let policy = done
        .await
        .map_err(|error| refused(error, "", &named.policy_name))?;
    Ok(axum::Json(named.shown(&state, &policy).await?).into_response())
}

/// Detaches a policy everywhere.
#[utoipa::path(delete, path = "/v1/github/{owner}/actions/policies/{policyName}/attach", tag = "harden-runner",
    params(WireNamed), responses((status = 204, description = "Detached, or it was attached nowhere")))]
pub(super) async fn wire_detach_policy(
    State(state): State<ApiState>,
    caller: Caller,
    Names(named): Names<WireNamed>,
) -> Result<Response, Refused> {
    let caller = by_wire(caller);
    caller.check_owner(&named.owner)?;
    let policy = named.policy(&state).await?;
    check_scopes(&caller, held(&policy))?;
    let put = Put {
        expected: Expected::Any,
        yaml: None,
        attaching: Attaching::Only(Vec::new()),
        written: Some(text_of(&WireAttachments::default())),
    };
    let done = state
        .store
        .put_policy(&named.owner, &named.policy_name, put, &caller.actor);
    done.await.map_err(errors::of_query)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl WireNamed {
    async fn policy(&self, state: &ApiState) -> Result<Policy, Refused> {
        let found = state.store.policy(&self.owner, &self.policy_name).await;
        found.map_err(errors::of_query)
    }

    async fn stored(&self, state: &ApiState) -> Result<Option<Policy>, Refused> {
        match state.store.policy(&self.owner, &self.policy_name).await {
            Ok(policy) => Ok(Some(policy)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(errors::of_query(error)),
        }
    }

    /// What is said in the body must be about what stands in the path.
    fn is_meant_by(&self, said: &WirePolicyUpdate) -> Result<(), Refused> {
        let other = |field: &str, said: &str, meant: &str| {
            Err(Refused::invalid(
                field,
                format!("{said:?} is not {meant:?}, as in the path"),
            ))
        };
        match (&said.owner, &said.policy_name) {
            (Some(owner), _) if !owner.eq_ignore_ascii_case(&self.owner) => {
                other("owner", owner, &self.owner)
            }
            (_, Some(name)) if *name != self.policy_name => other("policyName", name, &self.policy_name),
            _ => Ok(()),
        }
    }

    /// What is to be written for what is said.
    fn put(
        &self,
        stored: Option<&Policy>,
        said: &WirePolicyUpdate,
        wanted: Option<Vec<Scope>>,
    ) -> Result<Put, Refused> {
        let text = document::merged(stored.map(|policy| policy.yaml.as_str()), said)?;
        check_size(&text)?;
        let means = |yaml: &str| document::shown(&self.owner, &self.policy_name, yaml).ok();
        // A new text with errors is the store's to refuse, with all that is wrong.
        let same =
            stored.is_some_and(|policy| means(&text).is_some_and(|new| Some(new) == means(&policy.yaml)));
        Ok(Put {
            expected: stored.map_or(Expected::Absent, |policy| Expected::Version(policy.version)),
            yaml: (!same).then_some(text),
            written: said.attachments.as_ref().map(text_of),
            attaching: wanted.map_or(Attaching::AsItIs, Attaching::Only),
        })
    }

    /// Its attachments as they are shown.
    async fn attachments(
        &self,
        state: &ApiState,
        policy: &Policy,
    ) -> Result<Option<WireAttachments>, Refused> {
        let written = state
            .store
            .written_attachments(&policy.id)
            .await
            .map_err(errors::of_query)?;
        let written = written.and_then(|text| serde_json::from_str(&text).ok());
        Ok(scopes::shown(&self.owner, &policy.attachments, written.as_ref()))
    }

    async fn shown(&self, state: &ApiState, policy: &Policy) -> Result<WirePolicy, Refused> {
        Ok(WirePolicy {
            attachments: self.attachments(state, policy).await?,
            ..document::shown(&self.owner, &policy.name, &policy.yaml)?
        })
    }
}

/// The caller as histories name it: by this way.
fn by_wire(mut caller: Caller) -> Caller {
    "harden-runner".clone_into(&mut caller.actor.via);
    caller
}

/// The scopes that a policy holds.
fn held(policy: &Policy) -> impl Iterator<Item = Scope> + '_ {
    policy.attachments.iter().filter_map(|scope| scope.parse().ok())
}

/// A limited token neither takes nor leaves what lies beyond its owners.
fn check_scopes(caller: &Caller, scopes: impl IntoIterator<Item = Scope>) -> Result<(), Refused> {
    scopes
        .into_iter()
        .try_for_each(|scope| caller.check_scope(&scope))
}

fn text_of(attachments: &WireAttachments) -> String {
    // Plain data with text keys always serializes.
    serde_json::to_string(attachments).unwrap_or_default()
}

/// A refusal in words that whoever reads a client's output can act on.
fn refused(error: StoreError, text: &str, name: &str) -> Refused {
    if let StoreError::Conflict { reason } = &error {
        // The wire has no `replace`.
        let held = reason.split("; ").next().unwrap_or(reason);
        let detail = format!("{held}; a scope holds one policy, so detach it there first");
        return Refused::new(StatusCode::CONFLICT, Code::Conflict, detail);
    }
    wrong(text, name)(error)
}
