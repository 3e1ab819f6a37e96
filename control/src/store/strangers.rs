//! What sources without a lease tried, by day: so that somebody sees which machines nobody vouches for.
//!
//! Owns how much room they take. Whoever has no job may try any name from any address, so a source has [`OF_SOURCE`] rows
//! a day and a gateway [`OF_GATEWAY`]; what finds no room is still counted, under an empty endpoint, and beyond that
//! under an empty source. Which rows there are is remembered, so that a batch that brings nothing new asks for nothing.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use parking_lot::Mutex;
use tidegate_control_wire::event::EventRecord;

use super::read::get;
use super::rollups::{day, times};
use super::sql::{Sql, few_lots};
use super::sums::{later, open, plus};
use super::{Micros, StoreError, Tx};

/// Rows of one source a day, those not counted that stand for the rest.
const OF_SOURCE: u32 = 100;
/// Rows of one gateway a day, but for those that stand for its rest.
const OF_GATEWAY: usize = 5_000;
/// Days of gateways that are remembered.
const ROOMS: usize = 512;

/// What a row is of, in the order of its primary key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<'e> {
    network: &'e str,
    source: CompactString,
    endpoint: CompactString,
    port: u16,
    kind: &'e str,
    verdict: &'e str,
    reason: &'e str,
}

impl<'e> Key<'e> {
    fn of(event: &'e EventRecord) -> Self {
        Self {
            network: &event.network,
            source: compact_str::format_compact!("{}", event.source),
            endpoint: event.endpoint(),
            port: event.port,
            kind: event.kind.as_str(),
            verdict: event.verdict.as_str(),
            reason: event.reason.as_deref().unwrap_or_default(),
        }
    }

    /// Where it is counted when its source has no room left.
    fn of_source(&self) -> Self {
        Self {
            endpoint: CompactString::default(),
            port: 0,
            kind: "",
            reason: "",
            ..self.clone()
        }
    }

    /// And when its gateway has none.
    fn of_gateway(&self) -> Self {
        Self {
            network: "",
            source: CompactString::default(),
            ..self.of_source()
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sum {
    verdicts: u64,
    first: Micros,
    last: Micros,
}

impl Sum {
    fn merge(&mut self, other: &Self) {
        self.verdicts = self.verdicts.saturating_add(other.verdicts);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// The sums of one day of one gateway.
type OfDay<'e> = BTreeMap<Key<'e>, Sum>;

/// What events without a job say.
#[derive(Debug, Default)]
pub(super) struct Strange<'e>(BTreeMap<(i64, &'e str), OfDay<'e>>);

impl<'e> Strange<'e> {
    /// Adds events, each with the time that it is filed under; those of jobs say nothing here.
    pub(super) fn add(&mut self, events: &'e [(Micros, Box<EventRecord>)]) {
        for (at, event) in events.iter().filter(|(_, event)| event.job.is_none()) {
            let one = Sum {
                verdicts: event.count,
                first: *at,
                last: *at,
            };
            let sums = self.0.entry((day(*at), event.gateway.as_str())).or_default();
            add(sums, Key::of(event), &one);
        }
    }
}

fn add<'e>(sums: &mut OfDay<'e>, key: Key<'e>, one: &Sum) {
    sums.entry(key).and_modify(|sum| sum.merge(one)).or_insert(*one);
}

/// Which rows a day of a gateway has.
#[derive(Debug, Default)]
struct Room {
    rows: HashSet<u64>,
    /// How many each source has.
    sources: HashMap<u64, u32>,
}

impl Room {
    /// The row that something is counted in; a new one takes room.
    fn place<'e>(&mut self, key: Key<'e>, hasher: &DefaultHashBuilder) -> Key<'e> {
        let row = hasher.hash_one(&key);
        if self.rows.contains(&row) {
            return key;
        }
        let rest = key.of_source();
        let row_of_rest = hasher.hash_one(&rest);
        if self.rows.len() >= OF_GATEWAY {
            let counted = self.rows.contains(&row_of_rest);
            return if counted { rest } else { key.of_gateway() };
        }
        let used = self
            .sources
            .entry(hasher.hash_one((key.network, &key.source)))
            .or_default();
        if *used < OF_SOURCE {
            *used += 1;
            self.rows.insert(row);
            return key;
        }
        self.rows.insert(row_of_rest);
        rest
    }
}

/// The days of gateways whose rows are known.
#[derive(Default)]
pub(super) struct Strangers {
    hasher: DefaultHashBuilder,
    rooms: Mutex<HashMap<(i64, CompactString), Room>>,
}

impl std::fmt::Debug for Strangers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Strangers({})", self.rooms.lock().len())
    }
}

