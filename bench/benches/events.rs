//! Events on their way into the store: how many a second, and what registrations feel of it.
//!
//! Owns the numbers under "Events" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench events`
//! (`-- --postgres` for a PostgreSQL of its own beside SQLite; needs root then). Four gateways deliver both lanes of their
//! spools as fast as they are taken, first by `Store::ingest`, then as HTTP/2 requests over connections inside of the
//! process; gateways, server and database share both cores. Batches are acknowledged when they are on disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use serde_json::{Value, json};
use tidegate_bench::measure::{Quantiles, Spread, instant, process_cpu};
use tidegate_control::config::ControlConfig;
use tidegate_control::plane::ControlPlane;
use tidegate_control::server::Link;
use tidegate_control::store::{Item, Store};
use tidegate_control_wire::batch::{BatchHead, BatchStored, Lane, MAX_ENTRIES};
use tidegate_control_wire::event::EventRecord;
use tidegate_control_wire::{EVENTS_PATH, LEASES_PATH, PROTOCOL, STREAM_PATH};
use tidegate_lab::PostgresServer;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gateways that deliver at once.
const GATEWAYS: usize = 4;
/// Jobs under way, and what each reaches.
const JOBS: usize = 200;
const ENDPOINTS: usize = 60;
/// Repositories that the jobs are of.
const REPOS: usize = 40;
/// One event in so many is a refusal.
const REFUSED: usize = 20;
/// Where the time of an event stands.
const TIME: &str = "2026-01-01T00:00:00.000Z";
/// Rounds of each measurement, and the events of one.
const ROUNDS: usize = 5;
const ROUND: usize = 200_000;
/// Between two registrations beside.
const PACE: Duration = Duration::from_millis(10);
/// Registrations that are measured alone.
const ALONE: usize = 400;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mix = Mix::new()?;
    println!(
        "events of {:.0} bytes, {JOBS} jobs × {ENDPOINTS} endpoints\n",
        mix.mean_size()
    );
    let mix = Arc::new(mix);
    // Where builds are, not /tmp: that could be memory, which syncs for nothing.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let url = format!("sqlite://{}", dir.path().join("control.db").display());
    runtime.block_on(measure("SQLite", dir.path(), &url, &mix))?;
    if std::env::args().any(|arg| arg == "--postgres") {
        let dir = tempfile::tempdir()?;
        let server = PostgresServer::shared().context("PostgreSQL does not start")?;
        let url = server.create_database()?;
        runtime.block_on(measure("PostgreSQL", dir.path(), &url, &mix))?;
    }
    Ok(())
}

async fn measure(name: &str, dir: &Path, url: &str, mix: &Arc<Mix>) -> Result<()> {
    println!("### {name}\n");
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    let store = Store::open(url).await?;
    for round in 0..ROUNDS {
        let rate = charged(&mut cpu, direct(&store, mix, round)).await?;
        rates.push(rate);
    }
    let stored = store.newest_event().await?;
    ensure!(stored == (ROUNDS * ROUND) as u64, "{stored} events are stored");
    drop(store);
    println!("| `Store::ingest`, events/s | {:.0} |", Spread::of(rates));
    println!("| CPU, µs an event | {:.1} |", Spread::of(cpu));
    let text = format!(
        "version: 1\ncontrol:\n  listen: 127.0.0.1:0\n  store: {url}\n  bootstrap-token-file: admin-token\n"
    );
    let config = ControlConfig::parse(&text, &dir.join("tidegate.yaml"), None)?;
    let plane = ControlPlane::start(config).await?;
    let registrar = Wire::connect(&plane.link("gw-0")).await?;
    registrar.open_stream().await?;
    let alone = register(&registrar, "alone", || false, ALONE).await?;
    let (mut rates, mut cpu, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let over = Arc::new(AtomicBool::new(false));
        let registering = {
            let (over, registrar) = (Arc::clone(&over), registrar.clone());
            tokio::spawn(async move {
                let name = format!("round-{round}");
                register(&registrar, &name, || over.load(Ordering::Relaxed), usize::MAX).await
            })
        };
        let rate = charged(&mut cpu, delivered(&plane, mix, round)).await?;
        rates.push(rate);
        over.store(true, Ordering::Relaxed);
        beside.push(registering.await??);
    }
    println!("| HTTP/2, events/s | {:.0} |", Spread::of(rates));
    println!("| CPU, µs an event | {:.1} |", Spread::of(cpu));
    let of = |share: f64| Spread::of(beside.iter().map(|one| one.at(share).as_secs_f64() * 1e3));
    println!(
        "| a registration alone, p50 / p99 ms | {:.1} / {:.1} |",
        alone.at(0.5).as_secs_f64() * 1e3,
        alone.at(0.99).as_secs_f64() * 1e3
    );
    println!(
        "| beside that, p50 / p99 ms | {:.1} / {:.1} |\n",
        of(0.5),
        of(0.99)
    );
    Ok(())
}

