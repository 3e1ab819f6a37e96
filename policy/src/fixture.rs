//! What the tests of this crate share: policies from text, jobs, networks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::Moment;
use crate::compile::block::{GlobalBlock, GlobalBlocks};
use crate::compile::rules::RuleSource;
use crate::document::blocklist::BlockList;
use crate::document::{EndpointSet, ParseOptions, PolicyDocument, platform};
use crate::job::{Assurance, JobIdentity, Scope};
use crate::name::DnsName;
use crate::rulebook::{CompiledPolicy, Governing, PolicyMeta, RuleList, Rulebook, World};
use crate::subject::{Network, RunnerKind};

pub(crate) fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) const fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1_000)
}

/// A compiled policy; `platform: none` unless the text says otherwise.
pub(crate) fn policy(text: &str) -> Arc<CompiledPolicy> {
    policy_with("policy", text, &[])
}

pub(crate) fn policy_with(called: &str, text: &str, sets: &[(&str, &str)]) -> Arc<CompiledPolicy> {
    let platform = if text.contains("platform:") {
        ""
    } else {
        "platform: none\n"
    };
    let parsed = PolicyDocument::parse(&format!("{platform}{text}"), &ParseOptions::default());
    let document = parsed
        .document
        .unwrap_or_else(|| panic!("{text}: {:?}", parsed.diagnostics));
    let read = |(name, text): &(&str, &str)| {
        (
            String::from(*name),
            EndpointSet::parse(text, &ParseOptions::default())
                .document
                .unwrap(),
        )
    };
    let sets: HashMap<String, EndpointSet> = sets.iter().map(read).collect();
    let meta = PolicyMeta {
        id: called.into(),
        name: called.into(),
        version: 1,
    };
    Arc::new(CompiledPolicy::compile(&document, meta, &sets, &pack()).unwrap())
}

pub(crate) fn pack() -> Arc<RuleList> {
    let endpoints = platform::pack()
        .endpoints
        .iter()
        .map(|one| (one, RuleSource::Platform));
    Arc::new(RuleList::compile(endpoints))
}

/// A world with this global block list.
pub(crate) fn world(blocked: &str) -> World {
    let entries = BlockList::parse(blocked).entries.into_iter().map(|one| one.entry);
    World {
        global: GlobalBlocks::new([Arc::new(GlobalBlock::build(entries))]),
        ..World::default()
    }
}

/// What a job under this policy is judged by, in this world.
pub(crate) fn book_in(world: World, text: &str) -> Rulebook {
    let governing = Governing::Policy(policy(text), Scope::Repository("acme/web".into()));
    Rulebook {
        world: Arc::new(world),
        governing,
        host: None,
    }
}

pub(crate) fn book(text: &str) -> Rulebook {
    book_in(World::default(), text)
}

pub(crate) fn network(name: &str, ranges: &[&str]) -> Network {
    Network {
        name: name.into(),
        cluster: "prod".into(),
        ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        runners: RunnerKind::Ephemeral,
        min_assurance: None,
        adjacent: false,
    }
}

pub(crate) fn job(repo: &str, run: &str) -> JobIdentity {
    let owner = repo.split('/').next().unwrap_or_default();
    JobIdentity {
        owner: owner.into(),
        repo: repo.into(),
        workflow: "ci.yml".into(),
        job: "build".into(),
        run_id: run.into(),
        run_attempt: 1,
        runner_name: "runner-1".into(),
        cluster: "".into(),
        event: "push".into(),
        git_ref: "refs/heads/main".into(),
        actor: "someone".into(),
        head_repo: "".into(),
        assurance: Assurance::Claimed,
    }
}
