//! By what workflows are judged ready to block: days of their own, those that an older program summed among them.

use jiff::{SignedDuration, Timestamp};
use tidegate_control::store::{Backend, Store};
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::verdict::Verdict;

use crate::bench::Bench;
use crate::ingest::{head, ingest};
use crate::seen::of;

/// What the events of `acme/upgraded` add up to, shown since a day and judged since another, in days before today.
async fn of_upgraded(store: &Store, shown: i64, judged: i64) -> Option<([u64; 4], [u64; 3])> {
    let today = Timestamp::now().as_second().div_euclid(86_400);
    let sums = store.workflow_sums(today - shown, today - judged).await.unwrap();
    let one = sums.into_iter().find(|one| one.repo == "acme/upgraded")?;
    let judged = one.judged;
    Some((
        [one.permits, one.refusals, one.would_refuse, one.suffixes],
        [judged.refusals, judged.would_refuse, judged.suffixes],
    ))
}

/// The statement of a migration that fills sums by workflow.
fn filling(backend: Backend) -> &'static str {
    let migration = match backend {
        Backend::Sqlite => include_str!("../../migrations/sqlite/events_0003_sums.sql"),
        Backend::Postgres => include_str!("../../migrations/postgres/0008_sums.sql"),
    };
    let from = migration.find("INSERT INTO workflow_days").unwrap();
    let length = migration[from..].find(';').unwrap();
    &migration[from..from + length]
}

pub(crate) async fn workflows_are_judged_by_days_of_their_own_and_by_what_an_older_program_summed(
    bench: Bench,
) {
    let store = bench.open().await;
    let ago = |days: i64, one: EventRecord| EventRecord {
        time: Timestamp::now() - SignedDuration::from_hours(24 * days),
        ..one
    };
    let suffix = EventRecord {
        reason: Some("search-suffix".into()),
        ..of("upgraded", "a.test.lan", Verdict::WouldRefuse)
    };
    let sent = [
        of("upgraded", "a.test", Verdict::Permit),
        ago(3, of("upgraded", "b.test", Verdict::WouldRefuse)),
        ago(3, suffix),
        ago(20, of("upgraded", "c.test", Verdict::Refuse)),
    ];
    let entries = (1..).zip(sent.into_iter().map(Into::into)).collect();
    ingest(&store, head(), entries).await;
    let asked = [(0, 0), (0, 7), (7, 7), (29, 7), (29, 29)];
    let mut wanted = Vec::new();
    for (shown, judged) in asked {
        wanted.push(of_upgraded(&store, shown, judged).await);
    }
    assert_eq!(wanted[0], Some(([1, 0, 0, 0], [0, 0, 0])));
    assert_eq!(
        wanted[1],
        Some(([1, 0, 0, 0], [0, 2, 1])),
        "judged by more than is shown"
    );
    assert_eq!(
        wanted[3],
        Some(([1, 1, 2, 1], [0, 2, 1])),
        "judged by less than is shown"
    );
    // An older program summed by day and endpoint only.
    let backend = store.events_db().backend();
    let upgraded = store.events_db().write(move |tx| {
        Box::pin(async move {
            sqlx::query("DELETE FROM workflow_days")
                .execute(tx.connection())
                .await?;
            sqlx::query(filling(backend)).execute(tx.connection()).await?;
            Ok(())
        })
    });
    upgraded.await.unwrap();
    for ((shown, judged), wanted) in asked.into_iter().zip(wanted) {
        assert_eq!(
            of_upgraded(&store, shown, judged).await,
            wanted,
            "{shown} {judged}"
        );
    }
}