/// Notes the processor's time that a round costs this process, a microsecond an event; PostgreSQL's is not in it.
async fn charged(cpu: &mut Vec<f64>, round: impl Future<Output = Result<f64>>) -> Result<f64> {
    let own = std::process::id().cast_signed();
    let before = process_cpu(own)?;
    let rate = round.await?;
    let spent = process_cpu(own)?.saturating_sub(before);
    cpu.push(spent.as_secs_f64() * 1e6 / ROUND as f64);
    Ok(rate)
}

/// Events a second by `Store::ingest`, in one round. What is parsed is an event already.
async fn direct(store: &Store, mix: &Arc<Mix>, round: usize) -> Result<f64> {
    let begun = instant();
    let mut gateways = JoinSet::new();
    for gateway in 0..GATEWAYS {
        for lane in Lane::ALL {
            let (store, mix) = (store.clone(), Arc::clone(mix));
            let sender = Sender::new(&format!("direct-{round}"), gateway, lane);
            gateways.spawn(async move {
                for batch in sender.batches() {
                    let time = now();
                    let entry = |seq| {
                        let event = mix.event(lane, gateway, seq).clone();
                        (seq, EventRecord { time, ..event }.into())
                    };
                    let entries: Vec<(u64, Item)> = batch.map(entry).collect();
                    let last = entries.last().map_or(0, |(seq, _)| *seq);
                    let answer = store.ingest(&sender.gateway, sender.head(), entries).await?;
                    ensure!(answer.stored == last, "{answer:?}, {last} were sent");
                }
                Ok(())
            });
        }
    }
    while let Some(gateway) = gateways.join_next().await {
        gateway??;
    }
    Ok(ROUND as f64 / begun.elapsed().as_secs_f64())
}

/// Events a second as requests, in one round.
async fn delivered(plane: &ControlPlane, mix: &Arc<Mix>, round: usize) -> Result<f64> {
    let mut senders = Vec::new();
    for gateway in 0..GATEWAYS {
        let wire = Wire::connect(&plane.link(&format!("gw-{gateway}"))).await?;
        senders.extend(Lane::ALL.map(|lane| (gateway, lane, wire.clone())));
    }
    let begun = instant();
    let mut gateways = JoinSet::new();
    for (gateway, lane, wire) in senders {
        let mix = Arc::clone(mix);
        let sender = Sender::new(&format!("wire-{round}"), gateway, lane);
        gateways.spawn(async move {
            for batch in sender.batches() {
                let last = batch.end - 1;
                let mut body = serde_json::to_string(&sender.head())?;
                let time = format!("{:.3}", now());
                for seq in batch {
                    body.push_str("\n{\"seq\":");
                    body.push_str(&seq.to_string());
                    body.push_str(",\"event\":");
                    let (before, after) = mix.text(lane, gateway, seq);
                    body.extend([before, &time, after]);
                    body.push('}');
                }
                body.push('\n');
                let answer = wire.post(EVENTS_PATH, body.into()).await?;
                let answer: BatchStored = serde_json::from_slice(&answer)?;
                ensure!(
                    answer.stored == last && answer.refused == 0,
                    "{answer:?}, {last} were sent"
                );
            }
            Ok(())
        });
    }
    while let Some(gateway) = gateways.join_next().await {
        gateway??;
    }
    Ok(ROUND as f64 / begun.elapsed().as_secs_f64())
}

