//! The compiled matchers alone: lookups at 10 to 1 000 000 rules, compilation, memory a rule.
//!
//! Owns the numbers under "Policy matchers" in `bench/README.md`. Run by `cargo bench -p tidegate-bench
//! --bench policy`. A lookup asks for a name copied afresh, as if it came from a packet. `find_hit` draws from 256
//! of the list's names, as jobs that fetch the same dependencies do; `find_hit_cold` draws from all, so that at a
//! million rules every lookup waits for memory.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use tidegate_bench::lists::{Random, Written, under, unlisted, written};
use tidegate_policy::DnsName;
use tidegate_policy::compile::block::GlobalBlock;
use tidegate_policy::compile::matcher::Matcher;
use tidegate_policy::compile::names::NameTrie;
use tidegate_policy::compile::nets::NetTrie;
use tidegate_policy::compile::rules::{RuleId, RuleSource, RuleTable};
use tidegate_policy::endpoint::{NamePattern, Ports, Protocols, Transport};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 4] = [10, 1_000, 100_000, 1_000_000];
const MILLION: usize = 1_000_000;
/// Lookups timed together; small enough to leave the caches to the trie.
const BATCH: u32 = 128;
const SAMPLES: u32 = 400;

fn main() {
    report_memory();
    divan::main();
}

fn million() -> &'static [Written] {
    static WRITTEN: OnceLock<Vec<Written>> = OnceLock::new();
    WRITTEN.get_or_init(|| written().take(MILLION).collect())
}

fn rules(count: usize) -> Vec<(NamePattern, Ports, Protocols, RuleId)> {
    let rule = |(at, one): (usize, &Written)| {
        let ports = if at % 20 == 0 {
            Ports::one(8443)
        } else {
            Ports::one(443)
        };
        let pattern = NamePattern {
            below: one.below,
            ..NamePattern::exact(&one.name)
        };
        (pattern, ports, Protocols::Tcp, RuleId(at as u32))
    };
    million().iter().take(count).enumerate().map(rule).collect()
}

fn trie(count: usize) -> &'static NameTrie {
    static TRIES: [OnceLock<NameTrie>; 4] = [const { OnceLock::new() }; 4];
    let at = SIZES
        .iter()
        .position(|size| *size == count)
        .expect("one of the sizes");
    TRIES[at].get_or_init(|| NameTrie::build(rules(count)))
}

fn block() -> &'static GlobalBlock {
    static BLOCK: OnceLock<GlobalBlock> = OnceLock::new();
    BLOCK.get_or_init(|| GlobalBlock::build(million().iter().map(Written::block)))
}

/// Bytes a rule of everything that stays in memory.
fn report_memory() {
    for count in [1_000, 100_000, MILLION] {
        let trie = trie(count);
        let mut table = RuleTable::builder();
        for one in million().iter().take(count) {
            table.push(&one.endpoint(), 1, RuleSource::Policy);
        }
        let (names, texts) = (trie.heap_bytes(), table.finish().heap_bytes());
        let each = |bytes: usize| bytes as f64 / count as f64;
        println!(
            "{count} rules: trie {:.1} bytes a rule ({:.2} nodes a rule), texts and lines {:.1}",
            each(names),
            each(trie.nodes()),
            each(texts)
        );
    }
    println!(
        "global block list of {MILLION} names: {:.1} bytes a name",
        block().heap_bytes() as f64 / MILLION as f64
    );
}

/// A fresh copy of a name that the first `count` rules match.
fn matched(random: &mut Random, count: usize) -> DnsName {
    million()[random.below(count)].matched()
}

/// Names in turn: the same few of all that the list has.
#[divan::bench(args = SIZES, sample_count = SAMPLES, sample_size = BATCH)]
fn find_hit(bencher: Bencher<'_, '_>, count: usize) {
    let (trie, mut random) = (trie(count), Random(1));
    let few: Vec<DnsName> = (0..256).map(|_| matched(&mut random, count)).collect();
    bencher
        .with_inputs(move || under(&[], &few[random.below(few.len())]))
        .bench_local_refs(|name| black_box(trie.find(name, 443, Transport::Tcp)));
}

#[divan::bench(args = SIZES, sample_count = SAMPLES, sample_size = BATCH)]
fn find_hit_cold(bencher: Bencher<'_, '_>, count: usize) {
    let (trie, mut random) = (trie(count), Random(1));
    bencher
        .with_inputs(move || matched(&mut random, count))
        .bench_local_refs(|name| black_box(trie.find(name, 443, Transport::Tcp)));
}

