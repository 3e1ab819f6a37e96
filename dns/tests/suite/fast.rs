//! The fast path: it ran, it says what the slow one says, and whatever changes sends a query the slow way at once.

mod count;
mod differential;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tidegate_dns::fast::{Served, Worker};
use tidegate_dns::front::handler::Begun;
use tidegate_dns::{Client, HandlerConfig, Transport};
use tidegate_policy::event::NetworkEvent;
use tidegate_policy::subject::{Standing, Subject};
use tidegate_policy::verdict::Reason;

use self::count::Counters;
use crate::support::{Bench, Setup, audit, block, client, data, extended_error, name, query, rulebook};

const HOLD: Duration = Duration::from_hours(1);

/// Which path answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Fast,
    Slow,
}

/// One query as a batch of its own; the slow path's waits included.
async fn serve(worker: &mut Worker, bytes: &[u8], client: &Client) -> (Path, Option<Vec<u8>>) {
    let mut out = [0; 1232];
    worker.begin();
    let served = worker.serve(bytes, client, &mut out);
    let answered = match served {
        Served::Fast(length) => (Path::Fast, Some(out[..length].to_vec())),
        Served::Slow(Begun::Done(reply)) => (Path::Slow, reply),
        Served::Slow(Begun::Later(pending)) => (Path::Slow, pending.finish().await),
    };
    worker.end();
    answered
}

async fn ask(worker: &mut Worker, asked: &str, kind: RecordType) -> (Path, Message) {
    let bytes = query(asked, kind).to_vec().unwrap();
    let (path, reply) = serve(worker, &bytes, &client(Transport::Udp)).await;
    (path, Message::from_vec(&reply.unwrap()).unwrap())
}

/// Asks until the fast path answers: a miss, a hit that teaches, and the repeat.
async fn teach(worker: &mut Worker, asked: &str, kind: RecordType) {
    for _ in 0..3 {
        if ask(worker, asked, kind).await.0 == Path::Fast {
            return;
        }
    }
    panic!("{asked} is never repeated");
}

async fn bench(policy: String) -> (Bench, Worker) {
    let mut setup = Setup::new(policy);
    // However loaded the machine is, no test here is about stale answers.
    setup.resolver.timing.stale_after = Duration::from_secs(5);
    let bench = setup.start().await;
    let worker = Worker::new(Arc::clone(&bench.handler));
    (bench, worker)
}

/// How often events say that something happened.
fn verdicts(events: &[NetworkEvent]) -> u64 {
    events.iter().map(|event| event.count).sum()
}

