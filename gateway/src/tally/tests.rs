//! Whose verdicts are counted for whom, who may read them, and what happens at the bounds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tidegate_control_wire::id::new_id;
use tidegate_policy::DnsName;
use tidegate_policy::effective::Generation;
use tidegate_policy::event::{EventIds, Kind};
use tidegate_policy::job::JobIdentity;
use tidegate_policy::lease::{Lease, SourceView};
use tidegate_policy::rulebook::World;
use tidegate_policy::subject::{Network, RunnerKind, Standing, Subject};
use tidegate_policy::verdict::{Reason, Verdict};

use super::*;

const fn at(second: u64) -> Moment {
    Moment::from_millis(second * 1_000)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn record(id: &str, assurance: Assurance) -> Arc<JobRecord> {
    Arc::new(JobRecord {
        id: id.into(),
        identity: JobIdentity {
            owner: "acme".into(),
            repo: "acme/web".into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: "7".into(),
            run_attempt: 1,
            runner_name: "".into(),
            cluster: "".into(),
            event: "".into(),
            git_ref: "".into(),
            actor: "".into(),
            head_repo: "".into(),
            assurance,
        },
    })
}

fn declared() -> Arc<JobRecord> {
    record(&new_id("job"), Assurance::Declared)
}

fn event(job: &Arc<JobRecord>, source: &str, name: &str) -> NetworkEvent {
    let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, ip(source));
    Arc::make_mut(&mut event.subject).job = Some(Arc::clone(job));
    event.name = Some(DnsName::parse(name).unwrap());
    event.verdict = Verdict::Refuse;
    event.reason = Some(Reason::NotAllowed);
    event
}

/// A lease of a job, with its sources and their machines.
fn lease(job: &Arc<JobRecord>, sources: &[(&str, u8)]) -> LeaseView {
    let network = Arc::new(Network {
        name: "runners".into(),
        cluster: "".into(),
        ranges: Vec::new(),
        runners: RunnerKind::Ephemeral,
        min_assurance: None,
        adjacent: true,
    });
    let subject = Subject::new(network, Some(Arc::clone(job)), Standing::Leased, book());
    let fixed = job.identity.assurance == Assurance::Static;
    LeaseView {
        lease: Arc::new(Lease {
            id: job.id.clone(),
            job: Arc::clone(job),
            network: "runners".into(),
            since: at(0),
            began: Generation::NEWEST,
            expires: (!fixed).then(|| at(1_000_000)),
            pinned: None,
            subject: Arc::new(subject),
        }),
        sources: sources
            .iter()
            .map(|(address, octet)| SourceView {
                address: ip(address),
                joined: false,
                mac: Some(mac(*octet)),
            })
            .collect(),
    }
}

const fn mac(octet: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, octet])
}

fn book() -> Arc<Rulebook> {
    Arc::new(Rulebook::deny_all(Arc::new(World::default()), Reason::NoPolicy))
}

fn tallies() -> Tallies {
    Tallies::new("gw-1", None, Timestamp::UNIX_EPOCH)
}

fn names(summary: &JobSummary) -> Vec<&str> {
    summary.refused.iter().map(|one| one.endpoint.as_str()).collect()
}

fn of(tallies: &Tallies, job: &JobRecord, source: &str) -> JobSummary {
    tallies.of(job, ip(source), &book())
}

#[test]
fn each_job_has_its_own_and_a_source_without_a_job_has_none() {
    let (tallies, one, other) = (tallies(), declared(), declared());
    let mut nobodys = event(&one, "10.77.1.9", "nobodys.test");
    Arc::make_mut(&mut nobodys.subject).job = None;
    tallies.see(
        &mut [
            event(&one, "10.77.1.2", "a.test"),
            event(&other, "10.77.1.3", "b.test"),
            event(&one, "fd77:1::2", "c.test"),
            nobodys,
        ]
        .iter(),
    );
    let first = of(&tallies, &one, "10.77.1.2");
    assert_eq!(names(&first), ["a.test", "c.test"]);
    assert_eq!(first.job.unwrap().id, one.id);
    assert_eq!(first.since, None, "counted from its beginning");
    assert_eq!(names(&of(&tallies, &other, "10.77.1.3")), ["b.test"]);
    assert!(tallies.left_at(ip("10.77.1.9"), None, at(0)).is_none());
    assert_eq!(of(&tallies, &declared(), "10.77.1.4").counts.refuse, 0);
}

