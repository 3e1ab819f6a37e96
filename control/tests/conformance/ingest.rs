//! Events on their way into the store: each once, whatever way its batch came.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tidegate_control::store::{EventRetention, Item, Store, StoreError};
use tidegate_control_wire::batch::{BatchHead, BatchStored, Lane, ProcessReport};
use tidegate_control_wire::event::{EventJob, EventRecord, Process};
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::job::Assurance;
use tidegate_policy::verdict::{Mode, Verdict};

use crate::bench::{Bench, within};

/// A job of `acme/web`.
pub(crate) fn job(id: &str) -> EventJob {
    EventJob {
        id: id.into(),
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: "42".into(),
        run_attempt: 1,
        runner_name: "runner-1".into(),
        cluster: "prod".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        actor: "ada".into(),
        head_repo: "".into(),
        assurance: Assurance::Signed,
    }
}

/// A permit of that job towards a name, now. Its id is the name's.
pub(crate) fn event(name: &str) -> EventRecord {
    EventRecord {
        schema: 1,
        time: Timestamp::now(),
        id: name.into(),
        gateway: "gw-1".into(),
        network: "runners".into(),
        job: Some(job("job_1")),
        source: "10.0.0.1".parse().unwrap(),
        source_port: 40_000,
        kind: Kind::Tls,
        name: Some(name.into()),
        name_source: NameSource::Sni,
        qtype: None,
        rcode: None,
        answers: Vec::new(),
        address: Some("192.0.2.7".parse().unwrap()),
        port: 443,
        original_address: None,
        mode: Mode::Block,
        verdict: Verdict::Permit,
        reason: None,
        rule: Some("*.test:443".into()),
        rule_source: Some("policy".into()),
        nearest: None,
        policy: Some("acme/base".into()),
        policy_version: Some(3),
        scope: Some("repo:acme/web".into()),
        ech_present: false,
        note: None,
        bytes_up: 100,
        bytes_down: 2_000,
        duration_ms: 12,
        count: 1,
        ja4: None,
        process: None,
    }
}

/// The head of a batch of permits of spool `s1`.
pub(crate) fn head() -> BatchHead {
    BatchHead {
        protocol: tidegate_control_wire::PROTOCOL,
        spool: "s1".into(),
        lane: Lane::Permits,
        dropped: 0,
    }
}

/// Entries with these numbers, each about `n{number}.test`.
pub(crate) fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Item)> {
    let entry = |seq| (seq, event(&format!("n{seq}.test")).into());
    numbers.into_iter().map(entry).collect()
}

pub(crate) async fn ingest(store: &Store, head: BatchHead, entries: Vec<(u64, Item)>) -> BatchStored {
    store.ingest("gw-1", head, entries).await.unwrap()
}

/// Names of the raw events in the order of storing.
pub(crate) async fn names(store: &Store) -> Vec<String> {
    sqlx::query_scalar("SELECT endpoint FROM events ORDER BY seq")
        .fetch_all(store.events_db().read())
        .await
        .unwrap()
}

pub(crate) fn named(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|seq| format!("n{seq}.test")).collect()
}

/// Day, endpoint, verdicts, bytes up.
pub(crate) async fn rollups(store: &Store) -> Vec<(i64, String, i64, i64)> {
    sqlx::query_as("SELECT day, endpoint, verdicts, bytes_up FROM rollups ORDER BY day, endpoint, verdicts")
        .fetch_all(store.events_db().read())
        .await
        .unwrap()
}

pub(crate) async fn each_event_is_stored_once_under_repeats_overlaps_and_gaps(bench: Bench) {
    let store = bench.open().await;
    for (sent, stored) in [
        (1..=3, 3),
        (1..=3, 3),
        (2..=5, 5),
        (9..=9, 9),
        (4..=9, 9),
        (10..=10, 10),
    ] {
        let answer = ingest(&store, head(), entries(sent)).await;
        assert_eq!((answer.stored, answer.refused), (stored, 0));
    }
    assert_eq!(names(&store).await, named((1..=5).chain(9..=10)));
    let sums = rollups(&store).await;
    assert!(
        sums.iter()
            .all(|(_, _, verdicts, up)| (*verdicts, *up) == (1, 100)),
        "{sums:?}"
    );
    assert_eq!(sums.len(), 7);
    // Asking for the mark is a batch without entries.
    assert_eq!(ingest(&store, head(), Vec::new()).await.stored, 10);
}

