//! Events read back: by what is asked, from either end, in the order of storing, with the processes that were reported.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use tidegate_control::model::PageRequest;
use tidegate_control::store::{EventFilter, Item, NamePattern, Store, StoreError};
use tidegate_control_wire::batch::{BatchHead, Lane, ProcessReport};
use tidegate_control_wire::event::{EventRecord, Process};
use tidegate_policy::event::Kind;
use tidegate_policy::verdict::Verdict;

use crate::bench::{Bench, within};
use crate::fixture::NASTY;
use crate::ingest::{event, head, ingest, job};

/// Numbers that look as if somebody had thrown dice, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(3) == 0).then(|| value(self))
    }
}

const REPOS: [&str; 4] = ["acme/web", "acme/api", "beta/web", ""];
const WORKFLOWS: [&str; 2] = ["ci.yml", "release.yml"];
const JOBS: [&str; 5] = ["job_1", "job_2", "job_3", "job_4", "job_5"];
const JOB_NAMES: [&str; 4] = ["build", "Build", "a\"b", "test"];
const NAMES: [&str; 6] = [
    "forge.test",
    "api.forge.test",
    "a_b.forge.test",
    "axb.forge.test",
    "xforge.test",
    "",
];
const NETWORKS: [&str; 2] = ["runners", "lab"];
const SOURCES: [&str; 2] = ["10.0.0.1", "2001:db8::1"];
const POLICIES: [&str; 2] = ["acme/base", "strict"];
const REASONS: [&str; 2] = ["not-allowed", "denied"];
const KINDS: [Kind; 3] = [Kind::Dns, Kind::Tls, Kind::Tcp];
const VERDICTS: [Verdict; 3] = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];

fn thrown(dice: &mut Dice, number: usize, begin: Timestamp) -> EventRecord {
    let mut event = event(dice.of(&NAMES));
    event.id = format!("id{number}").into();
    event.name = event.name.filter(|name| !name.is_empty());
    // Many of the same millisecond.
    event.time = begin + SignedDuration::from_millis(i64::try_from(dice.below(40)).unwrap());
    event.kind = dice.of(&KINDS);
    event.network = (dice.of(&NETWORKS)).into();
    event.source = dice.of(&SOURCES).parse().unwrap();
    event.policy = dice.maybe(|dice| (dice.of(&POLICIES)).into());
    event.verdict = dice.of(&VERDICTS);
    event.reason = (event.verdict != Verdict::Permit).then(|| (dice.of(&REASONS)).into());
    event.note = dice.maybe(|_| "it says \"kind\":\"dns\" and \"reason\":\"denied\"".into());
    let repo = dice.of(&REPOS);
    event.job = (!repo.is_empty()).then(|| {
        let mut job = job(dice.of(&JOBS));
        (job.repo, job.owner) = (repo.into(), repo.split('/').next().unwrap().into());
        job.workflow = (dice.of(&WORKFLOWS)).into();
        job.job = (dice.of(&JOB_NAMES)).into();
        job.run_id = format!("{}", dice.below(3)).into();
        job
    });
    event
}

fn asked(dice: &mut Dice, begin: Timestamp) -> EventFilter {
    let text = |text: &str| text.to_owned();
    let moment =
        |dice: &mut Dice| begin + SignedDuration::from_millis(i64::try_from(dice.below(20)).unwrap());
    let since = dice.maybe(moment);
    EventFilter {
        owners: dice
            .maybe(|_| vec![text("ACME"), text("gamma")])
            .unwrap_or_default(),
        owner: dice.maybe(|dice| text(dice.of(&["Acme", "beta"]))),
        repo: dice.maybe(|dice| text(dice.of(&REPOS[..3])).to_uppercase()),
        workflow: dice.maybe(|dice| text(dice.of(&WORKFLOWS))),
        job: dice.maybe(|dice| text(dice.of(&JOBS))),
        job_name: dice.maybe(|dice| text(dice.of(&JOB_NAMES))),
        run: dice.maybe(|dice| dice.below(3).to_string()),
        verdicts: (0..dice.below(3)).map(|_| dice.of(&VERDICTS)).collect(),
        name: dice.maybe(|dice| {
            let written = [
                "FORGE.test.",
                "*.forge.test",
                "a_b.forge.test",
                "*.b.forge.test",
                "192.0.2.7",
                "*.test",
            ];
            NamePattern::parse(dice.of(&written))
        }),
        kind: dice.maybe(|dice| dice.of(&KINDS)),
        reason: dice.maybe(|dice| text(dice.of(&REASONS))),
        gateway: dice.maybe(|_| text("gw-1")),
        network: dice.maybe(|dice| text(dice.of(&NETWORKS))),
        source: dice.maybe(|dice| dice.of(&SOURCES).parse().unwrap()),
        policy: dice.maybe(|dice| text(dice.of(&POLICIES))),
        scope: dice.maybe(|_| text("repo:acme/web")),
        unidentified: None,
        id: dice
            .maybe(|dice| format!("ID{}", dice.below(200)))
            .filter(|_| dice.below(4) == 0),
        upto: None,
        until: dice.maybe(|dice| {
            since.unwrap_or(begin) + SignedDuration::from_millis(i64::try_from(dice.below(30)).unwrap())
        }),
        since,
    }
}

