//! Gateways that were seen: who they are, what they serve, how far they are.

use sqlx::any::AnyRow;
use tidegate_control_wire::frame::Hello;
use tidegate_policy::effective::Generation;

use super::read::{get, json, number, to_json};
use super::{Micros, Store, StoreError};
use crate::model::GatewayView;

/// Gateways that are remembered.
const MAX_GATEWAYS: i64 = 10_000;

impl Store {
    /// A gateway is there, and has put everything up to `generation` in force.
    pub async fn gateway_seen(
        &self,
        hello: &Hello,
        group: &str,
        generation: Generation,
    ) -> Result<(), StoreError> {
        let (hello, group) = (hello.clone(), group.to_owned());
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now().0;
                    sqlx::query(
                        "INSERT INTO gateways (name, group_name, networks, program, first_seen_at, last_seen_at, \
                         generation) VALUES ($1, $2, $3, $4, $5, $5, $6) ON CONFLICT (name) DO UPDATE SET \
                         group_name = $2, networks = $3, program = $4, last_seen_at = $5, generation = $6",
                    )
                    .bind(hello.gateway.as_str())
                    .bind(group)
                    .bind(to_json(&hello.networks)?)
                    .bind(hello.version)
                    .bind(now)
                    .bind(number(generation))
                    .execute(tx.connection())
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Every gateway that was ever seen, by name. Who is connected is not for the store to know.
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
    })
}