#[tokio::test]
async fn repeats_are_answered_by_the_fast_path_permits_and_refusals_and_counted_by_path() {
    let counters = Counters::default();
    let (bench, mut worker) = counters.during(bench(block("a.test:443"))).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let mut paths = Vec::new();
    for _ in 0..4 {
        let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
        assert_eq!(data(&answer), ["192.0.2.1"]);
        paths.push(path);
        let (path, answer) = ask(&mut worker, "evil.test.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert!(extended_error(&answer).unwrap().1.contains("not-allowed"));
        paths.push(path);
    }
    // A miss and a hit for the permit, once for the refusal.
    use Path::{Fast, Slow};
    assert_eq!(paths, [Slow, Slow, Slow, Fast, Fast, Fast, Fast, Fast]);
    let fast = |outcome: &str| counters.get("tidegate_dns_fast_total", &[("outcome", outcome)]);
    assert_eq!((fast("permit"), fast("refuse"), fast("passed")), (2, 3, 3));
    let judged = |verdict: &str| {
        counters.get(
            "tidegate_dns_queries_total",
            &[("verdict", verdict), ("transport", "udp")],
        )
    };
    assert_eq!((judged("permit"), judged("refuse")), (4, 4));
    let answered = |cache: &str| counters.get("tidegate_dns_query_duration_seconds", &[("cache", cache)]);
    assert_eq!((answered("miss"), answered("hit"), answered("local")), (1, 3, 4));
    assert_eq!(bench.upstream.log().len(), 1);
}

#[tokio::test]
async fn repeats_of_a_second_are_one_event_with_an_exact_count_whose_id_refusals_name() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    teach(&mut worker, "evil.test.", RecordType::A).await;
    let first = bench.event();
    assert_eq!((first.count, first.reason), (1, Some(Reason::NotAllowed)));
    let mut named = Vec::new();
    for _ in 0..99 {
        let (path, answer) = ask(&mut worker, "evil.test.", RecordType::A).await;
        assert_eq!(path, Path::Fast);
        named.push(extended_error(&answer).unwrap().1);
    }
    named.dedup();
    assert_eq!(named.len(), 1, "one id a second");
    assert!(bench.events().is_empty(), "the second is not over");
    bench.pass(Duration::from_secs(1));
    worker.tick();
    let second = bench.event();
    assert_eq!(second.count, 100, "the repeat that taught included");
    assert!(named[0].contains(&format!("event {}", second.id)), "{named:?}");
    assert_eq!(
        (
            second.reason,
            second.name,
            second.qtype,
            second.rcode,
            second.subject.policy.as_deref()
        ),
        (
            first.reason,
            first.name,
            first.qtype,
            first.rcode,
            first.subject.policy.as_deref()
        )
    );
    assert!(!worker.has_open());
    assert_eq!(ask(&mut worker, "evil.test.", RecordType::A).await.0, Path::Fast);
    drop(worker);
    let last = bench.event();
    assert_eq!(last.count, 1, "what is counted is told when the worker ends");
    assert_ne!(last.id, second.id);
}

#[tokio::test]
async fn another_second_of_refusals_is_another_event_though_nobody_ticks() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    for _ in 0..50 {
        ask(&mut worker, "evil.test.", RecordType::A).await;
        bench.pass(Duration::from_millis(100));
    }
    drop(worker);
    let events = bench.events();
    assert_eq!(verdicts(&events), 50);
    let counts: Vec<u64> = events.iter().map(|event| event.count).collect();
    assert_eq!(counts, [1, 10, 10, 10, 10, 9]);
}

#[tokio::test]
async fn ten_seconds_of_permits_and_would_be_refusals_are_one_event_with_an_exact_count() {
    let (bench, mut worker) = bench(audit("a.test:443")).await;
    for asked in ["a.test", "b.test"] {
        bench.upstream.set(asked, &["3600 A 192.0.2.1"]);
        for _ in 0..400 {
            ask(&mut worker, &format!("{asked}."), RecordType::A).await;
            bench.pass(Duration::from_millis(100));
        }
        bench.pass(Duration::from_secs(10));
        worker.tick();
        let events = bench.events();
        assert_eq!(verdicts(&events), 400);
        let counts: Vec<u64> = events.iter().map(|event| event.count).collect();
        // A miss and a hit, each told at once; the first window ends when it is this pair's turn, the others are whole.
        assert!(counts.starts_with(&[1, 1]), "{counts:?}");
        let [first, whole @ .., last] = &counts[2..] else {
            panic!("{counts:?}")
        };
        assert!(
            (1..=100).contains(first) && (1..=100).contains(last),
            "{counts:?}"
        );
        assert!(
            whole.len() >= 2 && whole.iter().all(|count| *count == 100),
            "{counts:?}"
        );
        assert!(!worker.has_open());
    }
}

/// Windows are closed while the future is awaited, as by the socket's task; true when it has ended.
async fn close(worker: &mut Worker, bench: &Bench, sources: &[&str]) -> bool {
    let sources: Vec<IpAddr> = sources.iter().map(|source| source.parse().unwrap()).collect();
    let told = bench.handler.tell_repeats(&sources);
    worker.tick();
    tokio::time::timeout(Duration::ZERO, told).await.is_ok()
}

