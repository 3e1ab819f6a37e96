//! What a change of attachments would do, without doing it; and that what was shown is still so when it is confirmed.
//!
//! Reads only, in one state of the store. What is shown is named by a digest of it: the policy's version, who holds each of
//! the scopes, and which policy of a wider scope jobs fall back to. Clusters' policies and networks' defaults are not in it.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use sqlx::AnyConnection;

use super::attachments::{AttachRequest, Holder, Request, check_own, holder};
use super::chain::sha256;
use super::policies::{Found, find, load_one};
use super::{Store, StoreError, names, warnings};
use crate::model::{AttachPreview, DeletePreview, Displaced, FallBack, FallsBack, Policy, PolicyMode};

/// Who would hold scopes, instead of who does; nobody is `None`.
pub(super) type Overlay = BTreeMap<String, Option<Holder>>;

/// A change of who holds scopes, before it is made.
struct Plan {
    policy: Policy,
    /// Who holds the scopes now.
    held: Vec<(String, Option<Holder>)>,
    overlay: Overlay,
    attach: Vec<String>,
    detach: Vec<String>,
    unchanged: Vec<String>,
    displaced: Vec<(String, Holder)>,
    falls_back: Vec<FallsBack>,
}

impl Plan {
    async fn to_attach(
        connection: &mut AnyConnection,
        found: &Found,
        asked: &Request,
    ) -> Result<Self, StoreError> {
        let policy = load_one(connection, &found.id).await?;
        let own = own(&policy);
        let (mut held, mut overlay, mut displaced) = (Vec::new(), Overlay::new(), Vec::new());
        for scope in &asked.remove {
            let holder = holder(connection, scope).await?;
            check_own(holder.as_ref(), scope, &own)?;
            held.push((scope.clone(), holder));
            overlay.insert(scope.clone(), None);
        }
        let (mut attach, mut unchanged) = (Vec::new(), Vec::new());
        for scope in &asked.add {
            let holder = holder(connection, scope).await?;
            held.push((scope.clone(), holder.clone()));
            if holder.as_ref().is_some_and(|holder| holder.id == own.id) {
                unchanged.push(scope.clone());
                continue;
            }
            attach.push(scope.clone());
            overlay.insert(scope.clone(), Some(own.clone()));
            displaced.extend(holder.map(|holder| (scope.clone(), holder)));
        }
        let detach: Vec<String> = asked.remove.iter().cloned().collect();
        // Where it decides lockdown only, egress is somebody else's from then on.
        let mut lost = detach.clone();
        if policy.mode == PolicyMode::None {
            lost.extend_from_slice(&attach);
        }
        let falls_back = falls_back(connection, &lost, &overlay).await?;
        Ok(Self {
            policy,
            held,
            overlay,
            attach,
            detach,
            unchanged,
            displaced,
            falls_back,
        })
    }

    async fn to_delete(connection: &mut AnyConnection, found: &Found) -> Result<Self, StoreError> {
        let policy = load_one(connection, &found.id).await?;
        let own = own(&policy);
        let scopes = policy.attachments.iter();
        let held = scopes.clone().map(|scope| (scope.clone(), Some(own.clone())));
        let held = held.collect();
        let overlay: Overlay = scopes.map(|scope| (scope.clone(), None)).collect();
        let falls_back = falls_back(connection, &policy.attachments, &overlay).await?;
        Ok(Self {
            held,
            overlay,
            attach: Vec::new(),
            detach: policy.attachments.clone(),
            unchanged: Vec::new(),
            displaced: Vec::new(),
            falls_back,
            policy,
        })
    }

    /// What is shown, in short.
    fn digest(&self, found: &Found) -> String {
        let held = self.held.iter().map(|(scope, holder)| {
            let holder = holder.as_ref().map_or("-", |holder| holder.id.as_str());
            format!("{scope} {holder}")
        });
        let falls = self.falls_back.iter().map(|fall| {
            let to = fall.to.as_ref().map_or_else(
                || "-".to_owned(),
                |to| format!("{} {}/{} {:?}", to.scope, to.owner, to.policy, to.mode),
            );
            format!("{} falls back to {to}", fall.scope)
        });
        let mut lines: Vec<String> = held.chain(falls).collect();
        lines.sort_unstable();
        lines.dedup();
        let mut digest = sha256(&format!("{}@{}\n{}", found.id, found.version, lines.join("\n")));
        digest.truncate(32);
        digest
    }

    /// Refuses what is not as it was shown any more.
    fn check(&self, found: &Found, shown: &str) -> Result<(), StoreError> {
        if self.digest(found) == shown {
            return Ok(());
        }
        let reason = "this is not as it was shown any more: the policy, who holds one of the scopes, or what jobs fall \
                      back to changed since; look at the effect again";
        Err(StoreError::Conflict {
            reason: reason.into(),
        })
    }
}

