//! What somebody who attaches a policy should know: advice, read after the fact.
//!
//! Two things surprise people. A workflow's policy that is stricter than its repository's keeps nobody in: whoever can
//! open a pull request can add another workflow file, which gets the repository's policy. And a policy that decides
//! only lockdown, put where one decided egress, hands egress to a wider scope.
//!
//! *Stricter* is judged on the newest versions with their sets: block against audit or against no policy of repository
//! and organization; or, where both block, something that the repository's policy permits (its endpoints and its
//! platform pack) that no single endpoint of the workflow's covers, or an endpoint denied that the other does not deny.
//! Clusters and networks are left out: which of them a job meets is not known here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;

use sqlx::AnyConnection;
use tidegate_policy::document::{EndpointSet, ParseOptions, Platform, PolicyDocument, SourcedEndpoint};
use tidegate_policy::endpoint::Endpoint;
use tidegate_policy::endpoint::cover::covered_by;
use tidegate_policy::verdict::Mode;

use super::StoreError;
use super::attachments::{Holder, holder};
use super::policies::load_one;
use super::preview::Overlay;
use super::publish::beside;
use super::read::get;
use crate::model::{Policy, PolicyMode};

/// Workflows that are compared with their repositories in one request.
const MAX_COMPARED: u32 = 200;
/// Warnings of one answer.
const MAX_WARNINGS: usize = 50;

/// The warnings about scopes of a policy that changed, or would with `overlay`. `displaced` lose theirs to it.
pub(super) async fn of(
    reading: &mut AnyConnection,
    policy: &Policy,
    (changed, displaced): (&[String], &[(String, Holder)]),
    overlay: &Overlay,
) -> Result<Vec<String>, StoreError> {
    let mut warnings = Vec::new();
    if policy.mode == PolicyMode::None {
        for (scope, _) in displaced.iter().filter(|(_, before)| before.egress) {
            warnings.push(left_to_wider(reading, policy, scope, overlay).await?);
        }
    }
    let workflows = concerned(reading, changed).await?;
    let mut known = Known::default();
    for workflow in &workflows {
        warnings.extend(stricter(reading, &mut known, workflow, overlay).await?);
    }
    let more = warnings.len().saturating_sub(MAX_WARNINGS);
    if more > 0 {
        warnings.truncate(MAX_WARNINGS);
        warnings.push(format!("… and {more} more"));
    }
    Ok(warnings)
}

/// The wider scopes that the store knows of, nearest first.
pub(super) fn wider(scope: &str) -> Vec<String> {
    let Some((kind, path)) = scope.split_once(':') else {
        return Vec::new();
    };
    let mut parts = path.split('/');
    let (owner, repo) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match kind {
        "workflow" => vec![format!("repo:{owner}/{repo}"), format!("org:{owner}")],
        "repo" => vec![format!("org:{owner}")],
        _ => Vec::new(),
    }
}

/// The first of these scopes that holds a policy which decides egress.
pub(super) async fn egress(
    connection: &mut AnyConnection,
    scopes: &[String],
    overlay: &Overlay,
) -> Result<Option<(String, Holder)>, StoreError> {
    for scope in scopes {
        let found = match overlay.get(scope) {
            Some(would) => would.clone(),
            None => holder(connection, scope).await?,
        };
        if let Some(holder) = found.filter(|holder| holder.egress) {
            return Ok(Some((scope.clone(), holder)));
        }
    }
    Ok(None)
}

async fn left_to_wider(
    connection: &mut AnyConnection,
    policy: &Policy,
    scope: &str,
    overlay: &Overlay,
) -> Result<String, StoreError> {
    let from = match egress(connection, &wider(scope), overlay).await? {
        Some((wider, holder)) => format!("{wider} ({})", holder.title()),
        None => "the cluster's policy or the network's default policy".to_owned(),
    };
    Ok(format!(
        "{} decides only lockdown: egress of {scope} comes from {from} now",
        policy.name
    ))
}

/// The workflow scopes, holding a policy, whose relation to their repository may have changed: those among the changed
/// scopes and those below them.
async fn concerned(connection: &mut AnyConnection, changed: &[String]) -> Result<Vec<String>, StoreError> {
    let mut workflows = Vec::new();
    for scope in changed {
        let below = match scope.split_once(':') {
            Some(("workflow", _)) => {
                workflows.push(scope.clone());
                continue;
            }
            Some(("repo" | "org", path)) => format!("workflow:{path}/"),
            Some(_) | None => continue,
        };
        // '0' follows '/': every text that begins with `below`.
        let end = format!("{}0", below.trim_end_matches('/'));
        let rows = sqlx::query(
            "SELECT scope FROM attachments WHERE scope > $1 AND scope < $2 ORDER BY scope LIMIT $3",
        )
        .bind(&below)
        .bind(&end)
        .bind(i64::from(MAX_COMPARED))
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            workflows.push(get(row, "scope")?);
        }
        if workflows.len() > MAX_COMPARED as usize {
            break;
        }
    }
    workflows.sort_unstable();
    workflows.dedup();
    workflows.truncate(MAX_COMPARED as usize);
    Ok(workflows)
}