#[tokio::test]
async fn whoever_wants_a_count_now_gets_that_of_its_source_and_no_other_windows_close() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    let other = Client {
        source: "127.0.0.9:4000".parse().unwrap(),
        ..client(Transport::Udp)
    };
    let bytes = query("a.test.", RecordType::A).to_vec().unwrap();
    for _ in 0..10 {
        ask(&mut worker, "a.test.", RecordType::A).await;
        ask(&mut worker, "evil.test.", RecordType::A).await;
        serve(&mut worker, &bytes, &other).await;
    }
    let counted = |events: &[NetworkEvent], source: &str| {
        let of = events
            .iter()
            .filter(|event| event.source == source.parse::<IpAddr>().unwrap());
        of.map(|event| event.count).sum::<u64>()
    };
    let mut events = bench.events();
    assert!(counted(&events, "127.0.0.1") < 20, "repeats are told later");
    assert!(close(&mut worker, &bench, &["127.0.0.1", "10.9.9.9"]).await);
    events.extend(bench.events());
    assert_eq!(counted(&events, "127.0.0.1"), 20);
    assert!(counted(&events, "127.0.0.9") < 10 && worker.has_open());
    // What comes after is counted anew, under another id.
    for _ in 0..3 {
        assert_eq!(ask(&mut worker, "evil.test.", RecordType::A).await.0, Path::Fast);
    }
    assert!(close(&mut worker, &bench, &["127.0.0.1", "127.0.0.9"]).await);
    let last = bench.events();
    assert!(!worker.has_open());
    assert!(
        last.iter()
            .all(|event| events.iter().all(|earlier| earlier.id != event.id))
    );
    events.extend(last);
    assert_eq!(
        (counted(&events, "127.0.0.1"), counted(&events, "127.0.0.9")),
        (23, 10)
    );
    // Nothing is open: nothing is told, and nobody waits.
    assert!(close(&mut worker, &bench, &["127.0.0.1"]).await && bench.events().is_empty());
    let waits = bench.handler.tell_repeats(&["127.0.0.1".parse().unwrap()]);
    drop(worker);
    waits.await;
}

#[tokio::test]
async fn what_a_job_had_repeated_is_told_as_its_own_when_its_source_is_anothers() {
    let (bench, mut worker) = bench(block("a.test:443 b.test:443")).await;
    for asked in ["a.test", "b.test"] {
        bench.upstream.set(asked, &["A 192.0.2.1"]);
        teach(&mut worker, &format!("{asked}."), RecordType::A).await;
        ask(&mut worker, &format!("{asked}."), RecordType::A).await;
    }
    bench.events();
    let next = Subject::new(
        Arc::clone(&bench.subject.network),
        None,
        Standing::Unleased,
        rulebook(&block("b.test:443"), &bench.world),
    );
    bench.subjects.put("127.0.0.1", Arc::new(next));
    assert_eq!(ask(&mut worker, "b.test.", RecordType::A).await.0, Path::Slow);
    let events = bench.events();
    // Of both names, though only one was asked for again; and the new job's own.
    let told: Vec<u64> = events.iter().map(|event| event.count).collect();
    assert_eq!((told.len(), verdicts(&events)), (3, 5), "{events:#?}");
    assert_eq!(worker.len(), 1, "what the old one asked is forgotten");
}

#[tokio::test]
async fn invariant_3_a_repeat_stores_its_ticket_before_it_is_written() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    bench.subject.tickets().clear();
    assert!(!bench.holds("a.test", "192.0.2.1"));
    assert_eq!(ask(&mut worker, "a.test.", RecordType::A).await.0, Path::Fast);
    assert!(bench.holds("a.test", "192.0.2.1"), "answered without a ticket");
}