/// Refuses a change of attachments that is not as it was shown any more.
pub(super) async fn check_attach(
    connection: &mut AnyConnection,
    asked: &Request,
    shown: &str,
) -> Result<(), StoreError> {
    let found = find(connection, &asked.owner, &asked.name).await?;
    Plan::to_attach(connection, &found, asked)
        .await?
        .check(&found, shown)
}

/// Refuses a deletion that is not as it was shown any more.
pub(super) async fn check_delete(
    connection: &mut AnyConnection,
    found: &Found,
    shown: &str,
) -> Result<(), StoreError> {
    Plan::to_delete(connection, found).await?.check(found, shown)
}

impl Store {
    /// What [`Self::attach`] would do; that a scope is held by another policy is told, not refused.
    pub async fn preview_attach(
        &self,
        owner: &str,
        name: &str,
        request: &AttachRequest,
    ) -> Result<AttachPreview, StoreError> {
        let asked = Request::new(owner, name, request)?;
        let mut reading = self.reading().await?;
        let found = find(&mut reading, &asked.owner, &asked.name).await?;
        let plan = Plan::to_attach(&mut reading, &found, &asked).await?;
        let changed: Vec<String> = asked.add.union(&asked.remove).cloned().collect();
        let scopes = (changed.as_slice(), plan.displaced.as_slice());
        let warnings = warnings::of(&mut reading, &plan.policy, scopes, &plan.overlay).await?;
        let shown = plan.digest(&found);
        let displaced = plan.displaced.into_iter().map(|(scope, holder)| Displaced {
            scope,
            policy: holder.name,
            owner: holder.owner,
        });
        Ok(AttachPreview {
            version: plan.policy.version,
            mode: plan.policy.mode,
            shown,
            displaced: displaced.collect(),
            attach: plan.attach,
            detach: plan.detach,
            unchanged: plan.unchanged,
            falls_back: plan.falls_back,
            warnings,
        })
    }

    /// What [`Self::delete_policy`] would do.
    pub async fn preview_delete(&self, owner: &str, name: &str) -> Result<DeletePreview, StoreError> {
        let (owner, name) = (names::owner(owner)?, names::policy(name)?);
        let mut reading = self.reading().await?;
        let found = find(&mut reading, &owner, &name).await?;
        let plan = Plan::to_delete(&mut reading, &found).await?;
        Ok(DeletePreview {
            version: plan.policy.version,
            mode: plan.policy.mode,
            shown: plan.digest(&found),
            falls_back: plan.falls_back,
            detached: plan.policy.attachments,
            id: plan.policy.id,
        })
    }

    /// The policy that decides egress at a scope by standing there itself.
    pub async fn egress_at(&self, scope: &str) -> Result<Option<FallBack>, StoreError> {
        let mut reading = self.reading().await?;
        let held = holder(&mut reading, scope).await?;
        Ok(held.filter(|holder| holder.egress).map(|holder| FallBack {
            scope: scope.to_owned(),
            owner: holder.owner,
            policy: holder.name,
            mode: holder.mode,
        }))
    }

    /// What decides egress at `scopes`, beside themselves, when others hold what is `changed`.
    pub async fn fall_backs(
        &self,
        scopes: &[String],
        changed: &HashMap<String, Option<FallBack>>,
    ) -> Result<Vec<FallsBack>, StoreError> {
        let held = |back: &FallBack| Holder {
            id: String::new(),
            owner: back.owner.clone(),
            name: back.policy.clone(),
            egress: back.mode != PolicyMode::None,
            mode: back.mode,
        };
        let overlay: Overlay = changed
            .iter()
            .map(|(scope, holder)| (scope.clone(), holder.as_ref().map(held)))
            .collect();
        falls_back(&mut *self.reading().await?, scopes, &overlay).await
    }
}

fn own(policy: &Policy) -> Holder {
    Holder {
        id: policy.id.clone(),
        owner: policy.owner.clone(),
        name: policy.name.clone(),
        egress: policy.mode != PolicyMode::None,
        mode: policy.mode,
    }
}

async fn falls_back(
    connection: &mut AnyConnection,
    scopes: &[String],
    overlay: &Overlay,
) -> Result<Vec<FallsBack>, StoreError> {
    // Two hundred repositories of one organization fall back to the same.
    let mut known: BTreeMap<Vec<String>, Option<(String, Holder)>> = BTreeMap::new();
    let mut all = Vec::new();
    for scope in scopes {
        let wider = warnings::wider(scope);
        let to = if let Some(to) = known.get(&wider) {
            to.clone()
        } else {
            let to = warnings::egress(connection, &wider, overlay).await?;
            known.insert(wider, to.clone());
            to
        };
        all.push(FallsBack {
            scope: scope.clone(),
            to: to.map(|(scope, holder)| FallBack {
                scope,
                owner: holder.owner,
                policy: holder.name,
                mode: holder.mode,
            }),
            by_cluster: Vec::new(),
        });
    }
    Ok(all)
}
