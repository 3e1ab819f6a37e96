//! `tidegate policy effective`: which policy decides, by facet, and what was considered.

use reqwest::Method;
use serde::Deserialize;
use tidegate_control::model::PolicyMode;

use super::{Session, mode};
use crate::out::say;
use crate::remote::args::policy::PolicyEffective;
use crate::remote::show;

#[derive(Deserialize)]
struct Effective {
    egress: Facet,
    lockdown: Facet,
    considered: Vec<Considered>,
}

#[derive(Deserialize)]
struct Facet {
    policy: Option<Decider>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Considered {
    scope: String,
    policy: Option<Decider>,
}

#[derive(Deserialize)]
struct Decider {
    name: String,
    version: u32,
    mode: PolicyMode,
    #[serde(default)]
    unusable: bool,
}

pub(super) async fn run(session: &Session, whose: &PolicyEffective) -> anyhow::Result<()> {
    let mut call = session.client.call(Method::GET, &["effective"])?;
    let asked = [
        ("owner", &whose.owner),
        ("repo", &whose.repo),
        ("workflow", &whose.workflow),
        ("cluster", &whose.cluster),
    ];
    for (name, value) in asked {
        if let Some(value) = value {
            call = call.query(name, value);
        }
    }
    let answer = call.send().await?;
    if session.json {
        show::json(&answer.json);
        return Ok(());
    }
    let effective: Effective = answer.read()?;
    show::pairs(&[
        (
            "egress",
            facet(&effective.egress, "the default of the job's network"),
        ),
        ("lockdown", facet(&effective.lockdown, "nothing decides it")),
    ]);
    say!("");
    let row = |one: Considered| {
        let decider = one.policy.as_ref();
        [
            show::cell(&one.scope),
            show::cell(decider.map_or("", |policy| &policy.name)),
            decider.map_or_else(|| "-".to_owned(), |policy| policy.version.to_string()),
            decider.map_or("-", |policy| mode(policy.mode)).to_owned(),
        ]
    };
    let rows = effective.considered.into_iter().map(row).collect();
    show::table(
        ["CONSIDERED", "POLICY", "VERSION", "MODE"],
        rows,
        "no scope was considered",
    );
    Ok(())
}

fn facet(facet: &Facet, nobody: &str) -> String {
    let (Some(policy), scope) = (&facet.policy, facet.scope.as_deref().unwrap_or_default()) else {
        return nobody.to_owned();
    };
    let unusable = if policy.unusable {
        "; it can't be put in force, so everything is refused"
    } else {
        ""
    };
    format!(
        "policy {} version {} ({}), from {scope}{unusable}",
        policy.name,
        policy.version,
        mode(policy.mode)
    )
}