/// What the filter means, said once more.
fn answers(filter: &EventFilter, event: &EventRecord) -> bool {
    let job = event.job.as_ref();
    let of_job = |wanted: &Option<String>, has: fn(&tidegate_control_wire::event::EventJob) -> &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| job.is_some_and(|job| has(job) == wanted))
    };
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
    let owned = |owner: &String| job.is_some_and(|job| job.owner == owner.to_lowercase());
    let name = |wanted: &NamePattern| {
        let endpoint = event.endpoint();
        match wanted {
            NamePattern::Exact(name) => endpoint == *name,
            NamePattern::Below(name) => endpoint.ends_with(&format!(".{name}")),
        }
    };
    (filter.owners.is_empty() || filter.owners.iter().any(owned))
        && of_job(&lower(&filter.owner), |job| &job.owner)
        && of_job(&lower(&filter.repo), |job| &job.repo)
        && of_job(&filter.workflow, |job| &job.workflow)
        && of_job(&filter.job, |job| &job.id)
        && of_job(&filter.job_name, |job| &job.job)
        && of_job(&filter.run, |job| &job.run_id)
        && (filter.verdicts.is_empty() || filter.verdicts.contains(&event.verdict))
        && filter.name.as_ref().is_none_or(name)
        && filter.kind.is_none_or(|kind| kind == event.kind)
        && filter
            .reason
            .as_ref()
            .is_none_or(|reason| event.reason.as_deref() == Some(reason))
        && filter
            .gateway
            .as_ref()
            .is_none_or(|gateway| event.gateway == *gateway)
        && filter
            .network
            .as_ref()
            .is_none_or(|network| event.network == *network)
        && filter.source.is_none_or(|source| event.source == source)
        && filter
            .policy
            .as_ref()
            .is_none_or(|policy| event.policy.as_deref() == Some(policy))
        && filter
            .scope
            .as_ref()
            .is_none_or(|scope| event.scope.as_deref() == Some(scope))
        && filter.unidentified.is_none_or(|nobody| job.is_none() == nobody)
        && lower(&filter.id).is_none_or(|id| event.id == id)
        && filter.since.is_none_or(|since| event.time >= since)
        && filter.until.is_none_or(|until| event.time < until)
}

/// Ids of every page, the newest first.
async fn pages(store: &Store, filter: &EventFilter, limit: u32) -> Vec<String> {
    let mut request = PageRequest { after: None, limit };
    let mut ids = Vec::new();
    loop {
        let page = store.events(filter, &request).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        ids.extend(page.items.into_iter().map(|one| one.event.id.to_string()));
        match page.next {
            Some(next) => request.after = Some(next),
            None => return ids,
        }
    }
}

/// Ids of every piece, the oldest first.
async fn pieces(store: &Store, filter: &EventFilter, limit: u32) -> Vec<String> {
    let (mut ids, mut from) = (Vec::new(), None);
    loop {
        let run = store.events_onwards(filter, from, limit).await.unwrap();
        ids.extend(run.items.into_iter().map(|one| one.event.id.to_string()));
        from = run.next;
        if from.is_none() {
            return ids;
        }
    }
}

/// Ids in the order of storing.
async fn tail(store: &Store, filter: &EventFilter, limit: u32) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), 0);
    loop {
        let tail = store.events_after(filter, after, limit).await.unwrap();
        assert!(
            tail.items
                .iter()
                .all(|one| one.seq > after && one.seq <= tail.upto),
            "{tail:?}"
        );
        ids.extend(tail.items.into_iter().map(|one| one.event.id.to_string()));
        after = tail.upto;
        if !tail.more {
            return ids;
        }
    }
}

