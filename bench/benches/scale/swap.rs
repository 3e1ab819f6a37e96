//! One gateway's whole world, and what becomes of a change of policy in it, open flows included. Driven by [`super`].
//!
//! All of it is what the gateway runs (reading, compiling, the swap in the lease table, the registry of open flows) but
//! for the way from the control plane, which `control` measures.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tidegate_bench::lists::{Random, unlisted, written};
use tidegate_bench::world::{self, DAY, START};
use tidegate_dns::Clock;
use tidegate_policy::DnsName;
use tidegate_policy::compile::block::{GlobalBlock, GlobalBlocks};
use tidegate_policy::detection::{Detection, Ech, Hello, Sni};
use tidegate_policy::effective::PolicySet;
use tidegate_policy::endpoint::Transport;
use tidegate_policy::judge::flow::Flow;
use tidegate_policy::judge::query::{judge_query, rtype};
use tidegate_policy::lease::LeaseTable;
use tidegate_policy::rulebook::World;
use tidegate_policy::subject::Subject;
use tidegate_policy::ticket::Grant;
use tidegate_proxy::address::ClientAddr;
use tidegate_proxy::registry::{Admission, Bounds, FlowHandle, FlowRegistry};

use super::{Figures, once, rss, time};
use tidegate_bench::measure::Spread;

const BLOCKED: usize = 1_000_000;
const POLICIES: usize = 1_000;
const ENDPOINTS: usize = 200;
const LEASES: usize = 10_000;
/// Open flows of the whole gateway, one or two a lease.
const FLOWS: usize = 16_000;
/// Changes that are published one after the other.
const CHANGES: usize = 31;

/// The world, what it takes, and what a change of it costs.
pub(super) fn world() -> Result<Figures> {
    let mut figures = Figures::new();
    let (list, took) = once(|| GlobalBlock::build(written().take(BLOCKED).map(|one| one.block())));
    figures.insert("compile the block list ms".into(), took.as_secs_f64() * 1e3);
    let with_list = rss()?;
    figures.insert("rss with the block list".into(), with_list);
    let shared = Arc::new(World {
        global: GlobalBlocks::new([Arc::new(list)]),
        ..World::default()
    });
    let pack = world::pack();
    let texts: Vec<_> = (0..POLICIES)
        .map(|policy| world::text(policy, ENDPOINTS))
        .collect();
    let compile = |(policy, text): (usize, &String)| world::compile(policy, 1, text, &pack);
    let (compiled, took) = once(|| texts.iter().enumerate().map(compile).collect::<Result<Vec<_>>>());
    figures.insert("compile the policies ms".into(), took.as_secs_f64() * 1e3);
    drop(texts);
    let table = Arc::new(world::table(world::policies(&shared, &compiled?)));
    figures.insert("rss with the policies".into(), rss()?);
    for lease in 0..LEASES {
        table.register(world::registration(lease, lease % POLICIES), START)?;
        black_box(table.lookup(world::source(lease), START));
    }
    figures.insert("rss with the leases".into(), rss()?);

    lookups(&mut figures, &table);
    let flows = Flows::open(Arc::clone(&table))?;
    figures.insert("rss with the flows".into(), rss()?);
    changes(&mut figures, &table, &flows, &shared, &pack)?;
    figures.insert("flows".into(), flows.registry.len() as f64);
    Ok(figures)
}

/// Everything that a query asks of the policy: whose the source is, and what is said of the name.
fn lookups(figures: &mut Figures, table: &LeaseTable) {
    let (mut random, mut other) = (Random(1), Random(2));
    let judged = |(lease, name): &(usize, DnsName)| {
        let subject = table.lookup(world::source(*lease), START);
        let ruling = judge_query(&subject.rulebook(), name, rtype::A, subject.tickets(), START);
        ruling.judgement.refusal().is_none()
    };
    let permitted = || {
        let lease = random.below(LEASES);
        let host = world::host(lease % POLICIES, random.below(ENDPOINTS));
        (lease, DnsName::parse(&host).expect("a host"))
    };
    time(figures, "query permitted", permitted, |asked| {
        assert!(judged(asked));
    });
    let refused = || (other.below(LEASES), unlisted(&mut other));
    time(figures, "query refused", refused, |asked| assert!(!judged(asked)));
    let (mut random, blocked) = (Random(3), written().take(BLOCKED).collect::<Vec<_>>());
    let blocked = || (random.below(LEASES), blocked[random.below(BLOCKED)].matched());
    time(figures, "query blocked globally", blocked, |asked| {
        assert!(!judged(asked));
    });
}

/// Flows that were admitted, as the proxy keeps them.
struct Flows {
    registry: Arc<FlowRegistry>,
    handles: Vec<FlowHandle>,
}

