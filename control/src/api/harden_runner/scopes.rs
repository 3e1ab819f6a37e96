//! Between the wire's attachments and scopes.
//!
//! Pure. A scope is folded and has no order; the client compares what it reads with what it wrote, letter by letter. So
//! what it wrote is kept beside, and shown as far as it is still true; what others attached follows, sorted. Scopes of other
//! owners are not shown: the wire has no place for them.

use std::collections::BTreeSet;

use tidegate_control_wire::oidc::workflow_file;
use tidegate_policy::job::Scope;

use super::shape::{WireAttachments, WireOrg, WireRepo};
use crate::api::problem::Refused;

/// The scopes that attachments of this owner's policy name.
pub(super) fn scopes(owner: &str, said: &WireAttachments) -> Result<Vec<Scope>, Refused> {
    let owner = owner.to_lowercase();
    let mut scopes = Vec::new();
    if let Some(org) = &said.org {
        if !org.name.is_empty() && org.name.to_lowercase() != owner {
            let detail = format!("{:?} is not {owner:?}, whose policy this is", org.name);
            return Err(Refused::invalid("org.name", detail));
        }
        if org.apply_to_org {
            scopes.push(Scope::Organization(owner.as_str().into()));
        }
        for repo in org.repos.iter().flatten() {
            of_repository(&owner, repo, &mut scopes)?;
        }
    }
    for cluster in said.clusters.iter().flatten() {
        scopes.push(scope("clusters", &format!("cluster:{cluster}"))?);
    }
    Ok(scopes)
}

fn of_repository(owner: &str, repo: &WireRepo, scopes: &mut Vec<Scope>) -> Result<(), Refused> {
    let path = format!("{owner}/{}", repo.name);
    let whole = scope("org.repos", &format!("repo:{path}"))?;
    if repo.apply_to_repo {
        scopes.push(whole);
    }
    for text in repo.workflows.iter().flatten() {
        let file = workflow_file(text).ok_or_else(|| {
            let detail = format!("{text:?} is no workflow's file; write its name, such as ci.yml");
            Refused::invalid("org.repos.workflows", detail)
        })?;
        scopes.push(scope("org.repos.workflows", &format!("workflow:{path}/{file}"))?);
    }
    Ok(())
}

fn scope(field: &str, text: &str) -> Result<Scope, Refused> {
    text.parse::<Scope>()
        .map_err(|error| Refused::invalid(field, error.to_string()))
}

/// The attachments of a policy that holds these scopes, in the words in which they were written; `None` when it is
/// attached nowhere that the wire can name.
pub(super) fn shown(
    owner: &str,
    held: &[String],
    written: Option<&WireAttachments>,
) -> Option<WireAttachments> {
    let folded = owner.to_lowercase();
    let mut held: BTreeSet<&str> = held.iter().map(String::as_str).collect();
    let said = written.cloned().unwrap_or_default();
    let mut repos = Vec::new();
    let said_org = said.org.unwrap_or_default();
    let apply_to_org = held.remove(format!("org:{folded}").as_str());
    for repo in said_org.repos.into_iter().flatten() {
        repos.extend(still(&folded, repo, &mut held));
    }
    let (mut others, mut clusters) = (Vec::new(), Vec::new());
    for cluster in said.clusters.into_iter().flatten() {
        if held.remove(format!("cluster:{cluster}").as_str()) {
            clusters.push(cluster);
        }
    }
    for scope in held {
        match scope.split_once(':') {
            Some(("cluster", name)) => clusters.push(name.to_owned()),
            Some((kind @ ("repo" | "workflow"), path)) => others.push((kind, path)),
            Some(_) | None => {}
        }
    }
    // `repo:` before `workflow:`, and both by name, as the set has them.
    for (kind, path) in others {
        let mut parts = path.splitn(3, '/');
        if parts.next() == Some(folded.as_str())
            && let Some(name) = parts.next()
        {
            add(&mut repos, kind, name, parts.next());
        }
    }
    let org = (apply_to_org || !repos.is_empty()).then(|| WireOrg {
        name: owner.to_owned(),
        apply_to_org,
        repos: (!repos.is_empty()).then_some(repos),
    });
    let clusters = (!clusters.is_empty()).then_some(clusters);
    (org.is_some() || clusters.is_some()).then_some(WireAttachments { org, clusters })
}

/// What is still true of a repository as it was written; `None` when nothing is.
fn still(owner: &str, repo: WireRepo, held: &mut BTreeSet<&str>) -> Option<WireRepo> {
    let path = format!("{owner}/{}", repo.name.to_lowercase());
    let apply_to_repo = held.remove(format!("repo:{path}").as_str());
    let mut workflows = repo.workflows.unwrap_or_default();
    workflows.retain(|text| {
        let file = workflow_file(text).unwrap_or(text);
        held.remove(format!("workflow:{path}/{file}").as_str())
    });
    (apply_to_repo || !workflows.is_empty()).then(|| WireRepo {
        name: repo.name,
        apply_to_repo,
        workflows: (!workflows.is_empty()).then_some(workflows),
    })
}

/// Adds what somebody else attached.
fn add(repos: &mut Vec<WireRepo>, kind: &str, name: &str, file: Option<&str>) {
    let at = repos.iter().position(|repo| repo.name.to_lowercase() == name);
    let at = at.unwrap_or_else(|| {
        repos.push(WireRepo {
            name: name.to_owned(),
            ..WireRepo::default()
        });
        repos.len() - 1
    });
    let Some(repo) = repos.get_mut(at) else { return };
    repo.apply_to_repo |= kind == "repo";
    if let Some(file) = file {
        repo.workflows.get_or_insert_default().push(file.to_owned());
    }
}