/// Registers jobs, one after another, at a pace; says how long each took.
async fn register(
    wire: &Wire,
    round: &str,
    over: impl Fn() -> bool + Send,
    most: usize,
) -> Result<Quantiles> {
    let mut waits = Vec::new();
    while !over() && waits.len() < most {
        let body = claim(round, waits.len()).to_string();
        let begun = instant();
        wire.post(LEASES_PATH, body.into()).await?;
        waits.push(begun.elapsed());
        tokio::time::sleep(PACE).await;
    }
    Ok(Quantiles::of(waits))
}

fn claim(round: &str, n: usize) -> Value {
    let [a, b] = (n as u16).to_be_bytes();
    let third = round
        .bytes()
        .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    json!({"lease": {
        "id": format!("job_{round}-{n}"), "gateway": "gw-0", "network": "runners",
        "sources": [format!("10.{third}.{a}.{b}")],
        "identity": {
            "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "job": "build",
            "run_id": n.to_string(), "run_attempt": 1, "assurance": "declared",
        },
        "credential": "runner-token",
        "started_at": "2026-01-01T00:00:00Z", "expires_at": "2099-01-01T00:00:00Z",
    }})
}

/// One lane of one gateway's spool.
struct Sender {
    gateway: String,
    spool: String,
    lane: Lane,
    count: u64,
}

impl Sender {
    fn new(round: &str, gateway: usize, lane: Lane) -> Self {
        let refused = ROUND / GATEWAYS / REFUSED;
        let count = match lane {
            Lane::Refusals => refused,
            Lane::Permits => ROUND / GATEWAYS - refused,
        };
        Self {
            gateway: format!("gw-{gateway}"),
            spool: format!("{round}-{gateway}"),
            lane,
            count: count as u64,
        }
    }

    fn head(&self) -> BatchHead {
        BatchHead {
            protocol: PROTOCOL,
            spool: self.spool.as_str().into(),
            lane: self.lane,
            dropped: 0,
        }
    }

    fn batches(&self) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        let last = self.count;
        (1..=last)
            .step_by(MAX_ENTRIES)
            .map(move |from| from..(from + MAX_ENTRIES as u64).min(last + 1))
    }
}

/// What is sent: each job's endpoints, each once as a query and once as a flow, in an order without a pattern.
struct Mix {
    /// Of each lane, of each gateway: the event, and its JSON before and after the time, which is when it is sent.
    events: [Vec<Vec<(EventRecord, String, String)>>; 2],
}

impl Mix {
    fn new() -> Result<Self> {
        let mut events = [const { Vec::new() }; 2];
        for (lane, of) in Lane::ALL.into_iter().zip(&mut events) {
            for gateway in 0..GATEWAYS {
                let mut all = Vec::new();
                for n in 0..JOBS * ENDPOINTS * 2 / GATEWAYS {
                    let text = event(gateway, lane, n).to_string();
                    let name = format!("gw-{gateway}");
                    let (before, after) = text.split_once(TIME).context("a time")?;
                    let read = EventRecord::read(text.as_bytes(), &name)?;
                    all.push((read, before.to_owned(), after.to_owned()));
                }
                of.push(all);
            }
        }
        Ok(Self { events })
    }

    fn of(&self, lane: Lane, gateway: usize, seq: u64) -> &(EventRecord, String, String) {
        let all = &self.events[usize::from(lane == Lane::Permits)][gateway];
        // A prime step visits all before it repeats one.
        &all[(seq as usize).wrapping_mul(7_919) % all.len()]
    }

    fn event(&self, lane: Lane, gateway: usize, seq: u64) -> &EventRecord {
        &self.of(lane, gateway, seq).0
    }

    fn text(&self, lane: Lane, gateway: usize, seq: u64) -> (&str, &str) {
        let (_, before, after) = self.of(lane, gateway, seq);
        (before, after)
    }

