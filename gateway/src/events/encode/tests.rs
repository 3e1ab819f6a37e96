//! The writer of events against `serde_json`: whatever an event holds, the bytes are the same.

use std::net::IpAddr;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_policy::DnsName;
use tidegate_policy::compile::rules::{RuleRef, RuleSource, RuleTable};
use tidegate_policy::document::SourcedEndpoint;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::event::{EventIds, EventSubject, JobRecord, Kind, NameSource, NetworkEvent};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::rulebook::{Nearest, RuleList};
use tidegate_policy::verdict::{Mode, Reason, Verdict};

use super::Encoder;

/// Plain words, and whatever else a text can hold.
fn text() -> impl Strategy<Value = CompactString> {
    prop_oneof![
        "[a-z0-9*./:-]{0,40}",
        any::<String>(),
        r#"["\\/\u{0}-\u{20}\u{7f}é\u{2028}]{0,8}"#
    ]
    .prop_map(CompactString::from)
}

fn name() -> impl Strategy<Value = DnsName> {
    let label = prop_oneof![
        "[a-z0-9_-]{1,20}".prop_map(String::into_bytes),
        vec(any::<u8>(), 1..8)
    ];
    vec(label, 0..5).prop_map(|labels| {
        DnsName::from_labels(labels.iter().map(Vec::as_slice)).expect("labels of bounded length")
    })
}

