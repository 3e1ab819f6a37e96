//! When a baseline is Creating, Stable or Unstable: by runs, by days, and after a late endpoint.
use proptest::prelude::*;

use super::*;

fn day(days: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days)
}

/// A baseline after one change and so many quiet runs, all on one day.
fn after(quiet: u64) -> Standing {
    let mut standing = Standing::default();
    standing.run(day(0));
    standing.change(day(0));
    for _ in 0..quiet {
        standing.run(day(0));
    }
    standing
}

#[test]
fn a_hundred_runs_without_a_new_endpoint_make_it_stable() {
    assert_eq!(after(99).state(day(1)), State::Creating);
    assert_eq!(after(100).state(day(1)), State::Stable);
}

#[test]
fn fourteen_days_make_it_stable_with_ten_runs_and_not_with_nine() {
    assert_eq!(after(9).state(day(13)), State::Creating);
    assert_eq!(after(9).state(day(14)), State::Stable);
    assert_eq!(after(8).state(day(400)), State::Creating);
}

#[test]
fn a_new_endpoint_unsettles_a_stable_one_for_fifty_runs() {
    let mut standing = after(100);
    assert!(standing.change(day(1)), "late");
    assert_eq!(
        standing.state(day(400)),
        State::Unstable,
        "days don't settle it again"
    );
    for _ in 0..49 {
        standing.run(day(1));
    }
    assert_eq!(standing.state(day(1)), State::Unstable);
    standing.run(day(1));
    assert_eq!(standing.state(day(1)), State::Stable);
}

#[test]
fn stable_by_age_alone_is_remembered_by_the_change_that_ends_it() {
    let mut standing = after(9);
    assert!(standing.change(day(20)));
    assert_eq!(standing.state(day(20)), State::Unstable);
    assert_eq!(standing.stable_at, Some(day(20)));
}

#[test]
fn before_it_was_stable_nothing_is_late() {
    let mut standing = after(50);
    assert!(!standing.change(day(1)));
    assert_eq!(standing.state(day(1)), State::Creating);
}

#[test]
fn one_that_is_full_is_never_stable() {
    let mut standing = after(200);
    standing.full = true;
    assert_eq!(standing.state(day(30)), State::Unstable);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Run,
    Change,
}

fn steps() -> impl Strategy<Value = Vec<(Step, i64)>> {
    let step = prop_oneof![30 => Just(Step::Run), 1 => Just(Step::Change)];
    prop::collection::vec((step, 0..3_i64), 0..600)
}

proptest! {
    /// What `Stable` promises, told by counting instead of by the machine.
    #[test]
    fn it_is_never_stable_with_fewer_runs_or_days_than_promised(steps in steps()) {
        let (mut standing, mut today) = (Standing::default(), 0);
        let (mut runs, mut quiet, mut changed, mut ever) = (0, 0, 0, false);
        for (step, passes) in steps {
            today += passes;
            match step {
                Step::Run => {
                    if runs == 0 && standing.changed_at.is_none() {
                        changed = today;
                    }
                    standing.run(day(today));
                    (runs, quiet) = (runs + 1, quiet + 1);
                }
                Step::Change => {
                    let late = standing.change(day(today));
                    prop_assert_eq!(late, ever || quiet >= 100 || (runs >= 10 && today - changed >= 14));
                    ever |= late;
                    (quiet, changed) = (0, today);
                }
            }
            let settled = quiet >= 100 || (runs >= 10 && today - changed >= 14);
            match standing.state(day(today)) {
                State::Stable if ever => prop_assert!(quiet >= 50 || !standing.unsettled),
                State::Stable => prop_assert!(settled),
                State::Creating => prop_assert!(!settled && !ever),
                State::Unstable => prop_assert!(ever && quiet < 50),
            }
            ever |= settled;
            prop_assert_eq!(standing.runs, runs);
        }
    }

    /// In whatever order runs are told, as many are counted.
    #[test]
    fn runs_are_counted_in_any_order(mut days in prop::collection::vec(0..100_i64, 1..150)) {
        let count = |days: &[i64]| {
            let mut standing = Standing::default();
            for at in days {
                standing.run(day(*at));
            }
            standing.runs
        };
        let forth = count(&days);
        days.reverse();
        prop_assert_eq!(forth, count(&days));
    }
}