    fn mean_size(&self) -> f64 {
        let all = &self.events[1][0];
        let size = |(_, before, after): &(_, String, String)| before.len() + TIME.len() + after.len();
        all.iter().map(size).sum::<usize>() as f64 / all.len() as f64
    }
}

fn event(gateway: usize, lane: Lane, n: usize) -> Value {
    let (job, endpoint, flow) = (n / 2 % (JOBS / GATEWAYS), n / 2 / (JOBS / GATEWAYS), n % 2 == 1);
    let job = job * GATEWAYS + gateway;
    let repo = job % REPOS;
    let name = format!("host-{}.service-{endpoint}.bench.example", repo % 8);
    let (verdict, reason, rule) = match lane {
        Lane::Refusals => ("refuse", json!("not-allowed"), Value::Null),
        Lane::Permits => (
            "permit",
            Value::Null,
            json!(format!("*.service-{endpoint}.bench.example:443")),
        ),
    };
    let mut event = json!({
        "schema": 1, "time": TIME, "id": format!("{n:08x}"), "gateway": format!("gw-{gateway}"),
        "network": "runners", "source": format!("10.77.{gateway}.{}", job % 250),
        "job": {
            "id": format!("job_0198f3a2-7c1e-7{job:03}-9d2b-5c1f0a6e{job:04}"), "owner": "acme",
            "repo": format!("acme/service-{repo}"), "workflow": "ci.yml", "job": "build-and-test",
            "run_id": (9_000_000_000 + job as u64).to_string(), "run_attempt": 1,
            "runner_name": format!("runner-{job}"), "cluster": "prod", "event": "push",
            "ref": "refs/heads/main", "actor": "ada", "assurance": "signed",
        },
        "kind": if flow { "tls" } else { "dns" }, "name": name,
        "name_source": if flow { "sni" } else { "query" }, "mode": "block", "verdict": verdict,
        "policy": "acme/base", "policy_version": 3, "scope": format!("repo:acme/service-{repo}"), "count": 1,
    });
    let more = if flow {
        json!({"source_port": 40_000 + n % 20_000, "address": format!("192.0.2.{}", endpoint), "port": 443,
            "bytes_up": 1_820, "bytes_down": 48_213, "duration_ms": 312, "ja4": "t13d1516h2_8daaf6152771_02713d6af862"})
    } else {
        json!({"source_port": 30_000 + n % 20_000, "qtype": "A", "rcode": "NOERROR", "port": 53,
            "answers": [format!("192.0.2.{endpoint}"), "198.51.100.7"]})
    };
    if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
        event.extend(more);
        event.extend([("reason".to_owned(), reason), ("rule".to_owned(), rule)]);
        event.retain(|_, value| !value.is_null());
    }
    event
}

/// Events are of now: each is filed behind those of its job before it.
fn now() -> Timestamp {
    Timestamp::now()
}

/// An HTTP/2 connection of a gateway inside of the process.
#[derive(Clone)]
struct Wire(SendRequest<Full<Bytes>>);

impl Wire {
    async fn connect(link: &Link) -> Result<Self> {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(link.connect())).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<Bytes> {
        let response = self.send(path, body).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{path}: {status} {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(answer)
    }

    async fn send(&self, path: &str, body: Bytes) -> Result<hyper::Response<hyper::body::Incoming>> {
        let request = Request::post(format!("http://control.bench.example{path}"))
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let mut sender = self.0.clone();
        sender.ready().await?;
        Ok(sender.send_request(request).await?)
    }

    /// Registers as a gateway that serves jobs.
    async fn open_stream(&self) -> Result<()> {
        let hello = json!({
            "protocol": PROTOCOL, "gateway": "gw-0", "version": "bench",
            "networks": [{"name": "runners", "cluster": "", "ranges": ["10.0.0.0/8"]}],
        });
        let response = self.send(STREAM_PATH, hello.to_string().into()).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        let mut body = response.into_body();
        body.frame().await.context("the stream ended at once")??;
        tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
        Ok(())
    }
}
