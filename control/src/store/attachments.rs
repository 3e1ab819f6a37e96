//! Attachments: which policy a scope holds.
//!
//! One policy a scope, many scopes a policy. Who may attach what where is the API's to ask.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::AnyConnection;
use tidegate_policy::job::Scope;

use super::audit::cleaned;
use super::policies::{Found, find, load_one, mode, title};
use super::preview::{self, Overlay};
use super::read::get;
use super::{AuditDraft, ChangeKind, Store, StoreError, Tx, names, warnings};
use crate::model::{Actor, Attachment, Displaced, Policy, PolicyMode};

/// Scopes of one request at most.
const MAX_SCOPES: usize = 1_000;

/// What is to be attached and detached, all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// Scopes to take. One that the policy holds already is no error.
    pub add: Vec<Scope>,
    /// Scopes to leave; the policy must hold them.
    pub remove: Vec<Scope>,
    /// Take scopes from the policies that hold them.
    pub replace: bool,
}

/// A request in canonical spelling, each scope once.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) add: BTreeSet<String>,
    pub(super) remove: BTreeSet<String>,
    replace: bool,
}

impl Request {
    pub(super) fn new(owner: &str, name: &str, asked: &AttachRequest) -> Result<Self, StoreError> {
        let scopes = |field, scopes: &[Scope]| -> Result<BTreeSet<String>, StoreError> {
            if scopes.len() > MAX_SCOPES {
                let reason = format!("{} scopes; at most {MAX_SCOPES} in one request", scopes.len());
                return Err(StoreError::invalid(field, reason));
            }
            scopes.iter().map(|scope| names::scope(field, scope)).collect()
        };
        let request = Self {
            owner: names::owner(owner)?,
            name: names::policy(name)?,
            add: scopes("add", &asked.add)?,
            remove: scopes("remove", &asked.remove)?,
            replace: asked.replace,
        };
        if request.add.is_empty() && request.remove.is_empty() {
            return Err(StoreError::invalid(
                "add",
                "neither `add` nor `remove` names a scope",
            ));
        }
        if let Some(both) = request.add.intersection(&request.remove).next() {
            return Err(StoreError::invalid(
                "remove",
                format!("{both:?} is in `add`, too"),
            ));
        }
        Ok(request)
    }
}

/// Who holds a scope.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) name: String,
    /// It decides the egress facet.
    pub(super) egress: bool,
    /// How.
    pub(super) mode: PolicyMode,
}

impl Holder {
    pub(super) fn title(&self) -> String {
        title(&self.owner, &self.name)
    }

    /// In histories.
    fn reference(&self) -> Value {
        json!({ "id": self.id, "owner": self.owner, "name": self.name })
    }
}

/// Who holds a scope now.
pub(super) async fn holder(
    connection: &mut AnyConnection,
    scope: &str,
) -> Result<Option<Holder>, StoreError> {
    let row = sqlx::query(
        "SELECT p.id, p.owner, p.name, p.mode FROM attachments a JOIN policies p ON p.id = a.policy_id \
         WHERE a.scope = $1",
    )
    .bind(scope)
    .fetch_optional(connection)
    .await?;
    let read = |row| {
        let mode = mode(get(&row, "mode")?)?;
        Ok(Holder {
            id: get(&row, "id")?,
            owner: get(&row, "owner")?,
            name: get(&row, "name")?,
            egress: mode != PolicyMode::None,
            mode,
        })
    };
    row.map(read).transpose()
}

/// What became of a request: the policy as it is now, and who lost a scope to it.
struct Done {
    policy: Policy,
    displaced: Vec<(String, Holder)>,
}

impl Store {
    /// Attaches and detaches a policy. Without `replace`, [`StoreError::Conflict`] names who holds a scope.
    pub async fn attach(
        &self,
        owner: &str,
        name: &str,
        request: &AttachRequest,
        actor: &Actor,
    ) -> Result<Attachment, StoreError> {
        self.attach_as_shown(owner, name, (request, None), actor).await
    }

    /// The same, when what a preview has `shown` is still so; else [`StoreError::Conflict`].
    pub async fn attach_as_shown(
        &self,
        owner: &str,
        name: &str,
        (request, shown): (&AttachRequest, Option<&str>),
        actor: &Actor,
    ) -> Result<Attachment, StoreError> {
        let asked = Request::new(owner, name, request)?;
        let shown = shown.map(str::to_owned);
        let changed: Vec<String> = asked.add.union(&asked.remove).cloned().collect();
        let actor = cleaned(actor);
        let done = self
            .db
            .write(move |tx| {
                Box::pin(async move {
                    if let Some(shown) = &shown {
                        preview::check_attach(tx.connection(), &asked, shown).await?;
                    }
                    attach(tx, &asked, &actor).await
                })
            })
            .await?;
        // Read after the commit, beside the line of writers: they advise, they decide nothing.
        let mut reading = self.reading().await?;
        let (policy, displaced) = (&done.policy, &done.displaced);
        let warnings = warnings::of(&mut reading, policy, (&changed, displaced), &Overlay::default()).await?;
        let displaced = done.displaced.into_iter().map(|(scope, holder)| Displaced {
            scope,
            policy: holder.name,
            owner: holder.owner,
        });
        Ok(Attachment {
            policy: done.policy,
            displaced: displaced.collect(),
            warnings,
        })
    }

