//! Plans by table, and by a naive model: applying one reaches what the files say, and nothing is left to do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn set(scopes: &[&str]) -> BTreeSet<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

fn wanted(name: &str, yaml: &str, scopes: &[&str]) -> Wanted {
    Wanted {
        name: name.into(),
        yaml: yaml.into(),
        scopes: set(scopes),
    }
}

fn present(name: &str, yaml: &str, scopes: &[&str]) -> Present {
    Present {
        name: name.into(),
        yaml: yaml.into(),
        scopes: set(scopes),
    }
}

fn create(policy: &str) -> Step {
    Step::Create {
        policy: policy.into(),
    }
}

fn update(policy: &str) -> Step {
    Step::Update {
        policy: policy.into(),
    }
}

fn attach(policy: &str, scopes: &[&str]) -> Step {
    Step::Attach {
        policy: policy.into(),
        scopes: set(scopes),
    }
}

fn detach(policy: &str, scopes: &[&str]) -> Step {
    Step::Detach {
        policy: policy.into(),
        scopes: set(scopes),
    }
}

fn take(policy: &str, from: &[(&str, &str)]) -> Step {
    let from = from
        .iter()
        .map(|(scope, holder)| ((*scope).to_owned(), (*holder).to_owned()));
    Step::Move {
        policy: policy.into(),
        from: from.collect(),
    }
}

fn delete(policy: &str, scopes: &[&str]) -> Step {
    Step::Delete {
        policy: policy.into(),
        scopes: set(scopes),
    }
}

#[test]
fn nothing_to_do_is_an_empty_plan() {
    let plan = plan(
        &[wanted("a", "1", &["org:x"])],
        &[present("a", "1", &["org:x"])],
        true,
    );
    assert_eq!(
        plan,
        Plan {
            unchanged: 1,
            ..Plan::default()
        }
    );
}

#[test]
fn a_new_policy_is_written_before_it_is_attached() {
    let plan = plan(&[wanted("a", "1", &["org:x", "repo:x/y"])], &[], false);
    assert_eq!(plan.steps, [create("a"), attach("a", &["org:x", "repo:x/y"])]);
}

#[test]
fn a_scope_moves_to_its_new_policy_before_the_old_one_is_deleted_or_changed() {
    let before = [
        present("a", "1", &["org:x"]),
        present("old", "1", &["repo:x/y", "repo:x/z"]),
    ];
    let files = [wanted("a", "2", &[]), wanted("b", "1", &["org:x", "repo:x/y"])];
    assert_eq!(
        plan(&files, &before, true).steps,
        [
            create("b"),
            take("b", &[("org:x", "a"), ("repo:x/y", "old")]),
            update("a"),
            delete("old", &["repo:x/z"]),
        ]
    );
    let kept = plan(&files, &before, false);
    assert_eq!(kept.kept, ["old"]);
    assert!(!kept.steps.contains(&delete("old", &["repo:x/z"])));
}

#[test]
fn a_scope_that_no_file_names_is_left_before_the_text_changes() {
    let before = [present("a", "1", &["org:x", "repo:x/y"])];
    let plan = plan(&[wanted("a", "2", &["org:x"])], &before, false);
    assert_eq!(plan.steps, [detach("a", &["repo:x/y"]), update("a")]);
    assert_eq!(plan.unchanged, 0);
}

#[test]
fn policies_that_swap_scopes_take_them_from_each_other() {
    let before = [present("a", "1", &["org:x"]), present("b", "1", &["org:y"])];
    let files = [wanted("a", "2", &["org:y"]), wanted("b", "1", &["org:x"])];
    let plan = plan(&files, &before, true);
    assert_eq!(
        plan.steps,
        [
            update("a"),
            take("a", &[("org:y", "b")]),
            take("b", &[("org:x", "a")])
        ]
    );
}

#[test]
fn a_policy_that_only_loses_a_scope_to_another_is_not_called_unchanged() {
    let before = [present("a", "1", &["org:x"]), present("b", "1", &[])];
    let files = [wanted("a", "1", &[]), wanted("b", "1", &["org:x"])];
    assert_eq!(plan(&files, &before, true).unchanged, 0);
}

#[test]
fn many_scopes_go_in_requests_that_the_api_reads() {
    let scopes: BTreeSet<String> = (0..2_500).map(|n| format!("repo:x/{n}")).collect();
    let long: BTreeSet<String> = (0..400).map(|n| format!("repo:x/{n:0>200}")).collect();
    for (scopes, least) in [(scopes, 3), (long, 3)] {
        let wanted = Wanted {
            scopes: scopes.clone(),
            ..wanted("a", "1", &[])
        };
        let steps = plan(&[wanted], &[present("a", "1", &[])], false).steps;
        let mut seen = BTreeSet::new();
        for step in &steps {
            let Step::Attach { scopes, .. } = step else {
                panic!("{step:?}")
            };
            assert!(scopes.len() <= MAX_SCOPES);
            assert!(serde_json::to_string(scopes).unwrap().len() <= MAX_BYTES + 2);
            seen.extend(scopes.iter().cloned());
        }
        assert_eq!(seen, scopes);
        assert!(steps.len() >= least, "{}", steps.len());
    }
}

/// What a control plane does with the steps, without any of its rules but one policy a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    texts: BTreeMap<String, String>,
    holders: BTreeMap<String, String>,
}

impl Model {
    fn of(present: &[Present]) -> Self {
        let texts = present.iter().map(|one| (one.name.clone(), one.yaml.clone()));
        let holder = |one: &Present| {
            let name = one.name.clone();
            one.scopes
                .clone()
                .into_iter()
                .map(move |scope| (scope, name.clone()))
        };
        Self {
            texts: texts.collect(),
            holders: present.iter().flat_map(holder).collect(),
        }
    }

