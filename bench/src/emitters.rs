//! Jobs whose flows are told as events: what the benchmarks of events emit.
//!
//! Owns how such an event looks, so that both mean the same by one: a flow of a job to one of its names, as the flow path makes
//! it. Measures nothing.

use std::sync::Arc;

use tidegate_policy::DnsName;
use tidegate_policy::compile::rules::{RuleRef, RuleSource, RuleTable};
use tidegate_policy::document::{ParseOptions, PolicyDocument};
use tidegate_policy::event::{EventId, EventIds, JobRecord, Kind, NameSource, NetworkEvent};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::rulebook::{CompiledPolicy, Governing, PolicyMeta, RuleList, Rulebook, World};
use tidegate_policy::subject::{Network, RunnerKind, Standing, Subject};
use tidegate_policy::verdict::{Judgement, Reason, Refusal};

/// Names that each job reaches, and one event in so many that is a refusal.
const NAMES: usize = 150;
const REFUSED: usize = 50;

/// Jobs, and what their flows say.
pub struct Emitters {
    subjects: Vec<Subject>,
    names: Vec<DnsName>,
    permit: Judgement,
    refuse: Judgement,
    /// Where ids come from when there is no sink.
    pub ids: EventIds,
}

impl Emitters {
    /// So many jobs.
    pub fn new(jobs: usize) -> Self {
        let document = PolicyDocument::parse(
            "allowed-endpoints:\n- '*.bench.example:443'\n",
            &ParseOptions::default(),
        )
        .document
        .expect("a policy");
        let meta = PolicyMeta {
            id: "web".into(),
            name: "web".into(),
            version: 3,
        };
        let pack = Arc::new(RuleList::compile([]));
        let policy =
            CompiledPolicy::compile(&document, meta, &hashbrown::HashMap::new(), &pack).expect("it compiles");
        let book = Arc::new(Rulebook {
            world: Arc::new(World::default()),
            governing: Governing::Policy(Arc::new(policy), Scope::Workflow("acme/service/ci.yml".into())),
            host: None,
        });
        let network = Arc::new(Network {
            name: "runners".into(),
            cluster: "prod".into(),
            ranges: Vec::new(),
            runners: RunnerKind::Ephemeral,
            min_assurance: None,
            adjacent: false,
        });
        let subject = |n| {
            Subject::new(
                Arc::clone(&network),
                Some(record(n)),
                Standing::Leased,
                Arc::clone(&book),
            )
        };
        let mut rules = RuleTable::builder();
        let rule = rules.push("*.bench.example:443", 2, RuleSource::Policy);
        let rule = RuleRef::new(&Arc::new(rules.finish()), rule);
        Self {
            subjects: (0..jobs).map(subject).collect(),
            names: (0..NAMES)
                .map(|n| DnsName::parse(&format!("host-{n}.bench.example")).expect("a name"))
                .collect(),
            permit: Judgement::Permit(Some(rule)),
            refuse: Judgement::Refuse(Refusal::because(Reason::NotAllowed)),
            ids: EventIds::new(1),
        }
    }

    /// The n-th event, of this job, made as the flow path makes its own.
    pub fn event(&self, id: EventId, job: usize, n: usize) -> NetworkEvent {
        let source = [10, 77, (job / 256) as u8, (job % 256) as u8].into();
        let mut event = self.subjects[job].event(id, Kind::Tls, source);
        event.judged(if n.is_multiple_of(REFUSED) {
            &self.refuse
        } else {
            &self.permit
        });
        event.source_port = 40_000 + (n % 20_000) as u16;
        event.name = Some(self.names[n % NAMES].clone());
        event.name_source = NameSource::Sni;
        event.address = Some([192, 0, 2, (n % NAMES) as u8].into());
        event.port = 443;
        (event.bytes_up, event.bytes_down, event.duration_ms) = (1_234, 56_789, 321);
        event
    }
}

fn record(number: usize) -> Arc<JobRecord> {
    Arc::new(JobRecord {
        id: format!("job_01k7x0000000000000000{number:05}").into(),
        identity: JobIdentity {
            owner: "acme".into(),
            repo: format!("acme/service-{}", number % 40).into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: "19283746501".into(),
            run_attempt: 1,
            runner_name: "runner-17".into(),
            cluster: "prod".into(),
            event: "push".into(),
            git_ref: "refs/heads/main".into(),
            actor: "octo".into(),
            head_repo: "".into(),
            assurance: Assurance::Signed,
        },
    })
}