/// A rule of any text, and a name that is near to it.
fn nearest() -> impl Strategy<Value = Nearest> {
    option::of(text()).prop_map(|text| {
        let Some(text) = text else { return Nearest::NONE };
        let (endpoint, _) = parse_endpoint("near.example", Role::Allowed).expect("an endpoint");
        let written = SourcedEndpoint {
            endpoint,
            text: text.into(),
            line: 1,
            column: 1,
        };
        let list = RuleList::compile([(&written, RuleSource::Policy)]);
        let name = DnsName::parse("naer.example").expect("a name");
        Nearest::among(&Arc::new(list), &name)
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    (0..6, text()).prop_map(|(kind, name)| match kind {
        0 => Scope::Workflow(name),
        1 => Scope::Repository(name),
        2 => Scope::Organization(name),
        3 => Scope::Cluster(name),
        4 => Scope::Network(name),
        _ => Scope::Lease(name),
    })
}

fn job() -> impl Strategy<Value = Arc<JobRecord>> {
    (
        vec(text(), 12),
        any::<u32>(),
        prop::sample::select(&Assurance::ALL[..]),
    )
        .prop_map(|(texts, run_attempt, assurance)| {
            let text = |n: usize| texts[n].clone();
            Arc::new(JobRecord {
                id: text(0),
                identity: JobIdentity {
                    owner: text(1),
                    repo: text(2),
                    workflow: text(3),
                    job: text(4),
                    run_id: text(5),
                    run_attempt,
                    runner_name: text(6),
                    cluster: text(7),
                    event: text(8),
                    git_ref: text(9),
                    actor: text(10),
                    head_repo: text(11),
                    assurance,
                },
            })
        })
}

fn rule() -> impl Strategy<Value = RuleRef> {
    let source = prop_oneof![
        Just(RuleSource::Policy),
        Just(RuleSource::Set("a \"set\"".into())),
        Just(RuleSource::Platform),
        Just(RuleSource::Host),
        Just(RuleSource::Global),
    ];
    (text(), source).prop_map(|(text, source)| {
        let mut rules = RuleTable::builder();
        let rule = rules.push(&text, 2, source);
        RuleRef::new(&Arc::new(rules.finish()), rule)
    })
}

/// Around now, and wherever a clock that is set wrong may be.
fn time() -> impl Strategy<Value = Timestamp> {
    let now = 1_790_000_000_000_i64;
    prop_oneof![
        now..now + 5_000,
        -5_000..5_000_i64,
        any::<i32>().prop_map(|at| i64::from(at) * 1_000)
    ]
    .prop_map(|at| Timestamp::from_millisecond(at).expect("within the years that there are"))
}

const KINDS: [Kind; 8] = [
    Kind::Dns,
    Kind::Tls,
    Kind::Http,
    Kind::Quic,
    Kind::Tcp,
    Kind::Udp,
    Kind::Icmp,
    Kind::Ip,
];
const NAME_SOURCES: [NameSource; 5] = [
    NameSource::Query,
    NameSource::Sni,
    NameSource::Host,
    NameSource::Ticket,
    NameSource::None,
];
const VERDICTS: [Verdict; 3] = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];

prop_compose! {
    /// Who, when and what.
    fn asked()(
        (seed, time) in (any::<u64>(), time()),
        network in text(),
        job in option::of(job()),
        (source, source_port) in (any::<IpAddr>(), any::<u16>()),
        kind in prop::sample::select(&KINDS[..]),
        (name, name_source) in (option::of(name()), prop::sample::select(&NAME_SOURCES[..])),
        (qtype, rcode) in (option::of(text()), option::of(Just("NXDOMAIN"))),
        answers in vec(text(), 0..4),
        (address, port, original) in (option::of(any::<IpAddr>()), any::<u16>(), option::of(any::<IpAddr>())),
    ) -> NetworkEvent {
        let mut event = NetworkEvent::new(EventIds::new(seed).mint(), kind, source);
        event.time = time;
        event.subject = Arc::new(EventSubject { network, job, ..EventSubject::default() });
        (event.source_port, event.name, event.name_source) = (source_port, name, name_source);
        (event.qtype, event.rcode, event.answers) = (qtype, rcode, answers.into_iter().collect());
        (event.address, event.port, event.original_address) = (address, port, original);
        event
    }
}

prop_compose! {
    /// All of an event.
    fn event()(
        mut event in asked(),
        (mode, verdict) in (prop_oneof![Just(Mode::Audit), Just(Mode::Block)], prop::sample::select(&VERDICTS[..])),
        reason in option::of(prop::sample::select(Reason::ALL)),
        (rule, nearest) in (option::of(rule()), nearest()),
        (policy, version, scope) in (option::of(text()), option::of(any::<u32>()), option::of(scope())),
        (ech, note, ja4) in (any::<bool>(), option::of(text()), option::of(text())),
        numbers in any::<[u64; 4]>(),
        zeroes in any::<[bool; 4]>(),
    ) -> NetworkEvent {
        let subject = Arc::make_mut(&mut event.subject);
        (subject.mode, subject.policy, subject.policy_version, subject.scope) = (mode, policy, version, scope);
        (event.verdict, event.reason, event.rule, event.nearest) = (verdict, reason, rule, nearest);
        (event.ech_present, event.note, event.ja4) = (ech, note, ja4);
        let number = |at: usize| if zeroes[at] { 0 } else { numbers[at] };
        (event.bytes_up, event.bytes_down) = (number(0), number(1));
        (event.duration_ms, event.count) = (number(2), number(3));
        event
    }
}

proptest! {
    #[test]
    fn the_bytes_are_those_of_the_events_serialize(events in vec(event(), 1..6), gateway in text()) {
        let mut encoder = Encoder::new(&gateway);
        // Twice: what is kept of the first time must not show in the second.
        for _ in 0..2 {
            let encoded = encoder.encode(&events);
            prop_assert_eq!(encoded.len(), events.len());
            for (event, (item, line)) in events.iter().zip(encoded.iter()) {
                let expected = serde_json::to_string(&event.told_by(&gateway)).expect("it serializes");
                prop_assert_eq!(String::from_utf8_lossy(line), expected);
                prop_assert_eq!((item.count, item.time), (event.count, event.time));
            }
        }
    }
}

#[test]
fn more_jobs_than_are_kept_are_never_mistaken_for_each_other() {
    let mut encoder = Encoder::new("gw-1");
    let identity = JobIdentity {
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "".into(),
        job: "".into(),
        run_id: "".into(),
        run_attempt: 1,
        runner_name: "".into(),
        cluster: "".into(),
        event: "".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        assurance: Assurance::Signed,
    };
    let subjects: Vec<Arc<EventSubject>> = (0..50_000)
        .map(|n| {
            let job = JobRecord {
                id: format!("job_{n}").into(),
                identity: identity.clone(),
            };
            Arc::new(EventSubject {
                job: Some(Arc::new(job)),
                ..EventSubject::default()
            })
        })
        .collect();
    for n in (0..subjects.len()).chain((0..subjects.len()).step_by(7)) {
        let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, [10, 77, 1, 2].into());
        event.subject = Arc::clone(&subjects[n]);
        let encoded = encoder.encode([&event]);
        let (_, line) = encoded.iter().next().expect("one line");
        assert_eq!(
            line,
            serde_json::to_vec(&event.told_by("gw-1")).expect("it serializes")
        );
    }
}

/// What is kept of a second is written again for the next event, which may lie on the other side of zero.
#[test]
fn a_time_before_1970_leaves_nothing_behind() {
    let mut encoder = Encoder::new("gw-1");
    for milliseconds in [-1, 0, 5, -999, -1_000, 1_790_000_000_999, 1_790_000_001_000] {
        let mut event = NetworkEvent::new(EventIds::new(1).mint(), Kind::Dns, [10, 77, 1, 2].into());
        event.time = Timestamp::from_millisecond(milliseconds).expect("a time");
        let encoded = encoder.encode([&event]);
        let (_, line) = encoded.iter().next().expect("one line");
        assert_eq!(
            line,
            serde_json::to_vec(&event.told_by("gw-1")).expect("it serializes")
        );
    }
}