#[tokio::test]
async fn of_two_names_at_one_address_the_one_repeated_last_is_the_newest() {
    let (bench, mut worker) = bench(block("a.test:443 b.test:443")).await;
    let names = [name("a.test"), name("b.test")];
    for asked in ["a.test", "b.test"] {
        bench.upstream.set(asked, &["A 192.0.2.1"]);
        teach(&mut worker, &format!("{asked}."), RecordType::A).await;
    }
    for turn in 0..6 {
        bench.pass(Duration::from_secs(1));
        let last = &names[turn % 2];
        let (path, _) = ask(&mut worker, &format!("{last}."), RecordType::A).await;
        assert_eq!(path, Path::Fast);
        let held = bench
            .subject
            .tickets()
            .names_at("192.0.2.1".parse().unwrap(), bench.now());
        assert_eq!(held.first(), Some(last), "turn {turn}");
    }
}

#[tokio::test]
async fn after_any_answer_a_flow_is_ticketed_for_the_ttl_and_for_the_hold() {
    for ttl in [60_u64, 7_200] {
        let (bench, mut worker) = bench(block("a.test:443")).await;
        bench.upstream.set("a.test", &[&format!("{ttl} A 192.0.2.1")]);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut fast = 0;
        for step in 0..600_u64 {
            let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
            fast += u32::from(path == Path::Fast);
            let left = Duration::from_secs(u64::from(answer.answers[0].ttl));
            let last = bench
                .now()
                .plus(left.max(HOLD).saturating_sub(Duration::from_millis(1)));
            assert!(
                bench.subject.tickets().holds(&name("a.test"), address, last),
                "step {step}"
            );
            bench.pass(Duration::from_millis(37 * (step % 61)));
        }
        assert!(fast > 500, "{fast} of 600");
    }
}

#[tokio::test]
async fn ttls_count_down_and_the_answer_is_asked_for_again_when_they_are_over() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["20 A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    for (after, left) in [(999, 20), (1, 19), (18_999, 1)] {
        bench.pass(Duration::from_millis(after));
        let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
        assert_eq!((path, answer.answers[0].ttl), (Path::Fast, left));
    }
    bench.upstream.set("a.test", &["20 A 192.0.2.2"]);
    bench.pass(Duration::from_millis(1));
    let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
    assert_eq!((path, data(&answer)), (Path::Slow, vec!["192.0.2.2".to_owned()]));
}

#[tokio::test]
async fn a_long_ttl_is_asked_for_again_within_a_minute() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["86400 A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    bench.pass(Duration::from_mins(1));
    assert_eq!(ask(&mut worker, "a.test.", RecordType::A).await.0, Path::Slow);
    assert_eq!(bench.upstream.log().len(), 1, "the resolver still has it");
    // Those that nobody asks for go by themselves.
    teach(&mut worker, "evil.test.", RecordType::A).await;
    bench.pass(Duration::from_mins(1));
    for _ in 0..64 {
        bench.pass(Duration::from_secs(1));
        worker.tick();
    }
    assert!(worker.is_empty() && worker.bytes() == 0, "{}", worker.bytes());
}

#[tokio::test]
async fn invariant_8_another_rulebook_counts_from_the_next_query_on() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    let before = bench.subject.rulebook();
    bench.subject.swap(rulebook(&block("b.test:443"), &bench.world));
    let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
    assert_eq!(
        (path, answer.metadata.response_code),
        (Path::Slow, ResponseCode::NXDomain)
    );
    teach(&mut worker, "a.test.", RecordType::A).await;
    bench.subject.swap(before);
    let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
    assert_eq!((path, data(&answer)), (Path::Slow, vec!["192.0.2.1".to_owned()]));
}