pub(crate) async fn every_question_is_answered_from_either_end_in_pages_of_any_size(bench: Bench) {
    let store = bench.open().await;
    let mut dice = Dice(4);
    let begin = Timestamp::from_millisecond(Timestamp::now().as_millisecond() - 60_000).unwrap();
    let mut stored: Vec<EventRecord> = (0..200).map(|number| thrown(&mut dice, number, begin)).collect();
    let entries = stored
        .iter()
        .zip(1..)
        .map(|(event, seq)| (seq, Item::from(event.clone())));
    ingest(&store, head(), entries.collect()).await;
    let in_order = stored.clone();
    stored.sort_by_key(|event| event.time);
    let mut found = 0;
    for round in 0..250 {
        let mut filter = asked(&mut dice, begin);
        filter.unidentified = dice
            .maybe(|dice| dice.below(2) == 0)
            .filter(|nobody| !nobody || filter.job.is_none());
        let limit = dice.of(&[1, 7, 1_000]);
        let ids = |events: &[EventRecord], filter: &EventFilter| -> Vec<String> {
            let fit = events.iter().filter(|event| answers(filter, event));
            fit.map(|event| event.id.to_string()).collect()
        };
        let wanted = ids(&stored, &filter);
        let said = format!("{round}: {filter:?} by {limit}");
        assert_eq!(pieces(&store, &filter, limit).await, wanted, "{said}");
        let backwards: Vec<String> = wanted.iter().rev().cloned().collect();
        assert_eq!(pages(&store, &filter, limit).await, backwards, "{said}");
        found += wanted.len();
        // Who follows asks for no times.
        (filter.since, filter.until) = (None, None);
        assert_eq!(
            tail(&store, &filter, limit).await,
            ids(&in_order, &filter),
            "{said}"
        );
    }
    assert!(found > 100, "the dice ask for what there is: {found}");
    let early = EventFilter {
        upto: Some(150),
        ..EventFilter::default()
    };
    assert_eq!(pieces(&store, &early, 50).await.len(), 150, "up to a number");
}

pub(crate) async fn a_question_that_makes_no_sense_is_refused_and_a_nasty_one_finds_nothing(bench: Bench) {
    let store = bench.open().await;
    ingest(&store, head(), vec![(1, event("forge.test").into())]).await;
    let ask = async |filter: EventFilter| store.events(&filter, &PageRequest::default()).await;
    for nasty in NASTY {
        let text = || Some(nasty.to_owned());
        let all = EventFilter::default;
        for filter in [
            EventFilter {
                owner: text(),
                ..all()
            },
            EventFilter {
                repo: text(),
                ..all()
            },
            EventFilter {
                workflow: text(),
                ..all()
            },
            EventFilter { job: text(), ..all() },
            EventFilter {
                job_name: text(),
                ..all()
            },
            EventFilter { run: text(), ..all() },
            EventFilter {
                reason: text(),
                ..all()
            },
            EventFilter {
                gateway: text(),
                ..all()
            },
            EventFilter { id: text(), ..all() },
            EventFilter {
                owners: vec![nasty.to_owned()],
                ..all()
            },
            EventFilter {
                name: Some(NamePattern::parse(nasty)),
                ..all()
            },
            EventFilter {
                name: Some(NamePattern::parse(&format!("*.{nasty}"))),
                ..all()
            },
        ] {
            match ask(filter.clone()).await {
                Ok(page) => assert_eq!((page.items, page.next), (Vec::new(), None), "{filter:?}"),
                Err(StoreError::Invalid { reason, .. }) => {
                    assert!(
                        nasty.contains('\0') && reason.contains("NUL"),
                        "{filter:?}: {reason}"
                    );
                }
                Err(error) => panic!("{filter:?}: {}", error.chain()),
            }
        }
    }
    let long = ask(EventFilter {
        job: Some("j".repeat(1_025)),
        ..EventFilter::default()
    })
    .await;
    assert!(
        matches!(long, Err(StoreError::Invalid { field: "job", .. })),
        "{long:?}"
    );
    let backwards = EventFilter {
        since: Some(Timestamp::now()),
        until: Some(Timestamp::UNIX_EPOCH),
        ..EventFilter::default()
    };
    let backwards = ask(backwards).await;
    assert!(
        matches!(backwards, Err(StoreError::Invalid { field: "since", .. })),
        "{backwards:?}"
    );
    for after in ["", "x", "1", "1.", ".1", "1.x", "99999999999999999999.1", "1.1.1"] {
        let request = PageRequest {
            after: Some(after.into()),
            limit: 1,
        };
        let odd = store.events(&EventFilter::default(), &request).await;
        assert!(
            matches!(odd, Err(StoreError::Invalid { field: "after", .. })),
            "{after:?}: {odd:?}"
        );
    }
    for extreme in [i64::MIN, i64::MAX] {
        let request = PageRequest {
            after: Some(format!("{extreme}.{extreme}")),
            limit: 1,
        };
        store.events(&EventFilter::default(), &request).await.unwrap();
    }
}

