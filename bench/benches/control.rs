//! The control plane under load: how many jobs it registers, and how long `effective` takes beside that.
//!
//! Owns the numbers under "The control plane" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench control`
//! (`-- --postgres` for a PostgreSQL of its own beside SQLite; needs root then). Server and clients share the process and
//! both cores, over loopback: what a client waits includes its own share of the processor.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidegate_bench::measure::{Quantiles, instant};
use tidegate_bench::rest::{Client, Connection};
use tidegate_control::config::ControlConfig;
use tidegate_control::plane::ControlPlane;
use tidegate_lab::PostgresServer;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Policies in the store, each attached to a repository of its own.
const POLICIES: u64 = 10_000;
/// Rounds of each measurement.
const ROUNDS: usize = 5;
/// How long a round is.
const ROUND: Duration = Duration::from_secs(4);
/// Registrations under way at once, as gateways would send them over their connections.
const REGISTRATIONS: usize = 64;
/// Registrations a second while `effective` is asked.
const PACE: u64 = 1_000;
/// Clients that ask `effective`, one request after another each.
const ASKERS: u64 = 4;
/// Questions a second of all clients together: what a fleet that starts a thousand jobs a second would ask.
const ASKS: u64 = 1_000;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let url = format!("sqlite://{}", dir.path().join("control.db").display());
    runtime.block_on(measure("SQLite", dir.path(), &url))?;
    if std::env::args().any(|arg| arg == "--postgres") {
        let dir = tempfile::tempdir()?;
        let server = PostgresServer::shared().context("PostgreSQL does not start")?;
        let url = server.create_database()?;
        runtime.block_on(measure("PostgreSQL", dir.path(), &url))?;
    }
    Ok(())
}

async fn measure(name: &str, dir: &Path, store: &str) -> Result<()> {
    let text = format!(
        "version: 1\ncontrol:\n  listen: 127.0.0.1:0\n  store: {store}\n  bootstrap-token-file: admin-token\n"
    );
    let config = ControlConfig::parse(&text, &dir.join("tidegate.yaml"), None)?;
    let plane = ControlPlane::start(config).await?;
    let address = plane.address()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(plane.serve(async move { drop(stopped.await) }));
    let admin = std::fs::read_to_string(dir.join("admin-token"))?
        .trim()
        .to_owned();
    let client = Client::new(address, &admin);

    let begun = instant();
    fill(&client).await?;
    let filled = begun.elapsed();
    println!("### {name}\n");
    println!(
        "{POLICIES} policies created and attached in {:.1} s ({:.0} changes/s)\n",
        filled.as_secs_f64(),
        (2 * POLICIES) as f64 / filled.as_secs_f64()
    );
    let gateway = Gateway::connect(&client).await?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(gateway.register_at(None).await?);
    }
    let (least, median, most) = spread(&mut rates);
    println!("| registrations/s, {REGISTRATIONS} at once | {median:.0} ({least:.0}–{most:.0}) |");
    println!(
        "\n| `effective`, {ASKS}/s asked | p50 ms | p99 ms | p99.9 ms | answered/s |\n|---|---|---|---|---|"
    );
    for beside in [None, Some(PACE)] {
        let (mut p50, mut p99, mut p999, mut asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut paced = Vec::new();
        for _ in 0..ROUNDS {
            let asking = ask(&client);
            let quantiles = match beside {
                None => asking.await?,
                Some(pace) => {
                    let (quantiles, rate) = tokio::join!(asking, gateway.register_at(Some(pace)));
                    paced.push(rate?);
                    quantiles?
                }
            };
            p50.push(quantiles.at(0.5).as_secs_f64() * 1e3);
            p99.push(quantiles.at(0.99).as_secs_f64() * 1e3);
            p999.push(quantiles.at(0.999).as_secs_f64() * 1e3);
            asked.push(quantiles.len() as f64 / ROUND.as_secs_f64());
        }
        let label = match beside {
            None => "alone".to_owned(),
            Some(_) => format!("beside {:.0} registrations/s", spread(&mut paced).1),
        };
        let cell = |values: &mut Vec<f64>, digits: usize| {
            let (least, median, most) = spread(values);
            format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
        };
        println!(
            "| {label} | {} | {} | {} | {} |",
            cell(&mut p50, 2),
            cell(&mut p99, 2),
            cell(&mut p999, 2),
            cell(&mut asked, 0)
        );
    }
    println!();
    drop(stop);
    serving.await?;
    Ok(())
}

/// Least, median and most.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let of = |at: usize| values.get(at).copied().unwrap_or_default();
    (of(0), of(values.len() / 2), of(values.len().saturating_sub(1)))
}