impl Flows {
    /// [`FLOWS`] by SNI with a ticket, spread over the leases, each to the host of its number.
    fn open(table: Arc<LeaseTable>) -> Result<Self> {
        let bounds = Bounds {
            flows: FLOWS,
            per_job: FLOWS,
            ticket_hold: DAY,
        };
        let (clock, _) = Clock::manual();
        let registry = FlowRegistry::new(Arc::clone(&table) as _, clock, bounds);
        let mut handles = Vec::with_capacity(FLOWS);
        for number in 0..FLOWS {
            let lease = number % LEASES;
            let source = world::source(lease);
            let subject = table.lookup(source, START);
            let client = ClientAddr::new((source, 40_000).into());
            let handle = registry.enter(Arc::clone(&subject), client);
            let handle = handle.ok().context("the registry has room")?;
            handle.admit(
                admission(&subject, lease % POLICIES, number % ENDPOINTS),
                &subject.rulebook(),
            );
            handles.push(handle);
        }
        ensure!(registry.len() == FLOWS, "some flows were not admitted");
        Ok(Self { registry, handles })
    }

    fn closing(&self) -> usize {
        self.handles.iter().filter(|flow| flow.is_closing()).count()
    }
}

/// A TLS flow to a host of a policy, at the address that the job was given for it.
fn admission(subject: &Subject, policy: usize, host: usize) -> Admission {
    let name = DnsName::parse(&world::host(policy, host)).expect("a host");
    let flow = Flow {
        transport: Transport::Tcp,
        address: std::net::Ipv4Addr::new(192, 0, 2, host as u8).into(),
        port: 443,
    };
    let grant = Grant {
        asked: &name,
        chain: &[],
        addresses: &[flow.address],
        ttl: DAY,
    };
    subject.tickets().grant(&grant, DAY, START);
    Admission {
        flow,
        detection: Detection::Tls(Hello {
            sni: Sni::Name(name.clone()),
            ech: Ech::Absent,
        }),
        target: None,
        proven: Some(name),
    }
}

/// One policy after another gets an endpoint more, until it is enforced for its leases and their flows were judged
/// again; then one loses the endpoint of some flows, which close, and only they.
fn changes(
    figures: &mut Figures,
    table: &LeaseTable,
    flows: &Flows,
    shared: &Arc<World>,
    pack: &Arc<tidegate_policy::rulebook::RuleList>,
) -> Result<()> {
    let mut waits = Vec::new();
    for policy in 0..CHANGES {
        let text = format!("{}  - added.bench.example:443\n", world::text(policy, ENDPOINTS));
        let added = DnsName::parse("added.bench.example")?;
        let allowed = |lease| {
            let subject = table.lookup(world::source(lease), START);
            let ruling = judge_query(&subject.rulebook(), &added, rtype::A, subject.tickets(), START);
            ruling.judgement.refusal().is_none()
        };
        ensure!(!allowed(policy), "allowed before it was published");
        let (closed, took) = once(|| publish(table, flows, shared, policy, &text, pack));
        ensure!(
            closed? == (LEASES / POLICIES, 0),
            "other leases or flows than those of the policy"
        );
        ensure!(allowed(policy) && !allowed(CHANGES), "not in force");
        waits.push(took.as_secs_f64() * 1e3);
    }
    let spread = Spread::of(waits);
    figures.insert("published to enforced ms".into(), spread.median);
    figures.insert("published to enforced ms, most".into(), spread.most);
    figures.insert("dropped".into(), flows.closing() as f64);

    let narrower = world::text(POLICIES - 1, ENDPOINTS / 2);
    let (_, closed) = publish(table, flows, shared, POLICIES - 1, &narrower, pack)?;
    figures.insert("closed by a narrower policy".into(), closed as f64);
    ensure!(
        closed == flows.closing(),
        "flows closed that the new policy allows"
    );
    Ok(())
}

/// Reads and compiles another version of a policy and puts it in force. Gives back how many subjects have another rulebook
/// now, and how many flows were closed.
fn publish(
    table: &LeaseTable,
    flows: &Flows,
    shared: &Arc<World>,
    policy: usize,
    text: &str,
    pack: &Arc<tidegate_policy::rulebook::RuleList>,
) -> Result<(usize, usize)> {
    let compiled = world::compile(policy, 2, text, pack)?;
    let mut attached = table.policies().attached.clone();
    attached.insert(world::scope(policy), world::attached(&compiled));
    let set = PolicySet {
        world: Arc::clone(shared),
        attached,
        ..PolicySet::default()
    };
    let report = table.set_policies(Arc::new(set));
    let closed = report
        .swapped
        .iter()
        .map(|subject| flows.registry.rejudge_subject(subject.id))
        .sum();
    Ok((report.swapped.len(), closed))
}
