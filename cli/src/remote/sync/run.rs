//! A plan, done step by step.
//!
//! Owns that nothing is changed which is not what the plan was made of: policies are read again before they are written
//! or deleted, and `If-Match` goes with every write.

use anyhow::{Context, bail};
use reqwest::Method;
use reqwest::header::HeaderValue;
use tidegate_control::model::{Apply, Attachment, Policy};

use super::plan::{Plan, Step};
use super::{Sync, print};
use crate::remote::policy::attach::{Change, send, tell};
use crate::remote::publish::{Create, Update, explained};
use crate::remote::show;

/// Does every step; the first that fails ends it, and the error says what was done and what not.
pub(super) async fn all(sync: &Sync<'_>, plan: &Plan) -> anyhow::Result<()> {
    let bar = show::bar(plan.steps.len(), sync.json, "applying");
    for (done, step) in plan.steps.iter().enumerate() {
        match sync.step(step).await {
            Ok(attached) => attached
                .iter()
                .for_each(|one| bar.suspend(|| tell_unless(one, sync.json))),
            Err(error) => {
                bar.finish_and_clear();
                return Err(error.context(so_far(&plan.steps, done)));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Who lost what is in the plan; warnings are news.
fn tell_unless(attached: &Attachment, json: bool) {
    if json {
        return;
    }
    let mut news = attached.clone();
    news.displaced.clear();
    tell(&news);
}

/// What was done, what failed, what was not tried.
fn so_far(steps: &[Step], done: usize) -> String {
    let list = |steps: &[Step], outcome: &str| {
        let steps_were = show::count(steps.len() as u64, "step was", "steps were");
        let lines: Vec<String> = steps.iter().map(print::describe).collect();
        format!("{steps_were} {outcome}:\n  {}\n", lines.join("\n  "))
    };
    let before = match &steps[..done] {
        [] => "nothing was changed yet\n".to_owned(),
        before => list(before, "done"),
    };
    let (failed, rest) = match &steps[done..] {
        [] => (String::new(), String::new()),
        [failed] => (print::describe(failed), String::new()),
        [failed, rest @ ..] => (print::describe(failed), list(rest, "not done")),
    };
    show::plain(&format!(
        "{before}{rest}run it again to go on; what failed is\n  {failed}"
    ))
}

impl Sync<'_> {
    /// Does one step; what came of attaching.
    async fn step(&self, step: &Step) -> anyhow::Result<Option<Attachment>> {
        match step {
            Step::Create { policy } => self.create(policy).await?,
            Step::Update { policy } => self.update(policy).await?,
            Step::Move { policy, from } => {
                let change = Change {
                    add: from.keys().map(String::as_str).collect(),
                    replace: true,
                    ..Change::default()
                };
                return self.attach(policy, &change).await.map(Some);
            }
            Step::Attach { policy, scopes } => {
                let change = Change {
                    add: scopes.iter().map(String::as_str).collect(),
                    ..Change::default()
                };
                return self.attach(policy, &change).await.map(Some);
            }
            Step::Detach { policy, scopes } => {
                let change = Change {
                    remove: scopes.iter().map(String::as_str).collect(),
                    ..Change::default()
                };
                return self.attach(policy, &change).await.map(Some);
            }
            Step::Delete { policy, scopes } => self.delete(policy, scopes).await?,
        }
        Ok(None)
    }

    async fn create(&self, name: &str) -> anyhow::Result<()> {
        let file = self.file(name)?;
        let create = Create {
            name,
            yaml: &file.document.yaml,
        };
        let call = self
            .client
            .call(Method::POST, &["orgs", self.owner, "policies"])?
            .json(&create);
        explained(call.send().await, &file.document)?;
        Ok(())
    }

    async fn update(&self, name: &str) -> anyhow::Result<()> {
        let file = self.file(name)?;
        let (_, etag) = self.read_again(name).await?;
        let update = Update {
            yaml: &file.document.yaml,
            apply: Some(Apply::Now),
        };
        let path = ["orgs", self.owner, "policies", name];
        let call = self.client.call(Method::PUT, &path)?.if_match(etag).json(&update);
        explained(call.send().await, &file.document)?;
        Ok(())
    }

    async fn attach(&self, name: &str, change: &Change<'_>) -> anyhow::Result<Attachment> {
        Ok(send(self.client, (self.owner, name), change).await?.read()?)
    }

    /// Deletes a policy that is attached nowhere but where the plan knows.
    async fn delete(&self, name: &str, planned: &std::collections::BTreeSet<String>) -> anyhow::Result<()> {
        let (now, etag) = self.read_again(name).await?;
        if let Some(new) = now.attachments.iter().find(|scope| !planned.contains(*scope)) {
            bail!("policy {name} was attached to {new} meanwhile");
        }
        let path = ["orgs", self.owner, "policies", name];
        self.client
            .call(Method::DELETE, &path)?
            .if_match(etag)
            .send()
            .await?;
        Ok(())
    }

    /// A policy as it is now, when that is what the plan was made of.
    async fn read_again(&self, name: &str) -> anyhow::Result<(Policy, HeaderValue)> {
        let path = ["orgs", self.owner, "policies", name];
        let answer = self.client.call(Method::GET, &path)?.send().await?;
        let etag = answer.tag()?;
        let now: Policy = answer.read()?;
        let then = self
            .present
            .get(name)
            .context("a step is about a policy that was not listed")?;
        if (&now.id, now.version) != (&then.id, then.version) {
            bail!(
                "policy {name} was changed meanwhile, by {}: it is at version {}",
                now.updated_by,
                now.version
            );
        }
        Ok((now, etag))
    }

    fn file(&self, name: &str) -> anyhow::Result<&super::PolicyFile> {
        self.files
            .get(name)
            .copied()
            .context("a step is about a policy that has no file")
    }
}
