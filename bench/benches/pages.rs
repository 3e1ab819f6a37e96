//! The web UI at size: how long its pages take, and how large they are, with 10 000 policies and a million events.
//!
//! Owns the numbers under "The web UI" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench pages`; with
//! `-- DIR` the store is kept in that directory, and used again if it is there. Server and reader share the process and both
//! cores, over loopback, one page after another on one connection: what the reader waits is the server's time, HTTP
//! included. Parts that a page's script asks for are asked as it does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tidegate_bench::measure::{Quantiles, instant};
use tidegate_bench::rest::{Client, Connection};
use tidegate_control::config::ControlConfig;
use tidegate_control::plane::ControlPlane;
use tidegate_control::store::{Item, Store};
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::batch::{BatchHead, Lane};
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::Generation;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Policies in the store, each attached to a repository of its own.
const POLICIES: u64 = 10_000;
/// Endpoints of each.
const ENDPOINTS: u64 = 20;
/// Events in the store.
const EVENTS: u64 = 1_000_000;
/// Between two of them: the million fills most of the month for which events are kept.
const EVERY: SignedDuration = SignedDuration::from_millis(2_400);
/// Repositories whose jobs they are of.
const REPOSITORIES: u64 = 2_000;
/// Events of one job.
const OF_A_JOB: u64 = 50;
/// Jobs that are registered besides, for the pages of jobs.
const JOBS: u64 = 1_000;
/// Events that are stored at once.
const BATCH: u64 = 5_000;
/// Times that each page is asked.
const ROUNDS: usize = 31;
/// The gateway that tells.
const GATEWAY: &str = "bench";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let kept = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    if let Some(dir) = kept {
        std::fs::create_dir_all(&dir)?;
        return runtime.block_on(measure(Path::new(&dir)));
    }
    let dir = tempfile::tempdir()?;
    runtime.block_on(measure(dir.path()))
}

async fn measure(dir: &Path) -> Result<()> {
    let store = format!("sqlite://{}", dir.join("control.db").display());
    let is_new = !dir.join("control.db").exists();
    if is_new {
        let begun = instant();
        tell(&store).await?;
        eprintln!("pages: {EVENTS} events in {:.0} s", begun.elapsed().as_secs_f64());
    }
    let text = format!(
        "version: 1\ncontrol:\n  listen: 127.0.0.1:0\n  store: {store}\n  bootstrap-token-file: admin-token\n"
    );
    let config = ControlConfig::parse(&text, &dir.join("tidegate.yaml"), None)?;
    let plane = ControlPlane::start(config).await?;
    let address = plane.address()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(plane.serve(async move { drop(stopped.await) }));
    let admin = std::fs::read_to_string(dir.join("admin-token"))?;
    let client = Client::new(address, admin.trim());
    if is_new {
        let begun = instant();
        fill(&client).await?;
        eprintln!(
            "pages: {POLICIES} policies in {:.0} s",
            begun.elapsed().as_secs_f64()
        );
    }
    look(&client, admin.trim()).await?;
    drop(stop);
    serving.await?;
    Ok(())
}

/// Stores a gateway and its events, newest last.
async fn tell(url: &str) -> Result<()> {
    let store = Store::open(url).await?;
    let network = ServedNetwork {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: vec!["10.0.0.0/8".parse()?],
        ..ServedNetwork::default()
    };
    let hello = Hello {
        protocol: PROTOCOL,
        gateway: GATEWAY.into(),
        group: None,
        version: env!("CARGO_PKG_VERSION").into(),
        networks: vec![network],
        resume: None,
    };
    store.gateway_seen(&hello, "gateway:bench", Generation(0)).await?;
    let now = Timestamp::now();
    for batch in 0..EVENTS / BATCH {
        let of = |number: u64| -> Result<(u64, Item)> {
            let ago = EVERY * i32::try_from(EVENTS - number)?;
            let event = serde_json::to_vec(&event(number, now - ago))?;
            Ok((number + 1, Item::from(EventRecord::read(&event, GATEWAY)?)))
        };
        let head = BatchHead {
            protocol: PROTOCOL,
            spool: "spool".into(),
            lane: Lane::Permits,
            dropped: 0,
        };
        let entries = (batch * BATCH..(batch + 1) * BATCH).map(of);
        store
            .ingest(GATEWAY, head, entries.collect::<Result<_>>()?)
            .await?;
    }
    Ok(())
}

/// Event `number`: of a hundred, three are refused and two would be.
fn event(number: u64, at: Timestamp) -> Value {
    let job = number / OF_A_JOB;
    let repository = job % REPOSITORIES;
    let (verdict, reason) = match number % 100 {
        0..3 => ("refuse", Some("not-allowed")),
        3..5 => ("would-refuse", Some("not-allowed")),
        _ => ("permit", None),
    };
    json!({
        "schema": 1, "time": at.to_string(), "id": format!("{number:08}"), "gateway": GATEWAY,
        "network": "runners", "source": format!("10.{}.{}.{}", job >> 16 & 255, job >> 8 & 255, job & 255),
        "kind": "tls", "name": format!("host-{}.service-{repository}.bench.example", number % 40), "port": 443,
        "mode": "block", "verdict": verdict, "reason": reason, "policy": format!("policy-{repository}"),
        "policy_version": 1, "scope": format!("repo:acme/service-{repository}"), "bytes_up": 1_200, "bytes_down": 9_000,
        "job": {
            "id": format!("job_{job:026}"), "owner": "acme", "repo": format!("acme/service-{repository}"),
            "workflow": "ci.yml", "job": "build", "run_id": job.to_string(), "cluster": "prod", "event": "push",
            "ref": "refs/heads/main", "assurance": "signed",
        },
    })
}