pub(crate) async fn processes_are_joined_when_events_are_read(bench: Bench) {
    let store = bench.open().await;
    let report = |name: &str, address: Option<&str>, process: &str, age: i64| ProcessReport {
        time: Timestamp::now() - SignedDuration::from_secs(age),
        job_id: "job_1".into(),
        name: name.into(),
        address: address.map(|address| address.parse().unwrap()),
        port: 443,
        process: Process {
            name: process.into(),
            sha256: "00".into(),
            parent: "bash".into(),
        },
    };
    let mut by_address = event("nameless");
    by_address.name = None;
    let mut another = event("forge.test");
    another.job = Some(job("job_2"));
    let mut nobodys = event("forge.test");
    nobodys.job = None;
    let entries = vec![
        (1, event("forge.test").into()),
        (2, by_address.into()),
        (3, another.into()),
        (4, nobodys.into()),
        (5, event("two.test").into()),
        (6, report("forge.test", None, "git", 1).into()),
        (7, report("", Some("192.0.2.7"), "curl", 1).into()),
        (8, report("two.test", None, "old", 60).into()),
        (9, report("two.test", None, "\u{1b}[31mnew", 1).into()),
    ];
    ingest(&store, head(), entries).await;
    let tail = store.events_after(&EventFilter::default(), 0, 10).await.unwrap();
    let told: Vec<(String, String)> = tail
        .items
        .iter()
        .map(|one| {
            let process = one.event.process.as_ref().map(|process| process.name.to_string());
            (
                process.unwrap_or_default(),
                one.event.note.clone().unwrap_or_default().to_string(),
            )
        })
        .collect();
    let told: Vec<(&str, &str)> = told
        .iter()
        .map(|(one, two)| (one.as_str(), two.as_str()))
        .collect();
    let newest = ("\\u{1b}[31mnew", "one of 2 processes that reached for it");
    assert_eq!(told, [("git", ""), ("curl", ""), ("", ""), ("", ""), newest]);
    let page = store
        .events(&EventFilter::default(), &PageRequest::default())
        .await
        .unwrap();
    let parents = page.items.iter().filter_map(|one| one.event.process.as_ref());
    assert_eq!(parents.filter(|process| process.parent == "bash").count(), 3);
}

pub(crate) async fn what_gateways_dropped_is_told_by_the_day(bench: Bench) {
    let store = bench.open().await;
    for (lane, dropped) in [(Lane::Refusals, 3), (Lane::Permits, 700)] {
        let head = BatchHead {
            lane,
            dropped,
            ..head()
        };
        ingest(&store, head, Vec::new()).await;
    }
    let now = Timestamp::now();
    let told = store.event_losses(None, None).await.unwrap();
    let told: Vec<(&str, u64)> = told
        .iter()
        .map(|loss| (loss.lane.as_str(), loss.dropped))
        .collect();
    assert_eq!(told, [("permits", 700), ("refusals", 3)]);
    let day = SignedDuration::from_hours(48);
    assert_eq!(
        store
            .event_losses(Some(now - day), Some(now + day))
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(store.event_losses(Some(now + day), None).await.unwrap(), []);
    assert_eq!(store.event_losses(None, Some(now - day)).await.unwrap(), []);
}

pub(crate) async fn who_follows_two_control_planes_sees_every_event_once_and_in_order(bench: Bench) {
    const EACH: u64 = 300;
    let planes = [bench.open().await, bench.open().await];
    let mut writers = Vec::new();
    for (number, plane) in planes.iter().cloned().enumerate() {
        writers.push(tokio::spawn(async move {
            for seq in 1..=EACH {
                let head = BatchHead {
                    spool: format!("s{number}").into(),
                    ..head()
                };
                let event = event(&format!("n{seq}.s{number}.test"));
                plane
                    .ingest("gw-1", head, vec![(seq, event.into())])
                    .await
                    .unwrap();
            }
        }));
    }
    let (mut after, mut seen) = (0, Vec::new());
    let mut news = planes[0].events_news();
    while seen.len() < 2 * EACH as usize {
        news.borrow_and_update();
        let tail = planes[0]
            .events_after(&EventFilter::default(), after, 7)
            .await
            .unwrap();
        after = tail.upto;
        seen.extend(tail.items.into_iter().map(|one| (one.seq, one.event.endpoint())));
        if !tail.more && seen.len() < 2 * EACH as usize {
            within("news of another control plane", async || {
                news.has_changed().unwrap().then_some(()).ok_or(seen.len())
            })
            .await;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(seen.is_sorted_by_key(|(seq, _)| *seq));
    let distinct: BTreeSet<_> = seen.iter().map(|(_, name)| name).collect();
    assert_eq!(distinct.len(), 2 * EACH as usize, "each once");
}
