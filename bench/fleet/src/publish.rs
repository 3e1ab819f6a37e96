//! Policies: put into the store before anything is measured, then published anew one by one.
//!
//! Owns their texts and where they are attached. Every tenth governs an organization, the others a repository each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::{Value, json};
use tidegate_bench::measure::instant;
use tidegate_bench::world;
use tokio::task::JoinSet;

use crate::calls::Calls;
use crate::fleet::{Fleet, wait};
use crate::watch::Reached;

/// Policies that are made at once.
const MAKERS: usize = 16;

/// Owner and repository of the jobs that policy number `policy` governs.
pub fn governed(policy: usize) -> (String, String) {
    if is_for_organization(policy) {
        (format!("org-{policy}"), format!("org-{policy}/web"))
    } else {
        ("acme".to_owned(), format!("acme/service-{policy}"))
    }
}

fn is_for_organization(policy: usize) -> bool {
    policy.is_multiple_of(10)
}

/// Makes and attaches so many policies of so many endpoints.
pub async fn fill(admin: &Calls, policies: usize, endpoints: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut makers = JoinSet::new();
    for _ in 0..MAKERS {
        let (admin, next) = (admin.clone(), Arc::clone(&next));
        makers.spawn(async move {
            loop {
                let policy = next.fetch_add(1, Relaxed);
                if policy >= policies {
                    return anyhow::Ok(());
                }
                let (owner, repo) = governed(policy);
                let path = format!("/api/v1/orgs/{owner}/policies");
                let body =
                    json!({"name": format!("policy-{policy}"), "yaml": world::text(policy, endpoints)});
                admin.api(Method::POST, &path, Some(&body)).await?;
                let scope = if is_for_organization(policy) {
                    format!("org:{owner}")
                } else {
                    format!("repo:{repo}")
                };
                let path = format!("{path}/policy-{policy}/attachments");
                admin
                    .api(Method::POST, &path, Some(&json!({"add": [scope]})))
                    .await?;
            }
        });
    }
    while let Some(made) = makers.join_next().await {
        made??;
    }
    Ok(())
}

/// One policy's way to every gateway.
#[derive(Clone, Debug)]
pub struct Published {
    /// Until the API answered.
    pub answered: Duration,
    /// Until gateways had it and said so.
    pub reached: Reached,
}

/// Publishes a new version of a policy and waits until `want` gateways have it in force, or until patience ends.
pub async fn publish(
    fleet: &Fleet,
    admin: &Calls,
    (policy, endpoints): (usize, usize),
    (want, patience): (usize, Duration),
) -> Result<Published> {
    let (owner, _) = governed(policy);
    let path = format!("/api/v1/orgs/{owner}/policies/policy-{policy}");
    let before = admin.api(Method::GET, &path, None).await?;
    let version = before["version"].as_u64().context("no version")?;
    let body: Value = json!({"yaml": format!("{}  - host-of-version-{}.bench.example:443\n",
        world::text(policy, endpoints), version + 1)});
    let id = before["id"].as_str().context("no id")?;
    fleet.watch.expect(id, version as u32 + 1);
    let begun = instant();
    admin.api(Method::PUT, &path, Some(&body)).await?;
    let answered = begun.elapsed();
    wait(patience, || fleet.watch.in_force(), want).await;
    Ok(Published {
        answered,
        reached: fleet.watch.take(),
    })
}
