//! Rows of the table against what is attached, registered and counted; questions and pages against all of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::record::{Change, PolicyRecord, VersionRecord};
use tidegate_policy::effective::{Generation, PolicySet};
use tidegate_policy::job::Assurance;

use super::ask::{BadCursor, CoverageCounters, Filter, Sort, Which};
use super::glob::Pattern;
use super::scopes::{ScopeKind, WhichScopes};
use super::*;
use crate::baseline::State;
use crate::model::PolicyMode;
use crate::store::{JudgedSums, LastJob, Micros, SeenWorkflow, Stands, WorkflowSums};

const AUDIT: &str = "egress-policy: audit\nallowed-endpoints: >\n  a.test:443\n";
const BLOCK: &str = "egress-policy: block\nallowed-endpoints: >\n  a.test:443\n";

/// Policies with what they are attached to.
fn attached(policies: &[(&str, &str, &[&str])]) -> Inputs {
    let mut changes = Vec::new();
    for (name, yaml, scopes) in policies {
        let id = format!("pol_{name}");
        changes.push(Change::Policy(PolicyRecord {
            id: id.as_str().into(),
            owner: "acme".into(),
            name: (*name).into(),
            versions: vec![VersionRecord {
                version: 2,
                since: Generation(1),
                yaml: (*yaml).to_owned(),
            }],
        }));
        changes.extend(scopes.iter().map(|scope| Change::Attachment {
            scope: scope.parse().unwrap(),
            policy: Some(id.as_str().into()),
        }));
    }
    let mut mirror = Mirror::new();
    mirror.apply(Batch {
        epoch: "e".into(),
        reset: true,
        changes,
        generation: Generation(9),
        ..Batch::default()
    });
    Inputs {
        holders: mirror
            .policies()
            .map(|(record, _)| (record.id.clone(), record.owner.clone()))
            .collect(),
        policies: Arc::new(PolicySet {
            attached: mirror.attached(),
            ..PolicySet::default()
        }),
        ..Inputs::default()
    }
}

/// A workflow of `acme/REPO` whose last job was known this well, at a second.
fn seen(repo: &str, workflow: &str, assurance: Assurance, at: i64) -> SeenWorkflow {
    SeenWorkflow {
        owner: "acme".into(),
        repo: format!("acme/{repo}"),
        workflow: workflow.into(),
        cluster: "prod".into(),
        first_at: Micros(0),
        last_at: Micros(at * 1_000_000),
        jobs: 3,
        last: Some(LastJob {
            id: format!("job_{repo}_{at}"),
            assurance,
            network: "runners".into(),
        }),
    }
}

fn sums(repo: &str, workflow: &str, counts: [u64; 4]) -> WorkflowSums {
    let [permits, refusals, would_refuse, suffixes] = counts;
    WorkflowSums {
        owner: "acme".into(),
        repo: format!("acme/{repo}"),
        workflow: workflow.into(),
        cluster: "prod".into(),
        permits,
        refusals,
        would_refuse,
        suffixes,
        judged: JudgedSums {
            refusals,
            would_refuse,
            suffixes,
        },
        first_at: Micros(0),
        last_at: Micros(70_000_000),
    }
}

fn stable(runs: u64) -> Stands {
    Stands {
        state: State::Stable,
        runs,
    }
}

fn row<'t>(table: &'t Table, repo: &str) -> &'t CoverageRow {
    let wanted = format!("acme/{repo}");
    table.rows.iter().find(|row| row.repo == wanted).unwrap()
}

#[test]
fn a_row_says_which_policy_decides_and_when_none_does() {
    let mut inputs = attached(&[
        ("base", AUDIT, &["org:acme"]),
        ("web", BLOCK, &["workflow:acme/web/ci.yml"]),
        (
            "broken",
            "egress-policy: block\nuse: [nothing]\n",
            &["repo:acme/odd"],
        ),
    ]);
    inputs.seen = vec![
        seen("web", "ci.yml", Assurance::Signed, 1),
        seen("api", "", Assurance::Declared, 2),
        seen("odd", "ci.yml", Assurance::Signed, 3),
        SeenWorkflow {
            owner: "beta".into(),
            ..seen("x", "ci.yml", Assurance::Claimed, 4)
        },
    ];
    let rules = NetworkRules {
        min_assurance: Some(Assurance::Signed),
        default_policy: Some("deny-all".into()),
    };
    inputs.networks.insert(("runners".into(), "prod".into()), rules);
    let other = NetworkRules {
        min_assurance: None,
        default_policy: Some("others' (audit)".into()),
    };
    inputs.networks.insert(("runners".into(), "lab".into()), other);
    let table = Table::new(inputs);

    let web = row(&table, "web");
    let policy = web.policy.as_ref().unwrap();
    assert_eq!(
        (
            policy.owner.as_str(),
            policy.name.as_str(),
            policy.version,
            policy.mode
        ),
        ("acme", "web", 2, PolicyMode::Block)
    );
    assert_eq!(web.scope.as_deref(), Some("workflow:acme/web/ci.yml"));
    assert_eq!(
        (web.decided_by, web.below_min_assurance),
        (DecidedBy::Policy, false)
    );

    let api = row(&table, "api");
    assert_eq!(api.policy.as_ref().unwrap().name, "base");
    assert_eq!(api.scope.as_deref(), Some("org:acme"));
    assert_eq!(
        (api.decided_by, api.below_min_assurance),
        (DecidedBy::NetworkDefault, true),
        "declared is less than signed"
    );
    assert_eq!(api.default_policy.as_deref(), Some("deny-all"));

    let odd = row(&table, "odd").policy.as_ref().unwrap();
    assert!(odd.unusable && odd.mode == PolicyMode::Block, "{odd:?}");

    let none = row(&table, "x");
    assert_eq!(
        (&none.policy, none.decided_by),
        (&None, DecidedBy::NetworkDefault)
    );
    assert!(none.below_min_assurance, "what is claimed never counts");
}

