//! The lease table and precedence at fleet size: what a change of policy costs a gateway that holds 10 000 leases.
//!
//! Owns the numbers under "Leases and policies" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench
//! leases`. Judging the open flows of the swapped subjects again is the proxy's work and not in here.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use tidegate_bench::world::{self, START};
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::{ParseOptions, PolicyDocument, platform};
use tidegate_policy::effective::{Generation, PolicySet};
use tidegate_policy::job::Scope;
use tidegate_policy::lease::{LeaseTable, Party, Registration};
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LEASES: usize = 10_000;
/// Repositories that the leases are spread over, a policy attached to each.
const REPOSITORIES: usize = 100;

fn main() {
    divan::main();
}

/// A compiled policy of a hundred endpoints.
fn policy(version: u32) -> Arc<CompiledPolicy> {
    let endpoints: Vec<String> = (0..100)
        .map(|n| format!("- host-{n}.bench.example:443"))
        .collect();
    let text = format!("allowed-endpoints:\n{}\n", endpoints.join("\n"));
    let document = PolicyDocument::parse(&text, &ParseOptions::default())
        .document
        .expect("a policy");
    let pack = platform::pack()
        .endpoints
        .iter()
        .map(|one| (one, RuleSource::Platform));
    let meta = PolicyMeta {
        id: "bench".into(),
        name: "bench".into(),
        version,
    };
    let pack = Arc::new(RuleList::compile(pack));
    Arc::new(
        CompiledPolicy::compile(&document, meta, &hashbrown::HashMap::new(), &pack).expect("it compiles"),
    )
}

/// The organization's policy, and one of each repository that `own` counts.
fn policies(organization: &Arc<CompiledPolicy>, own: &Arc<CompiledPolicy>, repositories: usize) -> PolicySet {
    let of_repository = |n| (world::scope(n), world::attached(own));
    let mut set = PolicySet {
        attached: (0..repositories).map(of_repository).collect(),
        ..PolicySet::default()
    };
    set.attached
        .insert(Scope::Organization("acme".into()), world::attached(organization));
    set
}

/// A job of one of the repositories.
fn registration(n: usize) -> Registration {
    world::registration(n, n % REPOSITORIES)
}

/// A table with all leases.
fn table(policies: PolicySet) -> LeaseTable {
    let table = world::table(policies);
    for n in 0..LEASES {
        table.register(registration(n), START).expect("it is free");
    }
    table
}

/// One policy governs every lease, and changes.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn swap_the_policy_of_every_lease(bencher: Bencher<'_, '_>) {
    let (one, two) = (policy(1), policy(2));
    let table = table(policies(&one, &one, 0));
    let mut turn = 0;
    let next = move || {
        turn += 1;
        let policy = if turn % 2 == 1 { &two } else { &one };
        Arc::new(policies(policy, policy, 0))
    };
    bencher
        .with_inputs(next)
        .input_counter(|_| ItemsCount::new(LEASES))
        .bench_local_values(|set| assert_eq!(table.set_policies(set).swapped.len(), LEASES));
}

/// Each repository has a policy of its own, and the one of the organization, which governs nobody, changes: the
/// cost of finding that nothing changes.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn swap_a_policy_of_no_lease(bencher: Bencher<'_, '_>) {
    let (one, two) = (policy(1), policy(2));
    let table = table(policies(&one, &one, REPOSITORIES));
    let world = Arc::clone(&table.policies().world);
    let next = || {
        let mut set = policies(&two, &one, REPOSITORIES);
        set.world = Arc::clone(&world);
        Arc::new(set)
    };
    bencher
        .with_inputs(next)
        .input_counter(|_| ItemsCount::new(LEASES))
        .bench_local_values(|set| assert_eq!(table.set_policies(set).kept, LEASES));
}

/// A job more, previewed, registered and ended, beside all the others.
#[divan::bench(sample_count = 100, sample_size = 32)]
fn preview_register_and_end(bencher: Bencher<'_, '_>) {
    let one = policy(1);
    let table = table(policies(&one, &one, REPOSITORIES));
    let next = AtomicU32::new(LEASES as u32);
    bencher
        .with_inputs(|| registration(next.fetch_add(1, Ordering::Relaxed) as usize))
        .bench_local_values(|request| {
            let id = request.id.clone();
            black_box(table.preview(&request, START)).expect("it is free");
            table.register(request, START).expect("it is free");
            table.end(&id, &Party::Operator, START).expect("it is there")
        });
}

/// Which policy is effective, and why, among 10 000 attached ones.
#[divan::bench]
fn effective_by_facet(bencher: Bencher<'_, '_>) {
    let one = policy(1);
    let (set, job) = (policies(&one, &one, 10_000), registration(7).identity);
    bencher.bench_local(|| black_box(set.facets(black_box(&job), Generation::NEWEST)));
}
