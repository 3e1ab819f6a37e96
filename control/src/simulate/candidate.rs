//! A candidate: the rulebook that its jobs would be judged by.

use std::sync::Arc;

use hashbrown::HashMap;
use tidegate_policy::compile::block::GlobalBlocks;
use tidegate_policy::compile::rules::RuleSource;
use tidegate_policy::document::{EndpointSet, PolicyDocument, platform};
use tidegate_policy::job::Scope;
use tidegate_policy::rulebook::{
    CompileError, CompiledPolicy, Destination, Governing, PolicyMeta, RuleList, Rulebook, World,
};
use tidegate_policy::verdict::Mode;

/// What no stored policy's id looks like.
pub(super) const ID: &str = "the candidate";

/// A policy that is tried.
#[derive(Debug)]
pub struct Candidate {
    pub(super) policy: Arc<CompiledPolicy>,
    /// What its jobs would be judged by.
    pub(super) book: Rulebook,
    /// The same where an address that was never given for a name stays refused.
    pub(super) ticketed: Rulebook,
}

impl Candidate {
    /// Compiles a policy for jobs in `scope`. What is refused to everybody stays so.
    pub fn new(
        document: &PolicyDocument,
        sets: &HashMap<String, EndpointSet>,
        scope: &Scope,
        global: GlobalBlocks,
    ) -> Result<Self, CompileError> {
        let pack = platform::pack().endpoints.iter();
        let pack = Arc::new(RuleList::compile(pack.map(|one| (one, RuleSource::Platform))));
        let meta = PolicyMeta {
            id: ID.into(),
            name: ID.into(),
            version: 0,
        };
        let policy = Arc::new(CompiledPolicy::compile(document, meta, sets, &pack)?);
        let book = |destination| Rulebook {
            world: Arc::new(World {
                global: global.clone(),
                destination,
                ..World::default()
            }),
            governing: Governing::Policy(Arc::clone(&policy), scope.clone()),
            host: None,
        };
        Ok(Self {
            book: book(Destination::Resolve),
            ticketed: book(Destination::TicketOnly),
            policy,
        })
    }

    /// Whether it would carry refusals out.
    pub fn mode(&self) -> Mode {
        self.book.mode()
    }
}