/// Makes and attaches every policy, and registers jobs.
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
                policy(&mut connection, n).await?;
                if n < JOBS {
                    job(&mut connection, n).await?;
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        let outcome: Result<()> = writer?;
        outcome?;
    }
    Ok(())
}

async fn policy(connection: &mut Connection, n: u64) -> Result<()> {
    let hosts = (0..ENDPOINTS).map(|host| format!("  host-{host}.service-{n}.bench.example:443\n"));
    let mode = if n.is_multiple_of(3) { "audit" } else { "block" };
    let yaml = format!(
        "egress-policy: {mode}\nallowed-endpoints: >\n{}",
        hosts.collect::<String>()
    );
    let body = json!({"name": format!("policy-{n}"), "yaml": yaml});
    made(connection, "/api/v1/orgs/acme/policies", &body).await?;
    let path = format!("/api/v1/orgs/acme/policies/policy-{n}/attachments");
    let attach = json!({"add": [format!("repo:acme/service-{n}")]});
    made(connection, &path, &attach).await?;
    Ok(())
}

async fn job(connection: &mut Connection, n: u64) -> Result<()> {
    let start = json!({
        "owner": "acme", "repo": format!("acme/service-{n}"), "workflow": "ci.yml", "job": "build",
        "run_id": format!("9{n}"), "run_attempt": 1, "event": "push", "ref": "refs/heads/main", "actor": "ann",
        "sources": [format!("10.200.{}.{}", n >> 8, n & 255)],
    });
    made(connection, "/api/v1/jobs", &start).await?;
    Ok(())
}

async fn made(connection: &mut Connection, path: &str, body: &Value) -> Result<Value> {
    let (status, answer) = connection.post(path, body).await?;
    ensure!(status < 300, "{path}: {status} {answer}");
    Ok(answer)
}

/// Asks for every page, and says what each took.
async fn look(client: &Client, admin: &str) -> Result<()> {
    let mut connection = client.connect().await?;
    let shown = json!({"token": admin});
    let session = made(&mut connection, "/api/v1/sessions", &shown).await?;
    let cookie = format!("tidegate={}", session["token"].as_str().context("a session")?);
    let (_, jobs) = connection.get("/api/v1/jobs?limit=1").await?;
    let living = jobs["items"][0]["id"].as_str().context("a job")?.to_owned();
    println!("| page | KiB | median ms | most ms | first ms |\n|---|---|---|---|---|");
    for page in pages(&living) {
        let mut waits = Vec::new();
        let (mut size, mut first) = (0, Duration::ZERO);
        for round in 0..=ROUNDS {
            let asked = instant();
            let (status, read) = connection.page(&page, &cookie).await?;
            let waited = asked.elapsed();
            // A search for an event's id leads to its page.
            ensure!(matches!(status, 200 | 303), "{page}: {status}");
            size = read;
            // The first fills caches, and is told apart.
            if round == 0 {
                first = waited;
            } else {
                waits.push(waited);
            }
        }
        let quantiles = Quantiles::of(waits);
        let ms = |span: Duration| span.as_secs_f64() * 1e3;
        println!(
            "| `{page}` | {:.1} | {:.1} | {:.1} | {:.1} |",
            size as f64 / 1024.0,
            ms(quantiles.at(0.5)),
            ms(quantiles.at(1.0)),
            ms(first)
        );
    }
    Ok(())
}

/// Where people go.
fn pages(living: &str) -> Vec<String> {
    let told = "job_00000000000000000000019990";
    let mut all: Vec<String> = [
        "/ui/",
        "/ui/?span=30d",
        "/ui/overview/refused",
        "/ui/overview/first-seen",
        "/ui/overview/policies",
        "/ui/orgs/acme/policies",
        "/ui/orgs/acme/policies?mode=audit",
        "/ui/orgs/acme/policies?search=policy-777",
        "/ui/orgs/acme/policies/policy-777",
        "/ui/orgs/acme/policies/policy-777/edit",
        "/ui/orgs/acme/policies/policy-777/attach",
        "/ui/orgs/acme/policies/policy-777/history",
        "/ui/coverage",
        "/ui/runs",
        "/ui/runs/acme/service-77/977",
        "/ui/baselines",
        "/ui/baselines/scope?scope=repo:acme/service-77",
        "/ui/events",
        "/ui/events?verdict=refuse",
        "/ui/events?q=00999902",
        "/ui/detections",
        "/ui/gateways",
        "/ui/unidentified",
        "/ui/global-block",
        "/ui/orgs/acme/endpoint-sets",
        "/ui/connect",
        "/ui/settings",
        "/ui/audit-log",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("/ui/jobs/{living}"));
    all.push(format!("/ui/events?job={told}"));
    all
}