    fn present(&self) -> Vec<Present> {
        let held = |name: &String| {
            let mine = self.holders.iter().filter(|(_, holder)| *holder == name);
            mine.map(|(scope, _)| scope.clone()).collect()
        };
        let one = |(name, yaml): (&String, &String)| Present {
            name: name.clone(),
            yaml: yaml.clone(),
            scopes: held(name),
        };
        self.texts.iter().map(one).collect()
    }

    fn apply(&mut self, step: &Step, files: &[Wanted]) {
        let text = |policy: &String| files.iter().find(|one| one.name == *policy).unwrap().yaml.clone();
        match step {
            Step::Create { policy } => assert!(self.texts.insert(policy.clone(), text(policy)).is_none()),
            Step::Update { policy } => {
                let old = self.texts.insert(policy.clone(), text(policy)).unwrap();
                assert_ne!(old, text(policy), "an update that changes nothing");
            }
            Step::Move { policy, from } => {
                assert!(self.texts.contains_key(policy));
                for (scope, holder) in from {
                    assert_eq!(
                        self.holders.insert(scope.clone(), policy.clone()).as_ref(),
                        Some(holder)
                    );
                }
            }
            Step::Attach { policy, scopes } => {
                assert!(self.texts.contains_key(policy));
                for scope in scopes {
                    assert!(
                        self.holders.insert(scope.clone(), policy.clone()).is_none(),
                        "a conflict"
                    );
                }
            }
            Step::Detach { policy, scopes } => {
                for scope in scopes {
                    assert_eq!(self.holders.remove(scope).as_ref(), Some(policy));
                }
            }
            Step::Delete { policy, scopes } => {
                assert!(self.texts.remove(policy).is_some());
                let mine: BTreeSet<String> = self
                    .holders
                    .iter()
                    .filter(|(_, holder)| *holder == policy)
                    .map(|(scope, _)| scope.clone())
                    .collect();
                assert_eq!(mine, *scopes, "what it still holds was planned");
                self.holders.retain(|_, holder| holder != policy);
            }
        }
    }

    /// The text that governs a scope.
    fn text(&self, scope: &str) -> Option<&String> {
        self.texts.get(self.holders.get(scope)?)
    }
}

/// Some policies of five names, one holder for each of eight scopes.
fn state() -> impl Strategy<Value = Vec<Present>> {
    let texts = proptest::collection::vec(proptest::option::of(0..3_u8), 5);
    let holders = proptest::collection::vec(0..7_usize, 8);
    (texts, holders).prop_map(|(texts, holders)| {
        let mut policies = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let Some(text) = text else { continue };
            let mine = holders.iter().enumerate().filter(|(_, holder)| **holder == at);
            policies.push(Present {
                name: format!("p{at}"),
                yaml: format!("text {text}"),
                scopes: mine.map(|(scope, _)| format!("repo:o/{scope}")).collect(),
            });
        }
        policies
    })
}

fn files_of(state: Vec<Present>) -> Vec<Wanted> {
    let one = |one: Present| Wanted {
        name: one.name,
        yaml: one.yaml,
        scopes: one.scopes,
    };
    state.into_iter().map(one).collect()
}

proptest! {
    #[test]
    fn a_plan_reaches_what_the_files_say_and_a_second_one_is_empty(
        before in state(),
        files in state().prop_map(files_of),
        prune: bool,
    ) {
        let mut model = Model::of(&before);
        for step in plan(&files, &before, prune).steps {
            model.apply(&step, &files);
        }
        for file in &files {
            prop_assert_eq!(model.texts.get(&file.name), Some(&file.yaml));
            for scope in &file.scopes {
                prop_assert_eq!(model.holders.get(scope), Some(&file.name));
            }
        }
        let after = model.present();
        for one in &after {
            let file = files.iter().find(|file| file.name == one.name);
            match file {
                Some(file) => prop_assert_eq!(&one.scopes, &file.scopes),
                None => prop_assert!(!prune, "{} was to be deleted", one.name),
            }
        }
        let second = plan(&files, &after, prune);
        prop_assert_eq!(second.steps, vec![]);
        prop_assert_eq!(second.unchanged, files.len());
    }

    /// At every moment: who has a policy before and after has one; and but for policies that gain, nobody is governed by
    /// a text other than the one before or the one after.
    #[test]
    fn no_scope_is_bare_or_under_a_strange_text_in_between(
        before in state(),
        files in state().prop_map(files_of),
        prune: bool,
    ) {
        let start = Model::of(&before);
        let steps = plan(&files, &before, prune).steps;
        let mut end = start.clone();
        for step in &steps {
            end.apply(step, &files);
        }
        let mut now = start.clone();
        for step in &steps {
            now.apply(step, &files);
            for scope in (0..8).map(|scope| format!("repo:o/{scope}")) {
                let (first, last) = (start.text(&scope), end.text(&scope));
                if first.is_some() && last.is_some() {
                    prop_assert!(now.text(&scope).is_some(), "{} is bare after {:?}", scope, step);
                }
                let gains = |name: &String| {
                    let mine = |model: &Model| -> BTreeSet<String> {
                        let mine = model.holders.iter().filter(|(_, holder)| *holder == name);
                        mine.map(|(scope, _)| scope.clone()).collect()
                    };
                    !mine(&end).is_subset(&mine(&start))
                };
                let holder = now.holders.get(&scope);
                if holder.is_some_and(|holder| !gains(holder)) {
                    let text = now.text(&scope);
                    prop_assert!(text == first || text == last, "{} under {:?} after {:?}", scope, text, step);
                }
            }
        }
    }
}