impl Strangers {
    /// Puts back what is known, after the commit.
    fn put(&self, of: (i64, CompactString), room: Room) {
        let mut rooms = self.rooms.lock();
        if rooms.len() >= ROOMS && !rooms.contains_key(&of) {
            // Whoever is busy is read again.
            rooms.clear();
        }
        rooms.insert(of, room);
    }
}

impl Tx<'_> {
    /// Adds what events without a job say to what is there.
    pub(super) async fn add_strangers(
        &mut self,
        known: &Arc<Strangers>,
        strange: Strange<'_>,
    ) -> Result<(), StoreError> {
        for ((day, gateway), sums) in strange.0 {
            let of = (day, CompactString::from(gateway));
            // Taken out, so that what is undone is not remembered.
            let kept = known.rooms.lock().remove(&of);
            let mut room = match kept {
                Some(room) => room,
                None => self.stranger_room(&known.hasher, day, gateway).await?,
            };
            let mut placed = OfDay::new();
            for (key, sum) in sums {
                add(&mut placed, room.place(key, &known.hasher), &sum);
            }
            self.write_strangers(day, gateway, &placed).await?;
            let known = Arc::clone(known);
            self.after_commit(move || known.put(of, room));
        }
        Ok(())
    }

    /// Reads which rows there are.
    async fn stranger_room(
        &mut self,
        hasher: &DefaultHashBuilder,
        day: i64,
        gateway: &str,
    ) -> Result<Room, StoreError> {
        let rows = sqlx::query(
            "SELECT network, source, endpoint, port, kind, verdict, reason FROM stranger_days \
             WHERE day = $1 AND gateway = $2",
        )
        .bind(day)
        .bind(gateway)
        .fetch_all(self.connection())
        .await?;
        let mut room = Room::default();
        for row in &rows {
            let source: &str = get(row, "source")?;
            let endpoint: &str = get(row, "endpoint")?;
            let key = Key {
                network: get(row, "network")?,
                source: source.into(),
                endpoint: endpoint.into(),
                port: u16::try_from(get::<i64>(row, "port")?).unwrap_or_default(),
                kind: get(row, "kind")?,
                verdict: get(row, "verdict")?,
                reason: get(row, "reason")?,
            };
            room.rows.insert(hasher.hash_one(&key));
            // What stands for a rest has no kind, and counts nowhere.
            if !key.kind.is_empty() {
                *room
                    .sources
                    .entry(hasher.hash_one((key.network, &key.source)))
                    .or_default() += 1;
            }
        }
        Ok(room)
    }

    async fn write_strangers(&mut self, day: i64, gateway: &str, sums: &OfDay<'_>) -> Result<(), StoreError> {
        let mut rows = sums.iter();
        for lot in few_lots(rows.len()) {
            let mut sql = Sql::new(
                "INSERT INTO stranger_days (day, gateway, network, source, endpoint, port, kind, verdict, reason, \
                 verdicts, first_at, last_at) VALUES ",
            )
            .many(self.backend());
            for (place, (key, sum)) in rows.by_ref().take(lot).enumerate() {
                sql.push(open(place)).number(day);
                for text in [gateway, key.network, &key.source, &key.endpoint] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").number(i64::from(key.port));
                for text in [key.kind, key.verdict, key.reason] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").number(times(sum.verdicts));
                sql.push(", ").number(sum.first.0);
                sql.push(", ").number(sum.last.0).push(")");
            }
            sql.push(concat!(
                " ON CONFLICT (day, gateway, network, source, endpoint, port, kind, verdict, reason) DO UPDATE SET ",
                plus!("stranger_days", "verdicts"),
                ", first_at = CASE WHEN excluded.first_at < stranger_days.first_at THEN excluded.first_at \
                 ELSE stranger_days.first_at END, ",
                later!("stranger_days", "last_at")
            ));
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }
}
