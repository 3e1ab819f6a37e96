//! The lease table and precedence at fleet size: what a change of policy costs a gateway that holds 10 000 leases.
//!
//! Owns the numbers under "Leases and policies" in `bench/README.md`. Run by `cargo bench -p tidegate-bench --bench
//! leases`. Judging the open flows of the swapped subjects again is the proxy's work and not in here.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use tidegate_policy::Moment;
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::{ParseOptions, PolicyDocument, platform};
use tidegate_policy::effective::{Attached, Generation, PolicySet, Slot};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::lease::{Credential, LeaseTable, Party, Registration, TokenScope};
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList};
use tidegate_policy::subject::{Network, RunnerKind};

/// The allocator that the gateway runs on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LEASES: usize = 10_000;
/// Repositories that the leases are spread over, a policy attached to each.
const REPOSITORIES: usize = 100;
const START: Moment = Moment::from_millis(0);
const DAY: Duration = Duration::from_hours(24);

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

fn repository(n: usize) -> String {
    format!("acme/service-{n}")
}

/// The organization's policy, and one of each repository that `own` counts.
fn policies(organization: &Arc<CompiledPolicy>, own: &Arc<CompiledPolicy>, repositories: usize) -> PolicySet {
    let attached = |policy: &Arc<CompiledPolicy>| Attached::always(Slot::Policy(Arc::clone(policy)), None);
    let of_repository = |n| (Scope::Repository(repository(n).into()), attached(own));
    let mut set = PolicySet {
        attached: (0..repositories).map(of_repository).collect(),
        ..PolicySet::default()
    };
    set.attached
        .insert(Scope::Organization("acme".into()), attached(organization));
    set
}

fn identity(n: usize) -> JobIdentity {
    JobIdentity {
        owner: "acme".into(),
        repo: repository(n % REPOSITORIES).into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: n.to_string().into(),
        run_attempt: 1,
        runner_name: "runner".into(),
        cluster: "prod".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        actor: "someone".into(),
        head_repo: "".into(),
        assurance: Assurance::Declared,
    }
}

fn registration(n: usize) -> Registration {
    let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + n as u32));
    Registration {
        id: format!("lease-{n}").into(),
        sources: vec![source],
        mac: None,
        identity: identity(n),
        began: Generation(1),
        lifetime: DAY,
        credential: Credential::RunnerToken(TokenScope::default()),
    }
}

/// A table with all leases.
fn table(policies: PolicySet) -> LeaseTable {
    let network = Network {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: vec!["10.0.0.0/8".parse().expect("a range")],
        runners: RunnerKind::Ephemeral,
        min_assurance: None,
        adjacent: false,
    };
    let table = LeaseTable::new(vec![network], Arc::new(policies));
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
    let (set, job) = (policies(&one, &one, 10_000), identity(7));
    bencher.bench_local(|| black_box(set.facets(black_box(&job), Generation::NEWEST)));
}