/// Attachments with others beside them, in the words of both, the first one's first.
pub(super) fn merged(first: Option<WireAttachments>, second: &WireAttachments) -> WireAttachments {
    let mut merged = first.unwrap_or_default();
    if let Some(org) = &second.org {
        let into = merged.org.get_or_insert_default();
        for repo in org.repos.iter().flatten() {
            let known = into.repos.get_or_insert_default();
            match known
                .iter_mut()
                .find(|one| one.name.eq_ignore_ascii_case(&repo.name))
            {
                Some(one) => {
                    let files = one.workflows.get_or_insert_default();
                    let fresh = repo.workflows.iter().flatten();
                    let fresh: Vec<String> = fresh.filter(|file| !files.contains(file)).cloned().collect();
                    files.extend(fresh);
                }
                None => known.push(repo.clone()),
            }
        }
    }
    for cluster in second.clusters.iter().flatten() {
        let into = merged.clusters.get_or_insert_default();
        if !into.contains(cluster) {
            into.push(cluster.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::{Value, json};

    use super::*;

    fn said(value: &Value) -> WireAttachments {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn named(value: &Value) -> Vec<String> {
        let mut names: Vec<String> = scopes("Acme", &said(value))
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        names.sort();
        names
    }

    fn back(held: &[&str], written: Option<&Value>) -> Value {
        let held: Vec<String> = held.iter().map(|scope| (*scope).to_owned()).collect();
        let written = written.map(said);
        serde_json::to_value(shown("Acme", &held, written.as_ref())).unwrap()
    }

    /// The client's lists are ordered and have case: what it wrote comes back so.
    #[test]
    fn what_was_written_comes_back_letter_by_letter() {
        let written = json!({
            "org": {"name": "Acme", "apply_to_org": true, "repos": [
                {"name": "Web", "apply_to_repo": false, "workflows": ["release.yml", ".github/workflows/ci.yml"]},
                {"name": "API", "apply_to_repo": true},
            ]},
            "clusters": ["prod", "dev"],
        });
        let held = named(&written);
        assert_eq!(
            held,
            [
                "cluster:dev",
                "cluster:prod",
                "org:acme",
                "repo:acme/api",
                "workflow:acme/web/ci.yml",
                "workflow:acme/web/release.yml"
            ]
        );
        let held: Vec<&str> = held.iter().map(String::as_str).collect();
        assert_eq!(back(&held, Some(&written)), written);
    }

    #[test]
    fn what_others_changed_since_is_shown_as_it_is() {
        let written = json!({
            "org": {"name": "Acme", "apply_to_org": true, "repos": [{"name": "Web", "apply_to_repo": true}]},
            "clusters": ["prod"],
        });
        let held = [
            "repo:acme/api",
            "workflow:acme/web/ci.yml",
            "workflow:acme/docs/b.yml",
            "repo:other/x",
            "cluster:dev",
        ];
        assert_eq!(
            back(&held, Some(&written)),
            json!({
                "org": {"name": "Acme", "apply_to_org": false, "repos": [
                    {"name": "api", "apply_to_repo": true},
                    {"name": "docs", "apply_to_repo": false, "workflows": ["b.yml"]},
                    {"name": "web", "apply_to_repo": false, "workflows": ["ci.yml"]},
                ]},
                "clusters": ["dev"],
            })
        );
        assert_eq!(
            back(&["org:acme"], None),
            json!({"org": {"name": "Acme", "apply_to_org": true}})
        );
    }

    /// The provider takes a missing `attachments`, `org` or `clusters` for null, and an empty one for something.
    #[test]
    fn what_is_not_there_is_left_out() {
        assert_eq!(back(&[], None), Value::Null);
        assert_eq!(back(&["repo:other/x"], None), Value::Null);
        assert_eq!(back(&["cluster:prod"], None), json!({"clusters": ["prod"]}));
    }

    #[test]
    fn what_is_attached_besides_keeps_the_words_of_both() {
        let first = json!({"org": {"name": "Acme", "apply_to_org": false, "repos": [{"name": "Web", "workflows": ["a.yml"]}]}});
        let second = json!({
            "org": {"name": "Acme", "repos": [{"name": "web", "workflows": ["b.yml", "a.yml"]}, {"name": "API", "apply_to_repo": true}]},
            "clusters": ["prod"],
        });
        let merged = merged(Some(said(&first)), &said(&second));
        let held = [
            "workflow:acme/web/a.yml",
            "workflow:acme/web/b.yml",
            "repo:acme/api",
            "cluster:prod",
        ];
        assert_eq!(
            back(&held, Some(&serde_json::to_value(merged).unwrap())),
            json!({
                "org": {"name": "Acme", "apply_to_org": false, "repos": [
                    {"name": "Web", "apply_to_repo": false, "workflows": ["a.yml", "b.yml"]},
                    {"name": "API", "apply_to_repo": true},
                ]},
                "clusters": ["prod"],
            })
        );
    }

    #[test]
    fn what_is_no_scope_of_this_owner_is_refused() {
        for odd in [
            json!({"org": {"name": "other", "apply_to_org": true}}),
            json!({"org": {"repos": [{"name": "a/b", "apply_to_repo": true}]}}),
            json!({"org": {"repos": [{"name": "", "apply_to_repo": true}]}}),
            json!({"org": {"repos": [{"name": "web", "workflows": ["../ci.yml"]}]}}),
            json!({"org": {"repos": [{"name": "web", "workflows": ["dynamic/pages"]}]}}),
            json!({"clusters": ["a/b"]}),
        ] {
            assert_eq!(scopes("acme", &said(&odd)).unwrap_err().status(), 422, "{odd}");
        }
    }
}