#[test]
fn after_its_end_a_job_is_told_of_for_ten_minutes_and_to_its_machine_only() {
    let (tallies, job) = (tallies(), declared());
    let me = ip("10.77.1.2");
    tallies.follow(&[lease(&job, &[("10.77.1.2", 2)])], at(0), Timestamp::UNIX_EPOCH);
    tallies.see(&mut [event(&job, "10.77.1.2", "a.test")].iter());
    let left = |machine, now| tallies.left_at(me, machine, at(now));
    assert_eq!(
        names(&left(Some(mac(2)), 1).unwrap()),
        ["a.test"],
        "before the table was looked at"
    );
    tallies.follow(&[], at(1), Timestamp::UNIX_EPOCH);
    tallies.see(&mut [event(&job, "10.77.1.2", "late.test")].iter());
    assert_eq!(names(&left(Some(mac(2)), 600).unwrap()).len(), 2);
    assert!(left(Some(mac(3)), 2).is_none(), "another machine");
    assert!(left(None, 2).is_none(), "nobody knows which machine");
    assert!(left(Some(mac(2)), 601).is_none());
    tallies.follow(&[], at(601), Timestamp::UNIX_EPOCH);
    let state = tallies.state.lock();
    assert_eq!((state.jobs.len(), state.at.len(), state.bytes), (0, 0, 0));
}

#[test]
fn a_source_that_changed_hands_tells_of_its_last_job_though_the_one_before_has_late_events() {
    let (tallies, one, next) = (tallies(), declared(), declared());
    let source = [("10.77.1.2", 2)];
    tallies.follow(&[lease(&one, &source)], at(0), Timestamp::UNIX_EPOCH);
    tallies.follow(&[lease(&next, &source)], at(1), Timestamp::UNIX_EPOCH);
    tallies.follow(&[], at(2), Timestamp::UNIX_EPOCH);
    tallies.see(&mut [event(&one, "10.77.1.2", "late.test")].iter());
    let left = tallies.left_at(ip("10.77.1.2"), Some(mac(2)), at(3)).unwrap();
    assert_eq!(left.job.unwrap().id, next.id);
}

#[test]
fn a_machine_that_registered_is_known_before_the_kernels_view_comes_round() {
    let (tallies, job) = (tallies(), declared());
    let me = ip("10.77.1.2");
    tallies.machine(&job, me, Some(mac(2)), Timestamp::UNIX_EPOCH);
    tallies.see(&mut [event(&job, "10.77.1.2", "a.test")].iter());
    assert!(tallies.left_at(me, Some(mac(2)), at(0)).is_some());
    assert!(tallies.left_at(me, Some(mac(3)), at(0)).is_none());
}

#[test]
fn a_job_that_is_older_than_the_process_and_a_machine_of_the_configuration_say_since_when_they_are_counted() {
    let old = declared();
    let born = Timestamp::now() + jiff::SignedDuration::from_mins(1);
    let tallies = Tallies::new("gw-1", Some("https://control.test/jobs/{job}".into()), born);
    let summary = of(&tallies, &old, "10.77.1.2");
    assert_eq!(summary.since, Some(born));
    assert_eq!(
        summary.link,
        Some(format!("https://control.test/jobs/{}", old.id))
    );
    let fixed = record("static-1", Assurance::Static);
    assert_eq!(of(&tallies, &fixed, "10.77.1.2").since, Some(born));
}

#[test]
fn machines_of_one_configured_range_do_not_read_each_others() {
    let (tallies, range, fixed) = (
        tallies(),
        record("static-range", Assurance::Static),
        record("static-one", Assurance::Static),
    );
    tallies.follow(
        &[lease(&fixed, &[("10.77.1.2", 2), ("fd77:1::2", 2)])],
        at(0),
        Timestamp::UNIX_EPOCH,
    );
    tallies.see(
        &mut [
            event(&range, "10.77.3.1", "a.test"),
            event(&range, "10.77.3.2", "b.test"),
            event(&fixed, "10.77.1.2", "c.test"),
            event(&fixed, "fd77:1::2", "d.test"),
        ]
        .iter(),
    );
    assert_eq!(names(&of(&tallies, &range, "10.77.3.1")), ["a.test"]);
    assert_eq!(names(&of(&tallies, &range, "10.77.3.2")), ["b.test"]);
    assert_eq!(names(&of(&tallies, &fixed, "fd77:1::2")), ["c.test", "d.test"]);
}

#[test]
fn a_job_that_is_known_better_later_is_told_by_what_is_known_and_keeps_its_verdicts() {
    let (tallies, vague) = (tallies(), declared());
    tallies.see(&mut [event(&vague, "10.77.1.2", "a.test")].iter());
    let mut known = JobRecord::clone(&vague);
    known.identity.actor = "octocat".into();
    let known = Arc::new(known);
    tallies.see(&mut [event(&known, "10.77.1.2", "b.test")].iter());
    tallies.follow(&[], at(1), Timestamp::UNIX_EPOCH);
    let left = tallies.left_at(ip("10.77.1.2"), None, at(1)).unwrap();
    assert_eq!(names(&left), ["a.test", "b.test"]);
    assert_eq!(left.job.unwrap().actor, "octocat");
}