#[tokio::test]
async fn the_end_of_a_lease_counts_from_the_next_batch_on() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    let network = Arc::clone(&bench.subject.network);
    let denied = Subject::new(
        network,
        None,
        Standing::Quarantined,
        rulebook("DENY", &bench.world),
    );
    bench.subjects.put("127.0.0.1", Arc::new(denied));
    let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
    assert_eq!(
        (path, answer.metadata.response_code),
        (Path::Slow, ResponseCode::NXDomain)
    );
    // A new job under the same rulebook has no tickets yet: it is taught by itself, with an event at once.
    let next = Subject::new(
        Arc::clone(&bench.subject.network),
        None,
        Standing::Leased,
        bench.subject.rulebook(),
    );
    let next = Arc::new(next);
    bench.subjects.put("127.0.0.1", Arc::clone(&next));
    bench.events();
    assert_eq!(ask(&mut worker, "a.test.", RecordType::A).await.0, Path::Slow);
    assert_eq!(bench.event().count, 1);
    assert!(
        next.tickets()
            .holds(&name("a.test"), "192.0.2.1".parse().unwrap(), bench.now())
    );
}

#[tokio::test]
async fn another_configuration_counts_from_the_next_batch_on() {
    let (bench, mut worker) = bench(block("a.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    bench.handler.reconfigure(HandlerConfig {
        hosts: vec![(name("a.test"), vec!["192.0.2.99".parse().unwrap()])],
        ..HandlerConfig::default()
    });
    let (path, answer) = ask(&mut worker, "a.test.", RecordType::A).await;
    assert_eq!((path, data(&answer)), (Path::Slow, vec!["192.0.2.99".to_owned()]));
}

#[tokio::test]
async fn a_refused_name_is_permitted_as_soon_as_a_chain_leads_through_it() {
    let (bench, mut worker) = bench(block("www.a.test:443")).await;
    bench.upstream.set("www.a.test", &["CNAME cdn.test."]);
    bench.upstream.set("cdn.test", &["A 192.0.2.1"]);
    teach(&mut worker, "cdn.test.", RecordType::A).await;
    ask(&mut worker, "www.a.test.", RecordType::A).await;
    let (path, answer) = ask(&mut worker, "cdn.test.", RecordType::A).await;
    assert_eq!(
        (path, answer.metadata.response_code),
        (Path::Slow, ResponseCode::NoError)
    );
    // What is permitted by a ticket alone is never repeated without asking for it.
    for _ in 0..3 {
        assert_eq!(ask(&mut worker, "cdn.test.", RecordType::A).await.0, Path::Slow);
    }
}

#[tokio::test]
async fn d13_a_name_below_a_wildcard_is_repeated_while_the_budget_knows_it() {
    let (bench, mut worker) = bench(block("*.w.test:443")).await;
    bench.upstream.set("n.w.test", &["A 192.0.2.1"]);
    teach(&mut worker, "n.w.test.", RecordType::A).await;
    // Budgets of 16 384 other subjects push this one's out: it is charged again, and repeated.
    let rule = tidegate_policy::compile::rules::RuleRef::global("*.w.test:443");
    bench.pass(Duration::from_secs(1));
    for id in 0..16_384 {
        assert!(bench.handler.charge(1 << 40 | id, &name("x.w.test"), &rule));
    }
    assert_eq!(ask(&mut worker, "n.w.test.", RecordType::A).await.0, Path::Fast);
    // With a budget of nothing it is not.
    let config = HandlerConfig {
        budget: tidegate_dns::front::budget::BudgetConfig {
            burst: 0,
            per_minute: 0,
        },
        ..HandlerConfig::default()
    };
    bench.handler.reconfigure(config);
    let mut denied = Worker::new(Arc::clone(&bench.handler));
    for _ in 0..3 {
        let (path, answer) = ask(&mut denied, "fresh.w.test.", RecordType::A).await;
        assert_eq!(
            (path, answer.metadata.response_code),
            (Path::Slow, ResponseCode::NXDomain)
        );
    }
}