#[divan::bench(args = SIZES, sample_count = SAMPLES, sample_size = BATCH)]
fn find_miss(bencher: Bencher<'_, '_>, count: usize) {
    let (trie, mut random) = (trie(count), Random(2));
    bencher
        .with_inputs(move || unlisted(&mut random))
        .bench_local_refs(|name| black_box(trie.find(name, 443, Transport::Tcp)));
}

/// Six labels before a listed name: below a wildcard or below nothing.
#[divan::bench(args = SIZES, sample_count = SAMPLES, sample_size = BATCH)]
fn find_deep(bencher: Bencher<'_, '_>, count: usize) {
    let (trie, mut random) = (trie(count), Random(3));
    bencher
        .with_inputs(move || {
            under(
                &["a", "b", "c", "d", "e", "f"],
                &million()[random.below(count)].name,
            )
        })
        .bench_local_refs(|name| black_box(trie.find(name, 443, Transport::Tcp)));
}

/// What a DNS query asks: is any port left of this name.
#[divan::bench(args = [1_000, MILLION], sample_count = SAMPLES, sample_size = BATCH)]
fn any_port_permitted(bencher: Bencher<'_, '_>, count: usize) {
    let (mut random, denied) = (Random(4), Matcher::default());
    let matcher = Matcher {
        names: NameTrie::build(rules(count)),
        ..Matcher::default()
    };
    bencher
        .with_inputs(move || matched(&mut random, count))
        .bench_local_refs(|name| black_box(matcher.any_port_permitted(name, &denied)));
}

/// What a refusal asks besides: the NODATA question and the nearest rule.
#[divan::bench(args = [1_000, MILLION], sample_count = 100, sample_size = 32)]
fn refusal_nearest(bencher: Bencher<'_, '_>, count: usize) {
    let (trie, mut random) = (trie(count), Random(5));
    bencher
        .with_inputs(move || unlisted(&mut random))
        .bench_local_refs(|name| black_box((trie.has_descendant(name), trie.nearest(name))));
}

#[divan::bench(sample_count = SAMPLES, sample_size = BATCH)]
fn global_block_hit(bencher: Bencher<'_, '_>) {
    let (block, mut random) = (block(), Random(6));
    bencher
        .with_inputs(move || matched(&mut random, MILLION))
        .bench_local_refs(|name| black_box(block.find_name(name)));
}

#[divan::bench(sample_count = SAMPLES, sample_size = BATCH)]
fn global_block_miss(bencher: Bencher<'_, '_>) {
    let (block, mut random) = (block(), Random(7));
    bencher
        .with_inputs(move || unlisted(&mut random))
        .bench_local_refs(|name| black_box(block.find_name(name)));
}

#[divan::bench(args = [10, 1_000, 100_000], sample_count = SAMPLES, sample_size = BATCH)]
fn find_address(bencher: Bencher<'_, '_>, count: usize) {
    let mut random = Random(8);
    let net = |at: usize, random: &mut Random| {
        let prefix = [8, 16, 20, 24, 24, 24, 32][random.below(7)];
        let address = IpAddr::V4(Ipv4Addr::from_bits(random.number() as u32));
        let net = ipnet::IpNet::new(address, prefix).expect("a prefix of IPv4");
        (net, Ports::one(443), Protocols::Tcp, RuleId(at as u32))
    };
    let trie = NetTrie::build((0..count).map(|at| net(at, &mut random)));
    bencher
        .with_inputs(move || IpAddr::V4(Ipv4Addr::from_bits(random.number() as u32)))
        .bench_local_values(|address| black_box(trie.find(address, 443, Transport::Tcp)));
}

#[divan::bench(args = [100_000, MILLION], sample_count = 7, sample_size = 1)]
fn compile_names(bencher: Bencher<'_, '_>, count: usize) {
    bencher
        .with_inputs(move || rules(count))
        .input_counter(|rules| ItemsCount::new(rules.len()))
        .bench_local_values(NameTrie::build);
}

#[divan::bench(sample_count = 7, sample_size = 1)]
fn compile_global_block(bencher: Bencher<'_, '_>) {
    bencher
        .with_inputs(move || million().iter().map(Written::block).collect::<Vec<_>>())
        .input_counter(|entries| ItemsCount::new(entries.len()))
        .bench_local_values(GlobalBlock::build);
}