/// The sentence about one workflow, when its policy is stricter than its repository's.
async fn stricter(
    connection: &mut AnyConnection,
    known: &mut Known,
    workflow: &str,
    overlay: &Overlay,
) -> Result<Option<String>, StoreError> {
    let scopes = wider(workflow);
    let Some((_, own)) = egress(connection, &[workflow.to_owned()], overlay).await? else {
        return Ok(None);
    };
    let base = egress(connection, &scopes, overlay).await?;
    if base.as_ref().is_some_and(|(_, base)| base.id == own.id) {
        return Ok(None);
    }
    let strict = known.reach(connection, &own.id).await?;
    if strict.mode != Mode::Block {
        return Ok(None);
    }
    let mut text = format!("{workflow} ({}) is stricter than ", own.title());
    let repo = scopes.first().map_or("", String::as_str);
    match base {
        None => {
            let _ = write!(text, "{repo}, which holds no policy about egress");
        }
        Some((scope, base)) => {
            let loose = known.reach(connection, &base.id).await?;
            let Some(why) = beside(move || loose.beyond(&strict)).await? else {
                return Ok(None);
            };
            let _ = write!(text, "{scope} ({}, {why})", base.title());
        }
    }
    text.push_str(": a pull request can add another workflow file, which gets the latter");
    Ok(Some(text))
}

/// What a policy permits, its sets flattened in.
#[derive(Clone, Debug)]
struct Reach {
    mode: Mode,
    platform: Platform,
    allowed: Vec<Endpoint>,
    denied: Vec<Endpoint>,
}

impl Reach {
    /// Why somebody gets further with this policy than with a stricter one; `None` when nobody does.
    fn beyond(&self, strict: &Self) -> Option<String> {
        if self.mode == Mode::Audit {
            return Some("which audits only".to_owned());
        }
        if let Some(endpoint) = uncovered(&self.allowed, &strict.allowed) {
            return Some(format!("which also permits {endpoint}"));
        }
        if let Some(endpoint) = uncovered(&strict.denied, &self.denied) {
            return Some(format!("which does not deny {endpoint}"));
        }
        let pack = self.platform == Platform::GithubActions && strict.platform == Platform::None;
        pack.then(|| "which also permits what the runner itself needs".to_owned())
    }
}

/// The first endpoint of a list that none of the others covers whole.
fn uncovered<'l>(list: &'l [Endpoint], wider: &[Endpoint]) -> Option<&'l Endpoint> {
    let covered = covered_by(list, wider);
    let at = (0..list.len()).find(|at| covered.binary_search_by_key(at, |(at, _)| *at).is_err())?;
    list.get(at)
}

/// Policies that were read for this answer, by id.
#[derive(Debug, Default)]
struct Known(BTreeMap<String, Reach>);

impl Known {
    async fn reach(&mut self, connection: &mut AnyConnection, id: &str) -> Result<Reach, StoreError> {
        match self.0.entry(id.to_owned()) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(place) => Ok(place.insert(read(connection, id).await?).clone()),
        }
    }
}

async fn read(connection: &mut AnyConnection, id: &str) -> Result<Reach, StoreError> {
    let policy = load_one(connection, id).await?;
    let rows = sqlx::query(
        "SELECT e.name, e.yaml FROM endpoint_sets e JOIN policy_sets s ON s.owner = e.owner AND s.name = e.name \
         WHERE s.policy_id = $1",
    )
    .bind(id)
    .fetch_all(connection)
    .await?;
    let sets = rows.iter().map(|row| Ok((get(row, "name")?, get(row, "yaml")?)));
    let sets: Vec<(String, String)> = sets.collect::<Result<_, StoreError>>()?;
    beside(move || flatten(&policy.yaml, &sets)).await
}

/// Stored texts were read without errors once; a newer program that reads them differently leaves them out.
fn flatten(yaml: &str, sets: &[(String, String)]) -> Reach {
    let options = ParseOptions::default();
    let document = PolicyDocument::parse(yaml, &options).document.unwrap_or_default();
    let endpoints =
        |list: &[SourcedEndpoint]| -> Vec<Endpoint> { list.iter().map(|one| one.endpoint.clone()).collect() };
    let mut allowed = endpoints(&document.allowed_endpoints);
    let used = sets.iter().filter(|(name, _)| document.use_sets.contains(name));
    for set in used.filter_map(|(_, yaml)| EndpointSet::parse(yaml, &options).document) {
        allowed.extend(endpoints(&set.endpoints));
    }
    Reach {
        mode: document.mode().unwrap_or(Mode::Block),
        platform: document.platform,
        allowed,
        denied: endpoints(&document.denied_endpoints),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beyond(loose: &str, strict: &str) -> Option<String> {
        flatten(loose, &[]).beyond(&flatten(strict, &[]))
    }

    #[test]
    fn a_policy_is_stricter_by_mode_by_what_it_permits_and_by_what_it_denies() {
        let two = "allowed-endpoints: a.test:443 b.test:443\n";
        let one = "allowed-endpoints: a.test:443\n";
        let wild = "allowed-endpoints: '*.test:443'\n";
        assert_eq!(beyond(one, two), None);
        assert_eq!(beyond(two, wild), None);
        assert_eq!(beyond(two, one).as_deref(), Some("which also permits b.test:443"));
        assert_eq!(
            beyond(wild, two).as_deref(),
            Some("which also permits *.test:443")
        );
        let audit = "egress-policy: audit\n";
        assert_eq!(beyond(audit, one).as_deref(), Some("which audits only"));
        let denying = "allowed-endpoints: a.test:443\ndenied-endpoints: x.a.test\n";
        assert!(beyond(one, denying).is_some_and(|why| why.starts_with("which does not deny x.a.test")));
        assert_eq!(beyond(denying, denying), None);
        let bare = "allowed-endpoints: a.test:443\nplatform: none\n";
        assert!(beyond(one, bare).is_some());
        assert_eq!(beyond(bare, one), None);
    }

    #[test]
    fn a_used_set_counts_as_if_it_was_written_there() {
        let sets = ["base", "other"].map(|name| (name.to_owned(), format!("- {name}.test:443\n")));
        let reach = flatten("use: [base]\nallowed-endpoints: a.test:443\n", &sets);
        assert_eq!(reach.allowed.len(), 2);
    }
}
