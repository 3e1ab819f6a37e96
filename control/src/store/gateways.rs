//! Gateways that were seen: who they are, what they serve, how far they are, what they lack.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use jiff::Timestamp;
use sqlx::any::AnyRow;
use tidegate_control_wire::frame::Hello;
use tidegate_policy::effective::Generation;

use super::read::{get, json, number, to_json};
use super::rollups::day;
use super::sql::Sql;
use super::{Micros, Store, StoreError};
use crate::model::{Drops, GatewayToken, GatewayView, SpoolLane};

/// Gateways that are remembered.
const MAX_GATEWAYS: i64 = 10_000;
/// Changes that are looked through at once for the first that a gateway lacks.
const MAX_CHANGES: i64 = 10_000;
/// Positions whose next change is asked for by itself.
const FEW: usize = 50;
/// Days of losses that are told, today included.
const WEEK: i64 = 7;

impl Store {
    /// A gateway is there, serves these networks, and has put everything up to `generation` in force.
    pub async fn gateway_seen(
        &self,
        hello: &Hello,
        group: &str,
        generation: Generation,
    ) -> Result<(), StoreError> {
        let mut networks = hello.networks.clone();
        // Texts are large, and gateways are read at every registration: they are kept apart.
        let texts: BTreeMap<String, String> = networks
            .iter_mut()
            .filter_map(|network| Some((network.name.to_string(), network.default_yaml.take()?)))
            .collect();
        let (networks, texts) = (to_json(&networks)?, to_json(&texts)?);
        let (name, program, group) = (hello.gateway.clone(), hello.version.clone(), group.to_owned());
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now().0;
                    sqlx::query(
                        "INSERT INTO gateways (name, group_name, networks, program, first_seen_at, last_seen_at, \
                         generation, defaults) VALUES ($1, $2, $3, $4, $5, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET \
                         group_name = $2, networks = $3, program = $4, last_seen_at = $5, generation = $6, defaults = $7",
                    )
                    .bind(name.as_str())
                    .bind(group)
                    .bind(networks)
                    .bind(program)
                    .bind(now)
                    .bind(number(generation))
                    .bind(texts)
                    .execute(tx.connection())
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// A gateway that said who it is ([`Self::gateway_seen`]) is still there.
    pub async fn gateway_alive(&self, name: &str, generation: Generation) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now().0;
                    sqlx::query("UPDATE gateways SET last_seen_at = $2, generation = $3 WHERE name = $1")
                        .bind(name)
                        .bind(now)
                        .bind(number(generation))
                        .execute(tx.connection())
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// The texts of networks' default policies that gateways told, by gateway and network.
    pub async fn default_texts(&self) -> Result<HashMap<(String, String), String>, StoreError> {
        let rows =
            sqlx::query("SELECT name, defaults FROM gateways WHERE defaults <> '{}' ORDER BY name LIMIT $1")
                .bind(MAX_GATEWAYS)
                .fetch_all(self.db.read())
                .await?;
        let mut all = HashMap::new();
        for row in &rows {
            let texts: BTreeMap<String, String> =
                json("a gateway's default policies", get(row, "defaults")?)?;
            let gateway: String = get(row, "name")?;
            all.extend(
                texts
                    .into_iter()
                    .map(|(network, text)| ((gateway.clone(), network), text)),
            );
        }
        Ok(all)
    }

    /// Every gateway that was ever seen, by name, without the texts of default policies. Who is connected is not for the store to know; what else is told of
    /// them only who looks at them needs ([`Self::tell_of_gateways`]).
    pub async fn gateways(&self) -> Result<Vec<GatewayView>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, group_name, networks, program, first_seen_at, last_seen_at, generation FROM gateways \
             ORDER BY name LIMIT $1",
        )
        .bind(MAX_GATEWAYS)
        .fetch_all(self.db.read())
        .await?;
        rows.iter().map(read_gateway).collect()
    }

    /// Fills in what is asked of all gateways: the newest change that concerns each, since when it
    /// lacks one, what it dropped, its token.
    pub async fn tell_of_gateways(
        &self,
        gateways: &mut [GatewayView],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let common = self.newest_of("").await?.0;
        let newest = sqlx::query(
            "SELECT group_name, (SELECT COALESCE(MAX(generation), 0) FROM changes \
             WHERE changes.group_name = gateways.group_name) AS newest FROM gateways LIMIT $1",
        );
        let newest = newest.bind(MAX_GATEWAYS).fetch_all(self.db.read()).await?;
        let newest: HashMap<&str, i64> = newest
            .iter()
            .map(|row| Ok((get(row, "group_name")?, get(row, "newest")?)))
            .collect::<Result<_, StoreError>>()?;
        let drops = self.drops(now).await?;
        let mut tokens = self.gateway_tokens(now).await?;
        let mut behind: HashMap<(String, u64), Option<i64>> = HashMap::new();
        for gateway in gateways.iter_mut() {
            let of_group = newest
                .get(gateway.group.as_str())
                .map_or(0, |one| one.unsigned_abs());
            gateway.newest_generation = common.max(of_group);
            gateway.lag = gateway.newest_generation.saturating_sub(gateway.generation);
            if of_group > gateway.generation {
                let place = (gateway.group.clone(), gateway.generation);
                let at = match behind.get(&place) {
                    Some(at) => *at,
                    None => self.first_change(&gateway.group, gateway.generation).await?,
                };
                behind.insert(place, at);
                gateway.behind_since = at.map(|at| Micros(at).timestamp());
            }
            gateway.drops = drops.get(&gateway.name).copied().unwrap_or_default();
            gateway.token = tokens.remove(&gateway.name);
        }
        self.tell_behind(gateways, common).await
    }

    /// Fills in since when gateways lack what all of them hear of.
    async fn tell_behind(&self, gateways: &mut [GatewayView], newest: u64) -> Result<(), StoreError> {
        let late = gateways.iter().filter(|one| one.generation < newest);
        let held: BTreeSet<u64> = late.map(|one| one.generation).collect();
        // Where few are asked for, each is found by the index; else one walk serves all.
        if held.len() <= FEW {
            for held in held {
                let at = self.first_change("", held).await?;
                let at = at.map(|at| Micros(at).timestamp());
                for gateway in gateways.iter_mut().filter(|one| one.generation == held) {
                    gateway.behind_since = gateway.behind_since.into_iter().chain(at).min();
                }
            }
            return Ok(());
        }
        let changes = self.common_changes(gateways).await?;
        for gateway in gateways.iter_mut().filter(|one| one.generation < newest) {
            let place = changes.partition_point(|(generation, _)| *generation <= gateway.generation);
            let at = match changes.get(place) {
                Some((_, at)) => Some(*at),
                None => self.first_change("", gateway.generation).await?,
            };
            let at = at.map(|at| Micros(at).timestamp());
            gateway.behind_since = gateway.behind_since.into_iter().chain(at).min();
        }
        Ok(())
    }

    /// Fills in what only a page of gateways shows: its leases, its spool.
    pub async fn tell_more_of_gateways(&self, gateways: &mut [GatewayView]) -> Result<(), StoreError> {
        if gateways.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::new(
            "SELECT group_name, COUNT(*) AS leases FROM jobs WHERE ended_at IS NULL AND group_name IN ",
        )
        .once();
        sql.texts(gateways.iter().map(|one| one.group.as_str()));
        sql.push(" GROUP BY group_name");
        let rows = sql.fetch_all(self.db.read()).await?;
        let leases: HashMap<&str, i64> = rows
            .iter()
            .map(|row| Ok((get(row, "group_name")?, get(row, "leases")?)))
            .collect::<Result<_, StoreError>>()?;
        let mut spools = self.spools(gateways).await?;
        for gateway in gateways {
            gateway.leases = leases
                .get(gateway.group.as_str())
                .map_or(0, |one| one.unsigned_abs());
            gateway.spool = spools.remove(&gateway.name).unwrap_or_default();
        }
        Ok(())
    }

    /// Changes that every gateway hears of, behind the oldest that one of these is at: number and time.
    async fn common_changes(&self, gateways: &[GatewayView]) -> Result<Vec<(u64, i64)>, StoreError> {
        let late = gateways.iter().filter(|one| one.lag > 0);
        let Some(held) = late.map(|one| one.generation).min() else {
            return Ok(Vec::new());
        };
        let sql = "SELECT generation, at FROM changes WHERE group_name = '' AND generation > $1 \
             ORDER BY generation LIMIT $2";
        let rows = sqlx::query(sql)
            .bind(number(Generation(held)))
            .bind(MAX_CHANGES)
            .fetch_all(self.db.read())
            .await?;
        let read = |row: &AnyRow| Ok((get::<i64>(row, "generation")?.unsigned_abs(), get(row, "at")?));
        rows.iter().map(read).collect()
    }

    /// The time of the first change behind a generation that only one group hears of, or everybody (empty).
    async fn first_change(&self, group: &str, held: u64) -> Result<Option<i64>, StoreError> {
        let sql =
            "SELECT at FROM changes WHERE group_name = $1 AND generation > $2 ORDER BY generation LIMIT 1";
        let row = sqlx::query(sql)
            .bind(group)
            .bind(number(Generation(held)))
            .fetch_optional(self.db.read())
            .await?;
        row.map(|row| get(&row, "at")).transpose()
    }

    /// What gateways said that they dropped, by name.
    async fn drops(&self, now: Timestamp) -> Result<HashMap<String, Drops>, StoreError> {
        let today = day(now.into());
        let rows = sqlx::query(
            "SELECT gateway, CAST(SUM(dropped) AS BIGINT) AS week, \
             CAST(SUM(CASE WHEN day >= $1 THEN dropped ELSE 0 END) AS BIGINT) AS today FROM event_losses \
             WHERE day > $2 GROUP BY gateway",
        )
        .bind(today)
        .bind(today - WEEK)
        .fetch_all(self.events.read())
        .await?;
        let read = |row: &AnyRow| {
            let drops = Drops {
                today: get::<i64>(row, "today")?.unsigned_abs(),
                week: get::<i64>(row, "week")?.unsigned_abs(),
            };
            Ok((get(row, "gateway")?, drops))
        };
        rows.iter().map(read).collect()
    }

    /// Gateways' good tokens, by name; of several the one that lasts longest.
    async fn gateway_tokens(&self, now: Timestamp) -> Result<HashMap<String, GatewayToken>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, id, expires_at, last_used_at FROM tokens WHERE role = 'gateway' AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1) \
             ORDER BY COALESCE(expires_at, 9223372036854775807), last_used_at",
        )
        .bind(Micros::from(now).0)
        .fetch_all(self.db.read())
        .await?;
        let read = |row: &AnyRow| {
            let token = GatewayToken {
                id: get(row, "id")?,
                expires_at: time(row, "expires_at")?,
                last_used_at: time(row, "last_used_at")?,
            };
            Ok((get(row, "name")?, token))
        };
        rows.iter().map(read).collect()
    }

    /// The lanes of gateways' newest spools.
    async fn spools(&self, gateways: &[GatewayView]) -> Result<HashMap<String, Vec<SpoolLane>>, StoreError> {
        let mut sql =
            Sql::new("SELECT gateway, lane, last_at, dropped FROM event_sources WHERE gateway IN ").once();
        sql.texts(gateways.iter().map(|one| one.name.as_str()));
        sql.push(" ORDER BY gateway, last_at DESC");
        let mut spools: HashMap<String, Vec<SpoolLane>> = HashMap::new();
        for row in &sql.fetch_all(self.events.read()).await? {
            let lane = SpoolLane {
                lane: get(row, "lane")?,
                last_at: Micros(get(row, "last_at")?).timestamp(),
                dropped: get::<i64>(row, "dropped")?.unsigned_abs(),
            };
            let lanes = spools.entry(get(row, "gateway")?).or_default();
            // A gateway that lost its spool has another: that which sent last counts.
            if !lanes.iter().any(|one| one.lane == lane.lane) {
                lanes.push(lane);
            }
        }
        for lanes in spools.values_mut() {
            lanes.sort_by(|one, other| other.lane.cmp(&one.lane));
        }
        Ok(spools)
    }
}

fn read_gateway(row: &AnyRow) -> Result<GatewayView, StoreError> {
    Ok(GatewayView {
        name: get(row, "name")?,
        group: get(row, "group_name")?,
        networks: json("a gateway's networks", get(row, "networks")?)?,
        version: get(row, "program")?,
        first_seen_at: Micros(get(row, "first_seen_at")?).timestamp(),
        last_seen_at: Micros(get(row, "last_seen_at")?).timestamp(),
        generation: get::<i64>(row, "generation")?.unsigned_abs(),
        connected: false,
        newest_generation: 0,
        lag: 0,
        behind_since: None,
        leases: 0,
        refused_leases: 0,
        drops: Drops::default(),
        spool: Vec::new(),
        token: None,
        degraded: Vec::new(),
    })
}

/// A time that may be absent.
fn time(row: &AnyRow, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = get(row, column)?;
    Ok(at.map(|at| Micros(at).timestamp()))
}
