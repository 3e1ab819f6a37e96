//! "Who allows this?": the policies of an owner by whose newest version a target is permitted.
//!
//! Owns the walk over compiled policies. The global block list is not looked at: the question is about policies.

use std::sync::Arc;

use tidegate_policy::effective::Slot;
use tidegate_policy::explain::{Target, explain};
use tidegate_policy::job::Scope;
use tidegate_policy::rulebook::{CompiledPolicy, Governing, Rulebook, World};
use tidegate_policy::verdict::Verdict;

use super::errors;
use super::problem::Refused;
use super::state::ApiState;

/// Ids of the owner's policies that permit the target.
pub(super) async fn ids(state: &ApiState, owner: &str, target: Target) -> Result<Vec<String>, Refused> {
    state.view.current().await;
    let owner = owner.to_lowercase();
    let compiled: Vec<(String, Arc<CompiledPolicy>)> = state.view.with(|mirror| {
        mirror
            .policies()
            .filter(|(record, _)| record.owner == owner)
            .filter_map(|(record, editions)| match &editions.last()?.egress {
                Slot::Policy(policy) => Some((record.id.to_string(), Arc::clone(policy))),
                Slot::Vacant | Slot::Unknown(_) => None,
            })
            .collect()
    });
    // Ten thousand policies take some milliseconds: not on a thread that others wait for.
    let judged = tokio::task::spawn_blocking(move || {
        let world = Arc::new(World::default());
        let permits = |policy: Arc<CompiledPolicy>| {
            let scope = Scope::Organization(owner.as_str().into());
            let book = Rulebook {
                world: Arc::clone(&world),
                governing: Governing::Policy(policy, scope),
                host: None,
            };
            explain(&book, &target).verdict == Verdict::Permit
        };
        let permitting = compiled
            .into_iter()
            .filter(|(_, policy)| permits(Arc::clone(policy)));
        permitting.map(|(id, _)| id).collect()
    });
    judged
        .await
        .map_err(|_| errors::internal("the policies could not be asked"))
}