#[tokio::test]
async fn d25_an_address_is_noted_for_a_name_that_comes_to_publish_ech() {
    let (bench, mut worker) = bench(block("a.test:443 b.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    bench.upstream.set("b.test", &["A 192.0.2.2"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    teach(&mut worker, "b.test.", RecordType::A).await;
    // Another gateway thread's answer, say: the name is known to publish now, the address is not yet known for it.
    let ledger = &bench.world.ech;
    ledger.note_name(&name("a.test"), &[7]);
    assert_eq!(ask(&mut worker, "b.test.", RecordType::A).await.0, Path::Fast);
    assert_eq!(ask(&mut worker, "a.test.", RecordType::A).await.0, Path::Slow);
    assert!(ledger.published(7, None, "192.0.2.1".parse().unwrap()));
    teach(&mut worker, "a.test.", RecordType::A).await;
}

#[tokio::test]
async fn a_spoofed_query_and_one_to_a_foreign_server_in_audit_are_never_repeated() {
    let (bench, mut worker) = bench(audit("a.test:443")).await;
    bench.upstream.set("a.test", &["A 192.0.2.1"]);
    teach(&mut worker, "a.test.", RecordType::A).await;
    let bytes = query("a.test.", RecordType::A).to_vec().unwrap();
    let spoofed = Client {
        spoofed: true,
        ..client(Transport::Udp)
    };
    let (path, reply) = serve(&mut worker, &bytes, &spoofed).await;
    assert_eq!(path, Path::Slow);
    assert!(Message::from_vec(&reply.unwrap()).unwrap().metadata.truncation);
    let foreign = Client {
        asked: "192.0.2.53:53".parse().unwrap(),
        ..client(Transport::Udp)
    };
    let mut out = [0; 1232];
    for _ in 0..3 {
        worker.begin();
        let served = worker.serve(&bytes, &foreign, &mut out);
        assert!(matches!(served, Served::Slow(Begun::Later(_))), "relayed");
        worker.end();
    }
}

#[tokio::test]
async fn a_client_that_takes_less_than_the_answer_gets_it_the_slow_way() {
    let (bench, mut worker) = bench(block("big.test:443")).await;
    let records: Vec<String> = (1..=40).map(|n| format!("A 192.0.2.{n}")).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    bench.upstream.set("big.test", &records);
    teach(&mut worker, "big.test.", RecordType::A).await;
    let mut small = query("big.test.", RecordType::A);
    small.edns.as_mut().unwrap().set_max_payload(512);
    let bytes = small.to_vec().unwrap();
    let (path, reply) = serve(&mut worker, &bytes, &client(Transport::Udp)).await;
    assert_eq!(path, Path::Slow);
    assert!(Message::from_vec(&reply.unwrap()).unwrap().metadata.truncation);
}

#[tokio::test]
async fn invariant_9_the_memo_is_bounded_in_bytes_and_loses_no_count_at_its_bound() {
    const BOUND: usize = 64 << 10;
    let bench = Setup::new(block("a.test:443")).start().await;
    let mut worker = Worker::bounded(Arc::clone(&bench.handler), BOUND);
    let (mut asked, mut most) = (0, 0);
    for round in 0..4 {
        for n in 0..400 {
            // A tenth of the names is in use again and again.
            let n = if n % 2 == 0 { n / 10 } else { n + 400 * round };
            ask(&mut worker, &format!("n{n}.test."), RecordType::A).await;
            asked += 1;
            assert!(worker.bytes() <= BOUND, "{} bytes", worker.bytes());
            most = most.max(worker.len());
        }
    }
    assert!((20..200).contains(&most), "{most} pairs");
    assert!(worker.len() > most / 2);
    drop(worker);
    let events = bench.events();
    assert!(events.iter().any(|event| event.count > 1), "nothing was repeated");
    assert_eq!(verdicts(&events), asked);
}

#[tokio::test]
async fn a_memo_without_room_for_one_lesson_passes_everything_on() {
    let bench = Setup::new(block("a.test:443")).start().await;
    let mut worker = Worker::bounded(Arc::clone(&bench.handler), 100);
    for _ in 0..3 {
        assert_eq!(ask(&mut worker, "evil.test.", RecordType::A).await.0, Path::Slow);
    }
    assert!(worker.is_empty());
}