pub(crate) async fn a_batch_in_any_order_within_is_one_in_order(bench: Bench) {
    let store = bench.open().await;
    let mut mixed = entries([5, 3, 4, 3]);
    // A number that is used twice is stored once: what can be stored counts.
    mixed.insert(0, (4, Item::Refused));
    mixed.push((7, Item::Refused));
    let answer = ingest(&store, head(), mixed).await;
    assert_eq!((answer.stored, answer.refused), (7, 1));
    assert_eq!(names(&store).await, named(3..=5));
}

pub(crate) async fn lanes_spools_and_gateways_are_numbered_apart(bench: Bench) {
    let store = bench.open().await;
    let refusals = BatchHead {
        lane: Lane::Refusals,
        ..head()
    };
    let other = BatchHead {
        spool: "s2".into(),
        ..head()
    };
    for head in [head(), refusals, other] {
        assert_eq!(ingest(&store, head, entries(1..=2)).await.stored, 2);
    }
    let second = store.ingest("gw-2", head(), entries(1..=1)).await.unwrap();
    assert_eq!(second.stored, 1);
    assert_eq!(names(&store).await.len(), 7);
    for spool in ["", "a b", "\u{1b}[2J", &"x".repeat(129)] {
        let head = BatchHead {
            spool: spool.into(),
            ..head()
        };
        let refused = store.ingest("gw-1", head, entries(1..=1)).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { field: "spool", .. })),
            "{refused:?}"
        );
    }
}

pub(crate) async fn what_is_stored_stays_stored_over_a_restart(bench: Bench) {
    let store = bench.open().await;
    ingest(&store, head(), entries(1..=3)).await;
    drop(store);
    let store = bench.open().await;
    assert_eq!(store.events_db().newest().borrow().0, 3);
    assert_eq!(ingest(&store, head(), entries(1..=4)).await.stored, 4);
    assert_eq!(names(&store).await, named(1..=4));
}