#[test]
fn what_was_lost_before_it_was_seen_is_said_to_the_jobs_of_that_time() {
    let (tallies, one, next) = (tallies(), declared(), declared());
    tallies.lost(3);
    tallies.see(&mut [event(&one, "10.77.1.2", "a.test")].iter());
    tallies.lost(4);
    tallies.see(&mut [event(&next, "10.77.1.3", "a.test")].iter());
    assert_eq!(of(&tallies, &one, "10.77.1.2").dropped, 4);
    assert_eq!(of(&tallies, &next, "10.77.1.3").dropped, 0);
}

#[test]
fn at_the_bound_of_jobs_the_ended_go_and_without_any_the_newest_is_not_tallied() {
    let (tallies, jobs) = (tallies(), [declared(), declared(), declared()]);
    tallies.state.lock().max_jobs = 2;
    let see = |job: &Arc<JobRecord>, source: &str| tallies.see(&mut [event(job, source, "a.test")].iter());
    see(&jobs[0], "10.77.1.1");
    see(&jobs[1], "10.77.1.2");
    see(&jobs[2], "10.77.1.3");
    let third = of(&tallies, &jobs[2], "10.77.1.3");
    assert_eq!((third.counts.refuse, third.dropped), (0, 1), "and says so");
    tallies.follow(
        &[lease(&jobs[1], &[("10.77.1.2", 2)])],
        at(1),
        Timestamp::UNIX_EPOCH,
    );
    see(&jobs[2], "10.77.1.3");
    assert_eq!(of(&tallies, &jobs[2], "10.77.1.3").counts.refuse, 1);
    assert_eq!(
        of(&tallies, &jobs[1], "10.77.1.2").counts.refuse,
        1,
        "a living job keeps its own"
    );
    assert_eq!(of(&tallies, &jobs[0], "10.77.1.1").counts.refuse, 0);
}

#[test]
fn at_the_bound_of_memory_verdicts_are_counted_and_destinations_not_listed() {
    let (tallies, job) = (tallies(), declared());
    tallies.see(&mut [event(&job, "10.77.1.2", "a.test")].iter());
    tallies.state.lock().max_bytes = 1;
    tallies.see(
        &mut [
            event(&job, "10.77.1.2", "a.test"),
            event(&job, "10.77.1.2", "b.test"),
        ]
        .iter(),
    );
    let summary = of(&tallies, &job, "10.77.1.2");
    assert_eq!((summary.counts.refuse, summary.unlisted.refused), (3, 1));
    assert_eq!(names(&summary), ["a.test"]);
}

#[test]
fn a_job_whose_machine_takes_ever_new_addresses_is_remembered_at_those_that_it_has() {
    let (tallies, job) = (tallies(), declared());
    for n in 0..2_000 {
        let address = format!("fd77:1::{n:x}");
        let held = lease(&job, &[(&address, 2)]);
        tallies.follow(&[held], at(n), Timestamp::UNIX_EPOCH);
    }
    tallies.follow(&[], at(2_000), Timestamp::UNIX_EPOCH);
    assert_eq!(tallies.state.lock().at.len(), 1);
    let left = |source| tallies.left_at(ip(source), Some(mac(2)), at(2_000));
    assert!(left("fd77:1::7cf").is_some() && left("fd77:1::7ce").is_none());
}

/// The lease table takes four times as many: each of those that find no room must not look through all of the others.
#[test]
fn jobs_beyond_the_bound_cost_a_look_at_the_others_once_and_not_each() {
    let (tallies, jobs) = (tallies(), [declared(), declared()]);
    tallies.state.lock().max_jobs = 1;
    let both = [
        lease(&jobs[0], &[("10.77.1.1", 1)]),
        lease(&jobs[1], &[("10.77.1.2", 2)]),
    ];
    tallies.follow(&both, at(0), Timestamp::UNIX_EPOCH);
    tallies.see(&mut [event(&jobs[1], "10.77.1.2", "a.test")].iter());
    assert!(tallies.state.lock().crowded);
    tallies.follow(&both[1..], at(1), Timestamp::UNIX_EPOCH);
    assert!(!tallies.state.lock().crowded, "one of them has ended");
    tallies.see(&mut [event(&jobs[1], "10.77.1.2", "a.test")].iter());
    assert_eq!(of(&tallies, &jobs[1], "10.77.1.2").counts.refuse, 1);
}

#[test]
fn at_the_bound_of_memory_no_process_is_named_either() {
    use tidegate_control_wire::event::Process;

    let (tallies, job) = (tallies(), declared());
    tallies.see(&mut [event(&job, "10.77.1.2", "a.test")].iter());
    let report = |name: &str| ProcessReport {
        time: Timestamp::UNIX_EPOCH,
        job_id: job.id.clone(),
        name: "a.test".into(),
        address: None,
        port: 0,
        process: Process {
            name: name.into(),
            ..Process::default()
        },
    };
    tallies.report(&report("curl"));
    tallies.state.lock().max_bytes = 1;
    tallies.report(&report("wget"));
    let summary = of(&tallies, &job, "10.77.1.2");
    assert_eq!(summary.refused[0].processes, ["curl"]);
}
