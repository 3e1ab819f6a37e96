//! The candidate in its place: which jobs it would govern, and the rulebook that they would be judged by.

use std::sync::Arc;

use compact_str::CompactString;
use hashbrown::HashMap;
use thiserror::Error;
use tidegate_policy::compile::block::GlobalBlocks;
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::{EndpointSet, PolicyDocument, platform};
use tidegate_policy::effective::{Attached, Generation, PolicySet, Slot};
use tidegate_policy::job::{JobIdentity, Scope};
use tidegate_policy::rulebook::{
    CompileError, CompiledPolicy, Destination, Governing, PolicyMeta, RuleList, Rulebook, World,
};
use tidegate_policy::verdict::Mode;

/// What no stored policy's id looks like.
const ID: &str = "the candidate";

/// A policy that is tried.
#[derive(Debug)]
pub struct Candidate {
    /// Every attachment there is, with the candidate in its scopes.
    policies: PolicySet,
    /// What its jobs would be judged by.
    pub(super) book: Rulebook,
    /// The same where an address that was never given for a name stays refused.
    pub(super) ticketed: Rulebook,
    governed: HashMap<[CompactString; 4], bool>,
}

/// Why a policy can't be tried.
#[derive(Debug, Error)]
pub enum CandidateError {
    /// It can't be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It stands nowhere.
    #[error("it is attached to nothing; say to which scopes it is to be attached")]
    Nowhere,
}

impl Candidate {
    /// Puts a policy into `scopes`, beside everything that is `attached`. What is refused to everybody stays so.
    pub fn new(
        document: &PolicyDocument,
        sets: &HashMap<String, EndpointSet>,
        scopes: &[Scope],
        attached: &HashMap<Scope, Attached>,
        global: GlobalBlocks,
    ) -> Result<Self, CandidateError> {
        let first = scopes.first().ok_or(CandidateError::Nowhere)?;
        let pack = platform::pack().endpoints.iter();
        let pack = Arc::new(RuleList::compile(pack.map(|one| (one, RuleSource::Platform))));
        let meta = PolicyMeta {
            id: ID.into(),
            name: ID.into(),
            version: 0,
        };
        let policy = Arc::new(CompiledPolicy::compile(document, meta, sets, &pack)?);
        let mut attached = attached.clone();
        for scope in scopes {
            let place = Attached::always(Slot::Policy(Arc::clone(&policy)), None);
            attached.insert(scope.clone(), place);
        }
        let book = |destination| Rulebook {
            world: Arc::new(World {
                global: global.clone(),
                destination,
                ..World::default()
            }),
            governing: Governing::Policy(Arc::clone(&policy), first.clone()),
            host: None,
        };
        Ok(Self {
            book: book(Destination::Resolve),
            ticketed: book(Destination::TicketOnly),
            policies: PolicySet {
                attached,
                ..PolicySet::default()
            },
            governed: HashMap::new(),
        })
    }

    /// Whether precedence would pick the candidate for a job.
    pub fn governs(&mut self, job: &JobIdentity) -> bool {
        let key = [&job.owner, &job.repo, &job.workflow, &job.cluster].map(Clone::clone);
        let policies = &self.policies;
        *self.governed.entry(key).or_insert_with(|| {
            let facets = policies.facets(job, Generation::NEWEST);
            facets.egress.is_some_and(|decider| decider.policy.meta.id == ID)
        })
    }

    /// Whether it would carry refusals out.
    pub fn mode(&self) -> Mode {
        self.book.mode()
    }
}