/// The watermark is not further than the events: nothing of a batch that fails is stored, and it can come again.
pub(crate) async fn a_batch_that_fails_leaves_nothing_behind(bench: Bench) {
    let store = bench.open().await;
    let forbid = match store.events_db().backend() {
        tidegate_control::store::Backend::Sqlite => {
            "CREATE TRIGGER forbid BEFORE INSERT ON rollups WHEN NEW.endpoint = 'n3.test' \
             BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        }
        tidegate_control::store::Backend::Postgres => {
            "ALTER TABLE rollups ADD CONSTRAINT forbid CHECK (endpoint <> 'n3.test')"
        }
    };
    sqlx::query(forbid)
        .execute(store.events_db().read())
        .await
        .unwrap();
    let failed = store.ingest("gw-1", head(), entries(2..=4)).await;
    assert!(matches!(failed, Err(StoreError::Refused(_))), "{failed:?}");
    assert_eq!(names(&store).await.len(), 0);
    assert_eq!(ingest(&store, head(), Vec::new()).await.stored, 0);
    // Others, in the same line at the same moment, are none the worse.
    let (bad, good) = tokio::join!(
        store.ingest("gw-1", head(), entries(3..=3)),
        store.ingest("gw-2", head(), entries(1..=2)),
    );
    assert!(bad.is_err());
    assert_eq!(good.unwrap().stored, 2);
    assert_eq!(names(&store).await, named(1..=2));
}

pub(crate) async fn sums_by_day_add_up_whatever_is_kept_raw(bench: Bench) {
    let day = Duration::from_hours(24);
    let kept = EventRetention {
        events: 10 * day,
        rollups: 100 * day,
    };
    let store = bench.open().await.keeping(kept);
    let now = Timestamp::now();
    let ago = |days: i64| now - SignedDuration::from_hours(24 * days);
    let at = |time: Timestamp, count: u64, bytes_up: u64| EventRecord {
        time,
        count,
        bytes_up,
        ..event("a.test")
    };
    let huge = u64::MAX;
    let sent = [
        at(ago(0), 2, 10),
        at(ago(0), 0, 5), // later bytes of a flow whose verdict was told
        at(ago(9), 1, 1),
        at(ago(20), 3, 7),  // counts, but is not kept as it is
        at(ago(200), 4, 7), // forgotten at once
        EventRecord {
            time: now,
            count: huge,
            bytes_up: huge,
            ..event("b.test")
        },
        EventRecord {
            time: now,
            count: huge,
            bytes_up: 1,
            ..event("b.test")
        },
    ];
    let mut stored = 0;
    for some in sent.chunks(3) {
        let entries: Vec<(u64, Item)> = some
            .iter()
            .cloned()
            .zip(stored + 1..)
            .map(|(e, n)| (n, e.into()))
            .collect();
        stored = ingest(&store, head(), entries).await.stored;
    }
    assert_eq!(stored, 7);
    assert_eq!(
        names(&store).await,
        ["a.test", "a.test", "a.test", "b.test", "b.test"]
    );
    let today = now.as_second().div_euclid(86_400);
    let (most, most_bytes) = (1_i64 << 40, 1_i64 << 53);
    let expected = [
        (today - 20, "a.test", 3, 7),
        (today - 9, "a.test", 1, 1),
        (today, "a.test", 2, 15),
        (today, "b.test", most, most_bytes),
    ];
    let sums = rollups(&store).await;
    let sums: Vec<_> = sums
        .iter()
        .map(|(day, name, v, up)| (*day, name.as_str(), *v, *up))
        .collect();
    assert_eq!(sums, expected);
}

pub(crate) async fn an_event_of_the_future_is_filed_soon_and_says_what_it_said(bench: Bench) {
    let store = bench.open().await;
    let time: Timestamp = "2999-01-01T00:00:00Z".parse().unwrap();
    let before = Timestamp::now();
    let entries = vec![(
        1,
        EventRecord {
            time,
            ..event("a.test")
        }
        .into(),
    )];
    ingest(&store, head(), entries).await;
    let (at, body): (i64, String) = sqlx::query_as("SELECT at, body FROM events")
        .fetch_one(store.events_db().read())
        .await
        .unwrap();
    let ahead = Timestamp::from_microsecond(at).unwrap().duration_since(before);
    assert!(
        (SignedDuration::from_mins(5)..SignedDuration::from_mins(6)).contains(&ahead),
        "{ahead}"
    );
    assert!(body.contains("2999-01-01T00:00:00.000Z"), "{body}");
}

pub(crate) async fn what_a_lane_dropped_is_counted_once_on_the_day_it_says_so(bench: Bench) {
    let store = bench.open().await;
    let said = |dropped| BatchHead { dropped, ..head() };
    for dropped in [0, 7, 7, 3, 10, u64::MAX, u64::MAX] {
        ingest(&store, said(dropped), Vec::new()).await;
    }
    let refusals = BatchHead {
        lane: Lane::Refusals,
        dropped: 2,
        ..head()
    };
    ingest(&store, refusals, Vec::new()).await;
    let new_spool = BatchHead {
        spool: "s2".into(),
        lane: Lane::Refusals,
        dropped: 4,
        ..head()
    };
    ingest(&store, new_spool, Vec::new()).await;
    let losses: Vec<(String, i64)> = sqlx::query_as("SELECT lane, dropped FROM event_losses ORDER BY lane")
        .fetch_all(store.events_db().read())
        .await
        .unwrap();
    assert_eq!(
        losses,
        [("permits".to_owned(), 1 << 40), ("refusals".to_owned(), 6)]
    );
}

pub(crate) async fn a_report_is_kept_once_a_thing_with_its_newest_word(bench: Bench) {
    let store = bench.open().await;
    let report = |parent: &str| ProcessReport {
        time: Timestamp::now(),
        job_id: "job_1".into(),
        name: "a.test".into(),
        address: Some("192.0.2.7".parse().unwrap()),
        port: 443,
        process: Process {
            name: "curl\u{1b}[31m\0".into(),
            sha256: "00ff".into(),
            parent: parent.into(),
        },
    };
    let entries = vec![
        (1, report("sh").into()),
        (2, report("make").into()),
        (3, event("a.test").into()),
    ];
    assert_eq!(ingest(&store, head(), entries).await.stored, 3);
    let reports: Vec<(String, String)> = sqlx::query_as("SELECT process, parent FROM process_reports")
        .fetch_all(store.events_db().read())
        .await
        .unwrap();
    assert_eq!(reports, [("curl\\u{1b}[31m\\u{0}".to_owned(), "make".to_owned())]);
}

/// Bad input of the issue: control characters, 255-byte labels, HTML, terminal escapes; also what breaks SQL.
/// Texts of so many characters, three bytes each, that no compression makes shorter.
fn noise() -> impl FnMut(usize) -> String {
    let mut state = 1_u32;
    move |characters| {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from_u32(0x4e00 + (state >> 16) % 0x5000).unwrap()
        };
        (0..characters).map(|_| next()).collect()
    }
}