#[test]
fn what_only_events_tell_of_is_a_row_without_a_last_job() {
    let mut inputs = attached(&[("base", BLOCK, &["repo:acme/fixed"])]);
    inputs.seen = vec![seen("web", "ci.yml", Assurance::Signed, 5)];
    inputs.sums = vec![
        sums("fixed", "nightly.yml", [7, 1, 0, 0]),
        sums("web", "ci.yml", [2, 0, 0, 0]),
    ];
    let table = Table::new(inputs);
    assert_eq!(table.rows.len(), 2);
    let fixed = row(&table, "fixed");
    assert_eq!((&fixed.assurance, &fixed.last_job, fixed.jobs), (&None, &None, 0));
    assert_eq!(fixed.policy.as_ref().unwrap().name, "base");
    assert_eq!((fixed.counts.permit, fixed.counts.refuse), (7, 1));
    assert_eq!(fixed.last_seen.as_second(), 70);
    let web = row(&table, "web");
    assert_eq!(
        (web.counts.permit, web.last_seen.as_second()),
        (2, 5),
        "a job's own time counts"
    );
}

#[test]
fn ready_to_block_is_audit_that_refused_nothing_and_is_known_well() {
    let audit: &[&str] = &[
        "repo:acme/ok",
        "repo:acme/would",
        "repo:acme/new",
        "repo:acme/few",
        "repo:acme/noise",
    ];
    let mut inputs = attached(&[("base", AUDIT, audit), ("hard", BLOCK, &["repo:acme/block"])]);
    let names = ["ok", "would", "new", "few", "noise", "block"];
    inputs.seen = names
        .iter()
        .map(|name| seen(name, "ci.yml", Assurance::Signed, 1))
        .collect();
    inputs.sums = vec![
        sums("would", "ci.yml", [9, 0, 3, 1]),
        sums("noise", "ci.yml", [9, 0, 4, 4]),
    ];
    for (name, stands) in [
        ("ok", stable(ENOUGH_RUNS)),
        ("would", stable(50)),
        ("few", stable(ENOUGH_RUNS - 1)),
        ("noise", stable(50)),
        ("block", stable(50)),
    ] {
        inputs
            .baselines
            .insert(format!("workflow:acme/{name}/ci.yml"), stands);
    }
    let creating = Stands {
        state: State::Creating,
        runs: 3,
    };
    inputs
        .baselines
        .insert("workflow:acme/new/ci.yml".into(), creating);
    let table = Table::new(inputs);
    let ready: Vec<bool> = names
        .iter()
        .map(|name| row(&table, name).ready_to_block)
        .collect();
    assert_eq!(ready, [true, false, false, false, true, false]);
    assert_eq!(
        row(&table, "would").why_not,
        ["2 verdicts of the last seven days would have been refusals in block mode."]
    );
    assert_eq!(row(&table, "new").why_not.len(), 1);
    assert!(
        row(&table, "few").why_not[0].contains("Only 9"),
        "{:?}",
        row(&table, "few").why_not
    );
    assert!(row(&table, "block").why_not.is_empty(), "it blocks already");
    let counters = table.ask(&Which::default(), None, 10).unwrap().counters;
    let wanted = CoverageCounters {
        all: 6,
        no_policy: 0,
        audit: 5,
        block: 1,
        ready_to_block: 2,
        below_min_assurance: 0,
    };
    assert_eq!(counters, wanted);
}

fn many() -> Table {
    let mut inputs = attached(&[("base", AUDIT, &["org:acme", "cluster:prod"])]);
    inputs.seen = (0..25)
        .map(|at| seen(&format!("r{at:02}"), "ci.yml", Assurance::Signed, at % 7))
        .collect();
    inputs.sums = (0..25)
        .map(|at| sums(&format!("r{at:02}"), "ci.yml", [1, at % 3, at % 2, 0]))
        .collect();
    Table::new(inputs)
}