    /// The policy that a scope holds.
    pub async fn held(&self, scope: &Scope) -> Result<Option<Policy>, StoreError> {
        let scope = names::scope("scope", scope)?;
        let mut reading = self.reading().await?;
        match holder(&mut reading, &scope).await? {
            Some(holder) => load_one(&mut reading, &holder.id).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Attaches a policy to these scopes, inside of a transaction; with `all`, it leaves every other one. A scope that another
/// policy holds is [`StoreError::Conflict`].
pub(super) async fn bring(
    tx: &mut Tx<'_>,
    (owner, name): (&str, &str),
    (scopes, all): (&[Scope], bool),
    actor: &Actor,
) -> Result<Policy, StoreError> {
    if scopes.len() > MAX_SCOPES {
        let reason = format!("{} scopes; at most {MAX_SCOPES} in one request", scopes.len());
        return Err(StoreError::invalid("attachments", reason));
    }
    let named = scopes.iter().map(|scope| names::scope("attachments", scope));
    let wanted: BTreeSet<String> = named.collect::<Result<_, _>>()?;
    let found = find(tx.connection(), owner, name).await?;
    let policy = load_one(tx.connection(), &found.id).await?;
    let held: BTreeSet<String> = policy.attachments.iter().cloned().collect();
    let request = Request {
        owner: owner.to_owned(),
        name: name.to_owned(),
        add: wanted.difference(&held).cloned().collect(),
        remove: if all {
            held.difference(&wanted).cloned().collect()
        } else {
            BTreeSet::new()
        },
        replace: false,
    };
    if request.add.is_empty() && request.remove.is_empty() {
        return Ok(policy);
    }
    attach(tx, &request, actor).await.map(|done| done.policy)
}

async fn attach(tx: &mut Tx<'_>, asked: &Request, actor: &Actor) -> Result<Done, StoreError> {
    let found = find(tx.connection(), &asked.owner, &asked.name).await?;
    let own = Holder {
        id: found.id.clone(),
        owner: asked.owner.clone(),
        name: asked.name.clone(),
        egress: false,
        mode: PolicyMode::None,
    };
    for scope in &asked.remove {
        leave(tx, scope, &own, actor).await?;
    }
    let mut displaced = Vec::new();
    let mut taken = Vec::new();
    for scope in &asked.add {
        let before = holder(tx.connection(), scope).await?;
        match &before {
            Some(holder) if holder.id == own.id => continue,
            Some(holder) if !asked.replace => {
                return Err(StoreError::Conflict {
                    reason: format!(
                        "{scope} is held by {}; `replace` takes it from there",
                        holder.title()
                    ),
                });
            }
            Some(_) | None => {}
        }
        take(tx, scope, (before.as_ref(), &own), actor).await?;
        taken.push(scope.as_str());
        displaced.extend(before.map(|holder| (scope.clone(), holder)));
    }
    if !asked.remove.is_empty() && !taken.is_empty() {
        // It moved: the history of the policy shows from where to where in one line.
        let detail = json!({ "from": asked.remove, "to": taken });
        record(tx, "policy.moved", &own, detail, actor).await?;
    }
    let Found { id, .. } = found;
    Ok(Done {
        policy: load_one(tx.connection(), &id).await?,
        displaced,
    })
}

/// A scope that a policy is to leave is its own.
pub(super) fn check_own(held: Option<&Holder>, scope: &str, own: &Holder) -> Result<(), StoreError> {
    match held {
        Some(holder) if holder.id == own.id => Ok(()),
        Some(holder) => Err(StoreError::Conflict {
            reason: format!("{scope} is held by {}, not by {}", holder.title(), own.title()),
        }),
        None => Err(StoreError::not_found(format!(
            "attachment of {} to {scope}",
            own.title()
        ))),
    }
}

/// A policy leaves a scope that it holds.
async fn leave(tx: &mut Tx<'_>, scope: &str, own: &Holder, actor: &Actor) -> Result<(), StoreError> {
    let held = holder(tx.connection(), scope).await?;
    check_own(held.as_ref(), scope, own)?;
    sqlx::query("DELETE FROM attachments WHERE scope = $1")
        .bind(scope)
        .execute(tx.connection())
        .await?;
    tx.change(ChangeKind::Attachment, scope).await?;
    let detail = json!({ "scope": scope, "to": null });
    record(tx, "policy.detached", own, detail, actor).await
}

/// A policy takes a scope, from nobody or from another one; both histories say so.
async fn take(
    tx: &mut Tx<'_>,
    scope: &str,
    (before, own): (Option<&Holder>, &Holder),
    actor: &Actor,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO attachments (scope, policy_id, attached_at, attached_by) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (scope) DO UPDATE SET policy_id = EXCLUDED.policy_id, attached_at = EXCLUDED.attached_at, \
         attached_by = EXCLUDED.attached_by",
    )
    .bind(scope)
    .bind(&own.id)
    .bind(tx.now().0)
    .bind(&actor.subject)
    .execute(tx.connection())
    .await?;
    tx.change(ChangeKind::Attachment, scope).await?;
    if let Some(before) = before {
        let detail = json!({ "scope": scope, "to": own.reference() });
        record(tx, "policy.detached", before, detail, actor).await?;
    }
    let from = before.map(Holder::reference);
    record(
        tx,
        "policy.attached",
        own,
        json!({ "scope": scope, "from": from }),
        actor,
    )
    .await
}

async fn record(
    tx: &mut Tx<'_>,
    action: &'static str,
    policy: &Holder,
    detail: Value,
    actor: &Actor,
) -> Result<(), StoreError> {
    let draft = AuditDraft {
        action,
        owner: &policy.owner,
        target: policy.title(),
        policy_id: Some(&policy.id),
        detail,
    };
    tx.audit(draft, actor).await
}