/// The same of events: whatever can be read can be stored, with what is made of it (sums, baselines, detections).
pub(crate) async fn an_event_with_every_text_at_its_longest_is_stored(bench: Bench) {
    let store = bench.open().await;
    let mut noise = noise();
    let mut entries = Vec::new();
    for (verdict, trigger, assurance) in [
        ("permit", "push", "signed"),
        ("would-refuse", "pull_request", "signed"),
        ("refuse", "push", "claimed"),
    ] {
        for _ in 0..3 {
            let mut raw = serde_json::to_value(event("x.test")).unwrap();
            raw["name"] = noise(500).into();
            raw["id"] = noise(60).into();
            raw["reason"] = noise(60).into();
            for field in ["rule", "nearest", "policy", "scope"] {
                raw[field] = noise(400).into();
            }
            for field in [
                "id",
                "owner",
                "repo",
                "workflow",
                "job",
                "run_id",
                "cluster",
                "actor",
                "head_repo",
            ] {
                raw["job"][field] = noise(120).into();
            }
            raw["verdict"] = verdict.into();
            raw["job"]["event"] = trigger.into();
            raw["job"]["assurance"] = assurance.into();
            let read = EventRecord::read(&serde_json::to_vec(&raw).unwrap(), "gw-1").unwrap();
            entries.push((entries.len() as u64 + 1, read.into()));
        }
    }
    assert_eq!(ingest(&store, head(), entries).await.stored, 9);
    assert_eq!(names(&store).await.len(), 9);
    assert_eq!(rollups(&store).await.len(), 9);
}

/// PostgreSQL refuses a row that is too large for its index, whoever's it is; a batch that it refuses comes for ever.
pub(crate) async fn what_a_job_calls_its_processes_keeps_no_batch_from_being_stored(bench: Bench) {
    let store = bench.open().await;
    let mut noise = noise();
    let report = ProcessReport {
        time: Timestamp::now(),
        job_id: noise(1_024).into(),
        name: noise(1_024).into(),
        address: Some("2001:db8::1".parse().unwrap()),
        port: 443,
        process: Process {
            name: noise(1_024).into(),
            sha256: noise(1_024).into(),
            parent: noise(1_024).into(),
        },
    };
    assert_eq!(ingest(&store, head(), vec![(1, report.into())]).await.stored, 1);
    // What would come for ever is told from what may be stored the next time.
    let mut large = event("n2.test");
    large.job.as_mut().unwrap().repo = noise(1_024).into();
    if store.events_db().backend() == tidegate_control::store::Backend::Postgres {
        let failed = store
            .ingest("gw-1", head(), vec![(2, large.into())])
            .await
            .unwrap_err();
        assert!(failed.is_of_data(), "{failed:?}");
    }
}

pub(crate) async fn hostile_names_are_stored_escaped_and_found_again(bench: Bench) {
    let store = bench.open().await;
    let label = "x".repeat(255);
    let hostile = [
        "\u{1b}[2J\u{1b}]0;owned\u{7}.test",
        "<script>alert(1)</script>.test",
        "a\r\n::error::x",
        "nul\0.test",
        "'; DROP TABLE events; --",
        "\u{202e}tset.live",
        label.as_str(),
    ];
    let mut entries = Vec::new();
    for (seq, name) in (1..).zip(hostile) {
        let mut raw = serde_json::to_value(event("x.test")).unwrap();
        for field in ["name", "rule", "note", "reason", "ja4"] {
            raw[field] = name.into();
        }
        for field in [
            "owner", "repo", "workflow", "job", "run_id", "ref", "actor", "cluster",
        ] {
            raw["job"][field] = name.into();
        }
        let read = EventRecord::read(&serde_json::to_vec(&raw).unwrap(), "gw-1").unwrap();
        entries.push((seq, read.into()));
    }
    assert_eq!(ingest(&store, head(), entries).await.stored, hostile.len() as u64);
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT events.endpoint, s.repo, s.head || events.body FROM events \
             JOIN event_subjects AS s ON s.number = events.subject ORDER BY events.seq",
    )
    .fetch_all(store.events_db().read())
    .await
    .unwrap();
    for ((endpoint, repo, body), name) in rows.iter().zip(hostile) {
        let shown = tidegate_control_wire::text::printable(name);
        assert_eq!([endpoint, repo], [&shown; 2]);
        assert!(
            !body.contains(tidegate_control_wire::text::is_unprintable),
            "{body:?}"
        );
        let back: EventRecord = serde_json::from_str(&body.replacen("}{", ",", 1)).unwrap();
        assert_eq!(back.name.as_deref(), Some(&*shown));
    }
    assert_eq!(rollups(&store).await.len(), hostile.len());
}