#[test]
fn pages_of_any_size_in_any_order_have_every_row_once() {
    let table = many();
    for sort in [Sort::Last, Sort::Name, Sort::Refusals] {
        let which = Which {
            sort,
            ..Which::default()
        };
        let whole: Vec<String> = table
            .ask(&which, None, 100)
            .unwrap()
            .items
            .iter()
            .map(|row| row.repo.clone())
            .collect();
        assert_eq!(whole.len(), 25);
        for limit in [1, 7, 24, 25] {
            let mut after = None;
            let mut all = Vec::new();
            loop {
                let found = table.ask(&which, after.as_deref(), limit).unwrap();
                all.extend(found.items.iter().map(|row| row.repo.clone()));
                after = found.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, whole, "{sort:?} by {limit}");
        }
    }
    let last = table.ask(&Which::default(), None, 1).unwrap();
    assert_eq!(last.items[0].last_seen.as_second(), 6);
    for odd in ["", "x", "x.y", "1"] {
        assert_eq!(
            table.ask(&Which::default(), Some(odd), 1).err(),
            Some(BadCursor),
            "{odd:?}"
        );
    }
}

#[test]
fn a_question_finds_what_it_asks_for_and_counts_the_rest() {
    let table = many();
    let count = |which: Which| table.ask(&which, None, 100).unwrap().items.len();
    let all = Which::default;
    assert_eq!(
        count(Which {
            owners: vec!["beta".into()],
            ..all()
        }),
        0
    );
    assert_eq!(
        count(Which {
            search: Some("r1".into()),
            ..all()
        }),
        10
    );
    assert_eq!(
        count(Which {
            repo: Some("acme/r07".into()),
            ..all()
        }),
        1
    );
    assert_eq!(
        count(Which {
            cluster: Some("elsewhere".into()),
            ..all()
        }),
        0
    );
    let blocked = Which {
        filter: Some(Filter::Block),
        ..all()
    };
    let found = table.ask(&blocked, None, 100).unwrap();
    assert!(found.items.is_empty());
    assert_eq!((found.counters.all, found.counters.audit), (25, 25));
}

#[test]
fn scopes_are_what_was_seen_and_what_is_attached() {
    let table = many();
    let find = |which: WhichScopes| {
        let found = table.scopes(&which, None, 100);
        let scopes: Vec<&str> = found.items.iter().map(|one| one.scope.as_str()).collect();
        (scopes.join(" "), found.total)
    };
    let all = WhichScopes::default;
    assert_eq!(find(all()).1, 25 * 2 + 2);
    assert_eq!(
        find(WhichScopes {
            attached: Some(true),
            ..all()
        })
        .0,
        "cluster:prod org:acme"
    );
    assert_eq!(
        find(WhichScopes {
            kind: Some(ScopeKind::Repo),
            pattern: Some(Pattern::new("ACME/r0?")),
            ..all()
        })
        .1,
        10
    );
    assert_eq!(
        find(WhichScopes {
            owners: vec!["acme".into()],
            kind: Some(ScopeKind::Cluster),
            ..all()
        })
        .1,
        0,
        "a cluster is every owner's"
    );
    assert_eq!(
        find(WhichScopes {
            policy: Some("base".into()),
            owner: Some("acme".into()),
            ..all()
        })
        .0,
        "org:acme"
    );
    let org = table
        .scopes(
            &WhichScopes {
                kind: Some(ScopeKind::Org),
                ..all()
            },
            None,
            10,
        )
        .items[0];
    assert_eq!((org.jobs, org.workflows), (75, 25));
    assert_eq!(org.policy.as_ref().unwrap().owner, "acme");
    let mut after = None;
    let mut walked = 0;
    loop {
        let found = table.scopes(&all(), after.as_deref(), 9);
        walked += found.items.len();
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(walked, 52);
}

#[test]
fn scopes_that_nobody_was_seen_in_are_there_when_something_is_attached() {
    let inputs = attached(&[("base", BLOCK, &["repo:acme/planned"])]);
    let table = Table::new(Inputs {
        baselines: HashMap::new(),
        ..inputs
    });
    let found = table.scopes(&WhichScopes::default(), None, 10);
    assert_eq!(found.total, 1);
    assert_eq!((found.items[0].first_seen, found.items[0].jobs), (None, 0));
}

#[test]
fn rows_that_are_spelled_alike_are_told_apart_at_the_edge_of_a_page() {
    let of = |owner: &str, repo: &str, workflow: &str, cluster: &str| SeenWorkflow {
        owner: owner.into(),
        repo: repo.into(),
        workflow: workflow.into(),
        cluster: cluster.into(),
        ..seen("x", "ci.yml", Assurance::Signed, 1)
    };
    let mut inputs = attached(&[]);
    inputs.seen = vec![
        of("acme", "", "web/ci.yml", "prod"),
        of("acme", "acme/web", "ci.yml", "prod"),
        of("acme", "acme/web", "ci.yml prod", ""),
        of("acme", "acme", "ci.yml", ""),
        of("acme", "", "ci.yml", ""),
    ];
    let table = Table::new(inputs);
    let mut after = None;
    let mut all = Vec::new();
    loop {
        let found = table.ask(&Which::default(), after.as_deref(), 1).unwrap();
        let one = &found.items[0];
        all.push([&one.repo, &one.workflow, &one.cluster].map(String::clone));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}