/// Creates and attaches every policy.
async fn fill(client: &Client) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..32 {
        let (client, next) = (client.clone(), Arc::clone(&next));
        writers.spawn(async move {
            let mut connection = client.connect().await?;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= POLICIES {
                    return Ok(());
                }
                let hosts: Vec<String> = (0..20)
                    .map(|host| format!("  host-{host}.service-{n}.bench.example:443\n"))
                    .collect();
                let hosts = hosts.concat();
                let yaml = format!("egress-policy: block\nallowed-endpoints: >\n{hosts}");
                let policy = json!({"name": format!("policy-{n}"), "yaml": yaml});
                created(&mut connection, "/api/v1/orgs/acme/policies", &policy).await?;
                let attach = json!({"add": [format!("repo:acme/service-{n}")]});
                created(
                    &mut connection,
                    &format!("/api/v1/orgs/acme/policies/policy-{n}/attachments"),
                    &attach,
                )
                .await?;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        let outcome: Result<()> = writer?;
        outcome?;
    }
    Ok(())
}

async fn created(connection: &mut Connection, path: &str, body: &Value) -> Result<Value> {
    let (status, answer) = connection.post(path, body).await?;
    ensure!(status < 300, "{path}: {status} {answer}");
    Ok(answer)
}

/// Asks for the effective policy of repositories at random for one round.
async fn ask(client: &Client) -> Result<Quantiles> {
    let mut askers = JoinSet::new();
    for asker in 0..ASKERS {
        let client = client.clone();
        askers.spawn(async move {
            let mut connection = client.connect().await?;
            let (mut waits, mut n) = (Vec::new(), asker);
            let begun = instant();
            for turn in 0.. {
                let due = Duration::from_micros((turn * ASKERS + asker) * 1_000_000 / ASKS);
                if due >= ROUND {
                    break;
                }
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
                // A multiplicative walk visits every repository before it repeats one.
                n = (n * 7 + 3) % POLICIES;
                let path = format!("/api/v1/effective?owner=acme&repo=acme/service-{n}&workflow=ci.yml");
                let asked = instant();
                let (status, answer) = connection.get(&path).await?;
                waits.push(asked.elapsed());
                let name = answer["egress"]["policy"]["name"].as_str();
                ensure!(
                    status == 200 && name == Some(&format!("policy-{n}")),
                    "{path}: {status} {answer}"
                );
            }
            Ok::<_, anyhow::Error>(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(asker) = askers.join_next().await {
        all.extend(asker??);
    }
    Ok(Quantiles::of(all))
}

/// A gateway as control sees it: a stream that is read, and registrations.
struct Gateway {
    client: Client,
    next: Arc<AtomicU64>,
}

impl Gateway {
    async fn connect(admin: &Client) -> Result<Self> {
        let mut connection = admin.connect().await?;
        let token = json!({"role": "gateway", "name": "bench"});
        let made = created(&mut connection, "/api/v1/tokens", &token).await?;
        let client = admin.with_token(made["token"].as_str().context("a token")?);
        let hello = json!({
            "protocol": tidegate_control_wire::PROTOCOL,
            "gateway": "bench",
            "version": "bench",
            "networks": [{"name": "runners", "cluster": "", "ranges": ["10.0.0.0/8"]}],
        });
        client
            .clone()
            .read_stream(tidegate_control_wire::STREAM_PATH, hello)
            .await?;
        Ok(Self {
            client,
            next: Arc::default(),
        })
    }

    /// Registers jobs for one round, as many as go or `pace` a second. Gives back how many a second it were.
    async fn register_at(&self, pace: Option<u64>) -> Result<f64> {
        let mut workers = JoinSet::new();
        let (done, begun) = (Arc::new(AtomicU64::new(0)), instant());
        for _ in 0..REGISTRATIONS {
            let (client, next, done) = (self.client.clone(), Arc::clone(&self.next), Arc::clone(&done));
            workers.spawn(async move {
                let mut connection = client.connect().await?;
                while begun.elapsed() < ROUND {
                    if let Some(pace) = pace {
                        let due = done.fetch_add(1, Ordering::Relaxed) * 1_000_000 / pace;
                        let ahead = Duration::from_micros(due).saturating_sub(begun.elapsed());
                        tokio::time::sleep(ahead).await;
                    } else {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    created(&mut connection, tidegate_control_wire::LEASES_PATH, &claim(n)).await?;
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
    }
}

fn claim(n: u64) -> Value {
    let [_, a, b, c] = ((n as u32) & 0x00ff_ffff).to_be_bytes();
    json!({"lease": {
        "id": format!("job_bench{n}"),
        "gateway": "bench",
        "network": "runners",
        "sources": [format!("10.{a}.{b}.{c}")],
        "identity": {
            "owner": "acme", "repo": format!("acme/service-{}", n % POLICIES), "workflow": "ci.yml", "job": "build",
            "run_id": n.to_string(), "run_attempt": 1, "assurance": "declared",
        },
        "credential": "runner-token",
        "started_at": "2026-01-01T00:00:00Z",
        "expires_at": "2099-01-01T00:00:00Z",
    }})
}
