//! Rows: what a simulation says of single calls and of all of them together.

use jiff::Timestamp;
use tidegate_policy::verdict::Reason;

use super::*;
use crate::simulate::{Read, SimulatedPolicy, Simulation, Stand, Trials, Tried};

const BLOCK: &str =
    "egress-policy: block\nplatform: none\nallowed-endpoints: [\"a.test:443\", \"192.0.2.0/24:22\"]\n";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A TLS flow to a name at its own address, let through in audit.
fn tls(to: &str) -> EventRecord {
    let mut event = event(Mode::Audit, &Judgement::Permit(None));
    event.name = Some(to.into());
    event.name_source = NameSource::Sni;
    event.address = Some("192.0.2.1".parse().unwrap());
    event.port = 443;
    event
}

fn refused(mut event: EventRecord, reason: Reason) -> EventRecord {
    event.verdict = Verdict::Refuse;
    event.mode = Mode::Block;
    event.reason = Some(reason.as_str().into());
    event
}

fn foreseen(event: &EventRecord) -> Foreseen {
    foresee(&candidate(BLOCK), &Call::of(event).unwrap(), &[])
}

fn simulate(yaml: &str, events: Vec<EventRecord>) -> Simulation {
    let mut trials = alone(yaml);
    let events: Vec<_> = events.into_iter().map(|event| (event.time, event)).collect();
    trials.events(&events, Timestamp::UNIX_EPOCH);
    report(trials)
}

/// One candidate, for the repository.
fn alone(yaml: &str) -> Trials {
    Trials::new(
        vec![candidate(yaml)],
        vec![stand(0, web(), None)],
        &HashMap::new(),
    )
}

fn stand(candidate: usize, scope: Scope, cluster: Option<&str>) -> Stand {
    Stand {
        scope,
        cluster: cluster.map(Into::into),
        candidate,
    }
}

fn report(trials: Trials) -> Simulation {
    let [simulation] = reports(trials, 1).try_into().unwrap();
    simulation
}

fn reports(trials: Trials, candidates: usize) -> Vec<Simulation> {
    let tried = Tried {
        policy: SimulatedPolicy {
            name: "web".into(),
            version: None,
            mode: Mode::Block,
            network_default: false,
        },
        scopes: vec!["repo:acme/web".into()],
        clusters: Vec::new(),
    };
    let read = Read {
        since: at("2026-11-14T00:00:00Z"),
        until: at("2026-11-21T00:00:00Z"),
        events_since: at("2026-11-14T00:00:00Z"),
        more_sums: false,
        dropped: 0,
    };
    trials.report(vec![tried; candidates], read)
}

#[test]
fn what_a_gateway_refuses_on_its_own_account_is_not_foreseen_as_let_through() {
    for reason in [
        Reason::Limit,
        Reason::ResolveFailed,
        Reason::SecondHello,
        Reason::ProxyRequest,
    ] {
        assert_eq!(
            foreseen(&refused(tls("a.test"), reason)).verdict(),
            None,
            "{reason:?}"
        );
    }
    // What the policy refuses first it refuses.
    let other = foreseen(&refused(tls("b.test"), Reason::Limit));
    assert_eq!(other.refusal().unwrap().reason, Reason::NotAllowed);
    let never = foreseen(&refused(tls("a.test"), Reason::NeverDial));
    assert_eq!(never.refusal().unwrap().reason, Reason::NeverDial);
}