/// A reader that goes on behind the last number it saw misses nothing: numbers become visible in their order, whoever
/// writes.
pub(crate) async fn of_two_control_planes_events_are_seen_in_the_order_of_their_numbers(bench: Bench) {
    let stores = [bench.open().await, bench.open().await];
    let writers = [0, 1].map(|at| {
        let store = stores[at].clone();
        tokio::spawn(async move {
            for lane in Lane::ALL {
                let spool = format!("s{at}").into();
                let head = BatchHead {
                    spool,
                    lane,
                    ..head()
                };
                for batch in 0..20_u64 {
                    ingest(&store, head.clone(), entries(batch * 7 + 1..=batch * 7 + 7)).await;
                }
            }
        })
    });
    let mut seen: Vec<i64> = Vec::new();
    within("all to be stored", async || {
        let after = seen.last().copied().unwrap_or_default();
        let more: Vec<i64> = sqlx::query_scalar("SELECT seq FROM events WHERE seq > $1 ORDER BY seq")
            .bind(after)
            .fetch_all(stores[1].events_db().read())
            .await
            .unwrap();
        seen.extend(more);
        if seen.len() == 560 {
            Ok(())
        } else {
            Err(seen.len())
        }
    })
    .await;
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    let last = seen.last().unwrap().unsigned_abs();
    for store in &stores {
        let mut newest = store.events_db().newest();
        let told = newest.wait_for(|known| known.0 >= last);
        let told = tokio::time::timeout(Duration::from_secs(10), told).await;
        assert_eq!(told.expect("it hears of the other's events").unwrap().0, last);
    }
}

/// One lane of one spool, sent through both at once: a gateway whose connection moved to another control plane.
pub(crate) async fn a_batch_that_two_control_planes_get_at_once_is_stored_once(bench: Bench) {
    let stores = [bench.open().await, bench.open().await];
    let sent = (0..8).map(|at| ingest(&stores[at % 2], head(), entries(1..=100)));
    let answers = join_all(sent).await;
    assert!(answers.iter().all(|answer| answer.stored == 100), "{answers:?}");
    assert_eq!(names(&stores[0]).await, named(1..=100));
    assert_eq!(
        rollups(&stores[1]).await.iter().map(|sum| sum.2).sum::<i64>(),
        100
    );
}

/// The two halves have lines of writers of their own: while events are written, policies are.
pub(crate) async fn a_writer_of_events_keeps_no_registration_waiting(bench: Bench) {
    let store = bench.open().await;
    let (go, started) = (
        tokio::sync::oneshot::channel::<()>(),
        tokio::sync::oneshot::channel(),
    );
    let slow = tokio::spawn({
        let store = store.clone();
        async move {
            let work = store.events_db().write(move |tx| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM event_losses")
                        .execute(tx.connection())
                        .await?;
                    started.0.send(()).unwrap();
                    drop(go.1.await);
                    Ok(())
                })
            });
            work.await
        }
    });
    started.1.await.unwrap();
    let claim = crate::fixture::claim("job_1", &["10.0.0.1"]);
    let claimed = crate::fixture::claimed(&store, &claim);
    tokio::time::timeout(Duration::from_secs(10), claimed)
        .await
        .expect("it is registered meanwhile");
    go.0.send(()).unwrap();
    slow.await.unwrap().unwrap();
}
