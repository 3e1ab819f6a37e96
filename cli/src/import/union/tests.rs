//! Unions of workflows that are many or large only because they call each other: they come to an end, and say what is
//! not in them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use tidegate_policy::verdict::Mode;

use super::*;

const CALLED: &str = "called.yml";

fn workflow(text: &str) -> Workflow {
    Workflow::read(text, &mut Items::new("x.yml")).unwrap()
}

/// What `0.yml` comes to, and what is told of it.
fn imported(workflows: &BTreeMap<&str, Workflow>) -> (Outcome, String) {
    let file = WorkflowFile {
        path: "0.yml".into(),
        name: "0.yml".into(),
        shown: "0.yml".into(),
    };
    let repository = Repository {
        owner: "acme".into(),
        name: "web".into(),
        root: "/nonexistent".into(),
        shown: String::new(),
        workflows: Vec::new(),
    };
    let union = Union {
        repository: &repository,
        workflows,
        choice: Choice::Keep,
    };
    let mut items = Items::new("0.yml");
    let mut actions = Actions::new(&repository.root);
    let outcome = union.policy(&file, &mut actions, &mut items);
    (outcome, format!("{:?}", items.kept))
}

/// A workflow whose jobs, so many, call another.
fn calling(jobs: usize, called: &str) -> String {
    let mut text = "on: push\njobs:\n".to_owned();
    for n in 0..jobs {
        let _ = writeln!(text, "  j{n}: {{uses: {LOCAL}{called}}}");
    }
    text
}

/// Twenty jobs that each call the next file's twenty, ten files deep, and at the end nothing: 20^10 ways.
#[test]
fn workflows_that_only_call_each_other_come_to_an_end() {
    const FILES: [&str; 11] = [
        "0.yml", "1.yml", "2.yml", "3.yml", "4.yml", "5.yml", "6.yml", "7.yml", "8.yml", "9.yml", "10.yml",
    ];
    let mut read = BTreeMap::new();
    for (one, next) in FILES.iter().zip(&FILES[1..]) {
        let mut text = calling(20, next);
        if *one == "0.yml" {
            text.push_str("  own: {steps: [{uses: step-security/harden-runner@v2}]}\n");
        }
        read.insert(*one, workflow(&text));
    }
    read.insert("10.yml", workflow("on: workflow_call\njobs: {}\n"));
    let (outcome, told) = imported(&read);
    assert!(matches!(outcome, Outcome::Unhardened));
    assert!(told.contains("more than 1000 jobs"), "{told}");
}

/// A called workflow's endpoints count as often as it is called: 600 times 1 000.
#[test]
fn one_long_list_that_is_called_often_is_bounded_and_said() {
    let list: Vec<String> = (0..1_000).map(|n| format!(" h{n}.test:443")).collect();
    let called = format!(
        "on: workflow_call\njobs:\n  build:\n    steps:\n      - uses: step-security/harden-runner@v2\n        with:\n          \
         allowed-endpoints:{}\n",
        list.concat()
    );
    let read = |jobs| {
        BTreeMap::from([
            ("0.yml", workflow(&calling(jobs, CALLED))),
            (CALLED, workflow(&called)),
        ])
    };
    let (outcome, told) = imported(&read(500));
    let Outcome::Policy(whole) = outcome else {
        panic!("{outcome:?} {told}");
    };
    assert_eq!(
        (whole.mode, whole.endpoints.len()),
        (Mode::Block, 1_000),
        "{told}"
    );
    assert_eq!(whole.endpoints[0].jobs.len(), 500, "each job is named once");
    let (outcome, told) = imported(&read(600));
    let Outcome::Policy(cut) = outcome else {
        panic!("{outcome:?} {told}");
    };
    assert_eq!((cut.mode, cut.endpoints.len()), (Mode::Audit, 1_000));
    assert_eq!(cut.jobs.len(), 501, "the others are not read");
    assert!(told.contains("more than 500000 endpoints"), "{told}");
}