/// A runner's hooks ask for `tidegate.internal`, Harden-Runner's clients for a configured host: no policy is asked.
#[test]
fn what_a_gateway_answers_by_itself_it_answers_under_any_policy() {
    let asked = |name: &str, qtype: &str, rule: Option<&str>| {
        let mut event = tls(name);
        event.kind = Kind::Dns;
        event.name_source = NameSource::Query;
        event.qtype = Some(qtype.into());
        event.port = 53;
        event.rule = rule.map(Into::into);
        event
    };
    for (event, verdict) in [
        (asked("agent.test", "A", None), Verdict::Permit),
        (asked("tidegate.internal", "AAAA", None), Verdict::Permit),
        (asked("b.test", "A", Some("b.test:443")), Verdict::Refuse),
        // By no rule either: the keys above a name that was allowed.
        (asked("b.test", "DS", None), Verdict::Refuse),
        (asked("test", "DS", None), Verdict::Permit),
        (tls("b.test"), Verdict::Refuse),
    ] {
        assert_eq!(foreseen(&event).verdict(), Some(verdict), "{event:?}");
    }
    // Where it has no runner API, the policy is asked.
    let mut unknown = asked("tidegate.internal", "A", None);
    unknown.verdict = Verdict::WouldRefuse;
    unknown.reason = Some(Reason::NotAllowed.as_str().into());
    assert_eq!(foreseen(&unknown).verdict(), Some(Verdict::Refuse));
    let whose = ["acme", "acme/web", "ci.yml", ""];
    for (name, verdict) in [
        ("tidegate.internal", Verdict::Permit),
        ("b.test", Verdict::Refuse),
    ] {
        let sum = Call::of_sum(whose, (name, 53), ["dns", "permit", ""]).unwrap();
        assert_eq!(
            foresee(&candidate(BLOCK), &sum, &[]).verdict(),
            Some(verdict),
            "{name}"
        );
    }
}

#[test]
fn bytes_that_hid_a_name_hide_it_again() {
    let mut hidden = refused(tls("a.test"), Reason::Ech);
    assert_eq!(foreseen(&hidden).refusal().unwrap().reason, Reason::Ech);
    hidden.reason = Some(Reason::MalformedTls.as_str().into());
    assert_eq!(foreseen(&hidden).refusal().unwrap().reason, Reason::MalformedTls);
    // At an address that is allowed whatever a flow carries.
    hidden.port = 22;
    assert_eq!(foreseen(&hidden).verdict(), Some(Verdict::Permit));
}

#[test]
fn an_address_that_was_never_given_for_a_name_stays_refused() {
    let refused = refused(tls("a.test"), Reason::Unticketed);
    assert_eq!(foreseen(&refused).refusal().unwrap().reason, Reason::Unticketed);
}

#[test]
fn quic_in_audit_says_nothing_of_quic_in_block() {
    let mut quic = tls("a.test");
    quic.kind = Kind::Quic;
    assert_eq!(foreseen(&quic).verdict(), None);
    quic.mode = Mode::Block;
    assert_eq!(
        foreseen(&quic).verdict(),
        Some(Verdict::Permit),
        "a gateway that inspects it"
    );
    quic.name = Some("b.test".into());
    assert_eq!(foreseen(&quic).verdict(), Some(Verdict::Refuse));
}

#[test]
fn a_networks_own_list_goes_on_letting_through() {
    let mut host = tls("b.test");
    host.rule_source = Some("host".into());
    assert_eq!(foreseen(&host).verdict(), Some(Verdict::Permit));
    let mut denied = host.clone();
    denied.name = Some("blocked.test".into());
    assert_eq!(
        foreseen(&denied).verdict(),
        Some(Verdict::Refuse),
        "the global block list comes first"
    );
}

#[test]
fn reasons_of_a_newer_gateway_and_names_that_are_none_are_undecided() {
    let mut newer = refused(tls("a.test"), Reason::NotAllowed);
    newer.reason = Some("something-new".into());
    assert_eq!(foreseen(&newer).verdict(), None);
    let mut odd = tls("a.test");
    odd.name = Some("\\u{1b}[31m".into());
    assert_eq!(foreseen(&odd).verdict(), None);
}

#[test]
fn jobs_that_the_candidate_would_not_govern_do_not_count() {
    let mut elsewhere = tls("b.test");
    elsewhere.job.as_mut().unwrap().repo = "acme/api".into();
    let mut claimed = tls("b.test");
    claimed.job.as_mut().unwrap().assurance = Assurance::Claimed;
    let mut pinned = tls("b.test");
    pinned.scope = Some("lease:ci.yaml".into());
    let mut nobody = tls("b.test");
    nobody.job = None;
    let mut bytes = tls("b.test");
    bytes.count = 0;
    let simulation = simulate(BLOCK, vec![elsewhere, claimed, pinned, nobody, bytes]);
    assert_eq!((simulation.jobs, simulation.completeness.events), (0, 0));
    assert!(simulation.completeness.sentences[0].starts_with("Nothing is recorded"));
}

