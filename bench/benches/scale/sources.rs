//! A lease table of a size: what a lease takes, and how long it takes to find whose a source is. Driven by [`super`].

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Result;
use tidegate_bench::lists::{Random, written};
use tidegate_bench::world::{self, DAY, START};
use tidegate_policy::rulebook::World;
use tidegate_policy::ticket::Grant;

use super::{Figures, once, rss, time};

/// Policies that the leases are spread over, one in ten of them at most.
const POLICIES: usize = 100;
const ENDPOINTS: usize = 100;
/// Names that a job holds a ticket for.
const TICKETS: usize = 20;
const HOT: usize = 256;

/// Leases of one network, each of one source.
pub(super) fn leases(size: usize) -> Result<Figures> {
    let mut figures = Figures::new();
    let pack = world::pack();
    let policies = POLICIES.min(size);
    let compile = |policy| world::compile(policy, 1, &world::text(policy, ENDPOINTS), &pack);
    let compiled: Vec<_> = (0..policies).map(compile).collect::<Result<_>>()?;
    let table = world::table(world::policies(&Arc::new(World::default()), &compiled));
    let names: Vec<_> = written().take(TICKETS).map(|one| one.name).collect();
    let addresses: Vec<IpAddr> = (0..TICKETS as u8)
        .map(|host| Ipv4Addr::new(192, 0, 2, host).into())
        .collect();

    let before = rss()?;
    let (outcome, took) = once(|| {
        (0..size).try_for_each(|lease| {
            table
                .register(world::registration(lease, lease % policies), START)
                .map(drop)
        })
    });
    outcome?;
    figures.insert("register µs".into(), took.as_secs_f64() * 1e6 / size as f64);
    // The first packet of a source puts it beside the lock that every packet takes.
    for lease in 0..size {
        black_box(table.lookup(world::source(lease), START));
    }
    let leased = rss()?;
    figures.insert("leases".into(), leased - before);

    let mut random = Random(1);
    let found = |source: &IpAddr| black_box(table.lookup(*source, START)).job().is_some();
    time(
        &mut figures,
        "hot",
        || world::source(random.below(HOT.min(size)) * (size / HOT.min(size))),
        |source| assert!(found(source)),
    );
    time(
        &mut figures,
        "cold",
        || world::source(random.below(size)),
        |source| assert!(found(source)),
    );

    let before = rss()?;
    for lease in 0..size {
        let subject = table.lookup(world::source(lease), START);
        for (name, address) in names.iter().zip(&addresses) {
            let grant = Grant {
                asked: name,
                chain: &[],
                addresses: std::slice::from_ref(address),
                ttl: DAY,
            };
            subject.tickets().grant(&grant, DAY, START);
        }
    }
    figures.insert("tickets".into(), rss()? - before);
    figures.insert("tickets a lease".into(), TICKETS as f64);
    Ok(figures)
}
