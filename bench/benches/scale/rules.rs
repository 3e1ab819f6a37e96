//! One allow list or one global block list of a size: lookups, memory, compile time. Driven by [`super`].

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hashbrown::HashMap;
use tidegate_bench::lists::{Random, Written, unlisted, written};
use tidegate_bench::world::{START, pack};
use tidegate_policy::DnsName;
use tidegate_policy::compile::block::{GlobalBlock, GlobalBlocks};
use tidegate_policy::document::{ParseOptions, PolicyDocument, SourcedEndpoint};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::endpoint::parse::{Role, parse_endpoint};
use tidegate_policy::judge::query::{judge_query, rtype};
use tidegate_policy::rulebook::{CompiledPolicy, Governing, PolicyMeta, Rulebook, World};
use tidegate_policy::ticket::TicketTable;

use super::{Figures, once, rss, time};

/// Names that the same few jobs ask for again and again.
const HOT: usize = 256;

/// A policy with that many allowed endpoints, texts and lines included, and the platform pack beside it.
pub(super) fn allow(size: usize) -> Result<Figures> {
    let mut figures = Figures::new();
    let pack = pack();
    let mut document = PolicyDocument::parse(
        "egress-policy: block\nallowed-endpoints: x.example\n",
        &ParseOptions::default(),
    )
    .document
    .context("a policy")?;
    document.allowed_endpoints = written().take(size).zip(2..).map(sourced).collect();
    let meta = PolicyMeta {
        id: "scale".into(),
        name: "scale".into(),
        version: 1,
    };
    let (compiled, took) = once(|| CompiledPolicy::compile(&document, meta, &HashMap::new(), &pack));
    let compiled = compiled?;
    figures.insert("compile ms".into(), took.as_secs_f64() * 1e3);
    drop(document);
    figures.insert("heap".into(), compiled.allowed().heap_bytes() as f64);
    figures.insert("rss".into(), rss()?);
    let book = Rulebook {
        world: Arc::new(World::default()),
        governing: Governing::Policy(Arc::new(compiled), tidegate_bench::world::scope(0)),
        host: None,
    };
    let (policy, _) = book.policy().context("a policy governs")?;
    let list = policy.allowed();
    let found = |name: &DnsName| black_box(list.find_name(name, 443, Transport::Tcp)).is_some();
    let mut names = Names::new(size);
    time(&mut figures, "hot", || names.hot(), |name| assert!(found(name)));
    time(&mut figures, "cold", || names.cold(), |name| assert!(found(name)));
    time(
        &mut figures,
        "miss",
        || names.missing(),
        |name| assert!(!found(name)),
    );
    let tickets = TicketTable::default();
    let judged = |name: &DnsName| {
        judge_query(&book, name, rtype::A, &tickets, START)
            .judgement
            .refusal()
            .is_none()
    };
    time(
        &mut figures,
        "query permitted",
        || names.hot(),
        |name| assert!(judged(name)),
    );
    time(
        &mut figures,
        "query refused",
        || names.missing(),
        |name| assert!(!judged(name)),
    );
    time(
        &mut figures,
        "nearest rule found",
        || names.missing(),
        |name| drop(black_box(list.nearest(name))),
    );
    Ok(figures)
}

/// A global block list of that many names, above a policy that allows nothing of them.
pub(super) fn block(size: usize) -> Result<Figures> {
    let mut figures = Figures::new();
    let before = rss()?;
    let (list, took) = once(|| GlobalBlock::build(written().take(size).map(|one| one.block())));
    figures.insert("compile ms".into(), took.as_secs_f64() * 1e3);
    figures.insert("heap".into(), list.heap_bytes() as f64);
    figures.insert("rss".into(), rss()? - before);
    let list = GlobalBlocks::new([Arc::new(list)]);
    let found = |name: &DnsName| black_box(list.find_name(name)).is_some();
    let mut names = Names::new(size);
    time(&mut figures, "hot", || names.hot(), |name| assert!(found(name)));
    time(&mut figures, "cold", || names.cold(), |name| assert!(found(name)));
    time(
        &mut figures,
        "miss",
        || names.missing(),
        |name| assert!(!found(name)),
    );
    Ok(figures)
}

fn sourced((one, line): (Written, u32)) -> SourcedEndpoint {
    let text = one.endpoint();
    let (endpoint, _) = parse_endpoint(&text, Role::Allowed).expect("an endpoint");
    SourcedEndpoint {
        endpoint,
        text,
        line,
        column: 5,
    }
}

/// Names to ask for, each copied afresh as from a packet.
struct Names {
    random: Random,
    all: Vec<Written>,
}

impl Names {
    fn new(size: usize) -> Self {
        Self {
            random: Random(1),
            all: written().take(size).collect(),
        }
    }

    fn hot(&mut self) -> DnsName {
        let few = HOT.min(self.all.len());
        let at = self.random.below(few) * (self.all.len() / few);
        self.all[at].matched()
    }

    fn cold(&mut self) -> DnsName {
        let at = self.random.below(self.all.len());
        self.all[at].matched()
    }

    fn missing(&mut self) -> DnsName {
        unlisted(&mut self.random)
    }
}