#[test]
fn calls_alike_are_one_line_with_the_jobs_that_made_them() {
    let of = |job: &str, run: &str, to: &str| {
        let mut event = tls(to);
        let who = event.job.as_mut().unwrap();
        (who.id, who.run_id) = (job.into(), run.into());
        event
    };
    let simulation = simulate(
        BLOCK,
        vec![
            of("j1", "1", "b.test"),
            of("j2", "2", "b.test"),
            of("j2", "2", "b.test"),
            of("j1", "1", "a.test"),
            refused(of("j1", "1", "a.test"), Reason::NotAllowed),
            refused(of("j1", "1", "c.example"), Reason::NotAllowed),
        ],
    );
    assert_eq!((simulation.jobs, simulation.runs), (2, 2));
    let [line] = simulation.newly_refused.as_slice() else {
        panic!("{:?}", simulation.newly_refused)
    };
    assert_eq!(
        (line.endpoint.as_str(), line.port, line.verdicts, line.workflows),
        ("b.test", 443, 3, 1)
    );
    assert_eq!(
        (line.before, line.after),
        (Verdict::Permit, Some(Verdict::Refuse))
    );
    assert_eq!(line.reason.as_deref(), Some("not-allowed"));
    let jobs: Vec<&str> = line.jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(jobs, ["j1", "j2"]);
    assert_eq!(simulation.newly_permitted[0].rule.as_deref(), Some("a.test:443"));
    assert_eq!(simulation.newly_permitted[0].line, Some(3));
    let unchanged = (
        simulation.unchanged.permitted.verdicts,
        simulation.unchanged.refused.verdicts,
    );
    assert_eq!(unchanged, (1, 1));
    assert_eq!(simulation.completeness.refused_then, 2);
}

#[test]
fn queries_follow_the_flows_that_came_of_them() {
    let query = |of: &str| {
        let mut event = event(Mode::Audit, &Judgement::Permit(None));
        event.kind = Kind::Dns;
        event.name = Some(of.into());
        event.name_source = NameSource::Query;
        event.qtype = Some("A".into());
        event.rule = Some("*.test:443".into());
        event
    };
    let mut chased = query("edge.test");
    chased.qtype = Some("AAAA".into());
    let mut asked = query("a.test");
    asked.answers = vec!["edge.test".into(), "192.0.2.1".into()];
    let simulation = simulate(
        BLOCK,
        vec![tls("b.test"), query("b.test"), query("c.example"), chased, asked],
    );
    let lines: Vec<_> = simulation
        .newly_refused
        .iter()
        .map(|line| (line.kind, line.endpoint.as_str()))
        .collect();
    assert_eq!(lines, [(Kind::Tls, "b.test"), (Kind::Dns, "c.example")]);
    assert_eq!(simulation.dns.newly_refused, 1);
    assert_eq!(
        simulation.unchanged.permitted.calls, 2,
        "a name in an allowed name's chain is answered"
    );
}

#[test]
fn an_audit_candidate_refuses_nothing_and_says_what_it_would() {
    let audit = BLOCK.replace("block", "audit");
    let simulation = simulate(
        &audit,
        vec![
            tls("a.test"),
            tls("b.test"),
            refused(tls("c.example"), Reason::NotAllowed),
        ],
    );
    assert_eq!(simulation.newly_refused, []);
    assert_eq!(simulation.would_refuse[0].endpoint, "b.test");
    assert_eq!(simulation.newly_permitted[0].after, Some(Verdict::WouldRefuse));
}

#[test]
fn sums_count_where_events_are_gone_and_a_day_that_was_not_read_whole_counts_by_them() {
    let mut trials = alone(BLOCK);
    let (today, yesterday) = (at("2026-11-20T10:00:00Z"), at("2026-11-19T23:00:00Z"));
    trials.events(
        &[(today, tls("b.test")), (yesterday, tls("b.test"))],
        Timestamp::UNIX_EPOCH,
    );
    trials.end_at(at("2026-11-20T00:00:00Z"));
    let whose = ["acme", "acme/web", "ci.yml", "prod"];
    for (endpoint, reason) in [("b.test", ""), ("192.0.2.9", "no-name"), ("a.test", "ech")] {
        let verdict = if reason.is_empty() { "permit" } else { "refuse" };
        let call = Call::of_sum(whose, (endpoint, 443), ["tls", verdict, reason]).unwrap();
        trials.sum(call, 10, yesterday);
    }
    assert!(Call::of_sum(whose, ("x.test", 1), ["carrier-pigeon", "permit", ""]).is_none());
    let simulation = report(trials);
    assert_eq!(
        simulation
            .newly_refused
            .iter()
            .map(|line| line.verdicts)
            .sum::<u64>(),
        11
    );
    assert_eq!(simulation.unchanged.refused.verdicts, 10);
    assert_eq!(
        simulation.undecided[0].endpoint, "a.test",
        "whether bytes hid a name is not in a sum"
    );
    assert_eq!(
        (simulation.completeness.events, simulation.completeness.sums),
        (1, 3)
    );
}

