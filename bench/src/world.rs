//! A gateway's world at size: many policies of their own endpoints, each attached to a repository, and the leases of its jobs.
//!
//! Owns what "1 000 policies of 200 endpoints, 10 000 leases" is made of, so that every benchmark means the same by it.
//! Measures nothing.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hashbrown::HashMap;
use tidegate_policy::Moment;
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::{ParseOptions, PolicyDocument, platform};
use tidegate_policy::effective::{Attached, Generation, PolicySet, Slot};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::lease::{Credential, LeaseTable, Registration, TokenScope};
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList, World};
use tidegate_policy::subject::{Network, RunnerKind};

/// When everything begins.
pub const START: Moment = Moment::from_millis(0);
/// How long leases last.
pub const DAY: Duration = Duration::from_hours(24);

/// The platform pack, compiled once for all policies.
pub fn pack() -> Arc<RuleList> {
    let endpoints = platform::pack().endpoints.iter();
    Arc::new(RuleList::compile(
        endpoints.map(|one| (one, RuleSource::Platform)),
    ))
}

/// Host `host` that policy `policy` allows.
pub fn host(policy: usize, host: usize) -> String {
    format!("host-{host}.service-{policy}.bench.example")
}

/// Policy number `policy` as written: block, and these many hosts on port 443.
pub fn text(policy: usize, endpoints: usize) -> String {
    let mut text = String::from("egress-policy: block\nallowed-endpoints:\n");
    for number in 0..endpoints {
        // Writing to a String can't fail.
        let _ = writeln!(text, "  - {}:443", host(policy, number));
    }
    text
}

/// Reads and compiles a policy.
pub fn compile(policy: usize, version: u32, text: &str, pack: &Arc<RuleList>) -> Result<Arc<CompiledPolicy>> {
    let document = PolicyDocument::parse(text, &ParseOptions::default())
        .document
        .context("the policy is wrong")?;
    let meta = PolicyMeta {
        id: format!("policy-{policy}").into(),
        name: format!("policy-{policy}").into(),
        version,
    };
    Ok(Arc::new(CompiledPolicy::compile(
        &document,
        meta,
        &HashMap::new(),
        pack,
    )?))
}

/// The scope of policy number `policy`.
pub fn scope(policy: usize) -> Scope {
    Scope::Repository(format!("acme/service-{policy}").into())
}

/// What stands at a scope: this policy, for everybody.
pub fn attached(policy: &Arc<CompiledPolicy>) -> Attached {
    Attached::always(Slot::Policy(Arc::clone(policy)), None)
}

/// Every policy at the scope of its number.
pub fn policies(world: &Arc<World>, compiled: &[Arc<CompiledPolicy>]) -> PolicySet {
    let at_scope = |(number, policy)| (scope(number), attached(policy));
    PolicySet {
        world: Arc::clone(world),
        attached: compiled.iter().enumerate().map(at_scope).collect(),
        ..PolicySet::default()
    }
}

/// Source address of lease number `lease`.
pub fn source(lease: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0001 + lease as u32).into()
}

/// A table without leases, of one network for all of [`source`].
pub fn table(policies: PolicySet) -> LeaseTable {
    let network = Network {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: vec!["10.0.0.0/8".parse().expect("a range")],
        runners: RunnerKind::Ephemeral,
        min_assurance: None,
        adjacent: false,
    };
    LeaseTable::new(vec![network], Arc::new(policies))
}

/// A job of the repository of `policy`, at the source of its number.
pub fn registration(lease: usize, policy: usize) -> Registration {
    Registration {
        id: format!("job_01j9z{lease:08}").into(),
        sources: vec![source(lease)],
        mac: None,
        identity: JobIdentity {
            owner: "acme".into(),
            repo: format!("acme/service-{policy}").into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: lease.to_string().into(),
            run_attempt: 1,
            runner_name: format!("runner-{lease}").into(),
            cluster: "prod".into(),
            event: "push".into(),
            git_ref: "refs/heads/main".into(),
            actor: "someone".into(),
            head_repo: "".into(),
            assurance: Assurance::Declared,
        },
        began: Generation(1),
        lifetime: DAY,
        credential: Credential::RunnerToken(TokenScope::default()),
    }
}