#[test]
fn different_calls_are_bounded_and_the_rest_is_counted() {
    let mut trials = alone(BLOCK);
    let whose = ["acme", "acme/web", "ci.yml", "prod"];
    for n in 0..crate::simulate::MAX_CALLS + 7 {
        let call = Call::of_sum(whose, (&format!("n{n}.test"), 443), ["tls", "permit", ""]).unwrap();
        trials.sum(call, 1, at("2026-11-19T23:00:00Z"));
    }
    let simulation = report(trials);
    assert_eq!(simulation.completeness.left_out, 7);
    assert_eq!(simulation.newly_refused.len(), 200);
    assert_eq!(
        simulation.counts.newly_refused.calls,
        crate::simulate::MAX_CALLS as u64
    );
}

#[test]
fn a_day_that_was_read_whole_counts_by_its_events_though_reading_ended_later() {
    let mut trials = alone(BLOCK);
    trials.events(
        &[(at("2026-11-20T10:00:00Z"), tls("b.test"))],
        Timestamp::UNIX_EPOCH,
    );
    // Nothing of these jobs was in what was read of the day before.
    trials.end_at(at("2026-11-20T00:00:00Z"));
    assert_eq!(report(trials).completeness.events, 1);
}

#[test]
fn candidates_that_are_tried_together_each_have_the_jobs_that_precedence_gives_them() {
    let in_cluster = |cluster: &str| {
        let mut event = tls("b.test");
        event.job.as_mut().unwrap().cluster = cluster.into();
        event
    };
    let mut of_org = tls("b.test");
    of_org.job.as_mut().unwrap().repo = "acme/api".into();
    let events = [
        of_org,
        in_cluster("prod"),
        in_cluster("prod"),
        in_cluster("test"),
        in_cluster("third"),
    ];
    let events: Vec<_> = events.into_iter().map(|event| (event.time, event)).collect();
    let permits = BLOCK.replace("a.test:443", "b.test:443");
    let stands = vec![
        stand(0, web(), Some("prod")),
        stand(1, web(), Some("test")),
        stand(2, "org:acme".parse().unwrap(), None),
    ];
    let candidates = vec![candidate(BLOCK), candidate(&permits), candidate(BLOCK)];
    let mut trials = Trials::new(candidates, stands, &HashMap::new());
    trials.events(&events, Timestamp::UNIX_EPOCH);
    let told = reports(trials, 3);
    let refused: Vec<u64> = told.iter().map(|one| one.counts.newly_refused.verdicts).collect();
    assert_eq!(
        refused,
        [2, 0, 1],
        "the repository's place holds jobs of other clusters back from the organization's"
    );
    let events: Vec<u64> = told.iter().map(|one| one.completeness.events).collect();
    assert_eq!(events, [2, 1, 1]);
}

#[test]
fn many_candidates_share_what_is_kept() {
    let whose = ["acme", "acme/web", "ci.yml", "prod"];
    let candidates: Vec<Candidate> = (0..100).map(|_| candidate(BLOCK)).collect();
    let mut trials = Trials::new(candidates, vec![stand(99, web(), None)], &HashMap::new());
    for n in 0..2_005 {
        let call = Call::of_sum(whose, (&format!("n{n}.test"), 443), ["tls", "permit", ""]).unwrap();
        trials.sum(call, 1, at("2026-11-19T23:00:00Z"));
    }
    let told = reports(trials, 100).pop().unwrap();
    assert_eq!((told.completeness.left_out, told.newly_refused.len()), (5, 20));
    assert_eq!(told.counts.newly_refused.calls, 2_000);
}
