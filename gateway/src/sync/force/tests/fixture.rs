//! What the tests of putting batches in force begin with: a gateway of tables and a folder, and records by their names.

use std::net::IpAddr;
use std::path::Path;

use parking_lot::Mutex;
use tidegate_control_wire::frame::RefusedLease;
use tidegate_control_wire::record::{
    Change, CredentialKind, Ending, LeaseRecord, PolicyRecord, VersionRecord,
};
use tidegate_policy::Moment;
use tidegate_policy::effective::Generation;
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::lease::LeaseTable;
use tidegate_policy::rulebook::Governing;
use tidegate_policy::special::NeverDial;
use tidegate_policy::subject::{Network, RunnerKind, Standing};
use tidegate_policy::verdict::Reason;

use super::super::*;
use crate::policies::PolicyFiles;
use crate::sync::EndedLeases;

pub(super) const NOW: Moment = Moment::from_millis(1_000_000);
pub(super) const CONFIG: &str = "\
version: 1
gateway:
  name: gw-1
  state-dir: state
  networks: [{name: runners, interface: r0}]
  default-policy: default.yaml
  dns: {upstreams: [198.51.100.53]}
";

pub(super) fn wall() -> Timestamp {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

pub(super) fn lease(id: &str, source: &str, hours: i64) -> Change {
    Change::Lease(LeaseRecord {
        id: id.into(),
        gateway: "gw-1".into(),
        network: "runners".into(),
        sources: vec![source.parse().unwrap()],
        identity: JobIdentity {
            owner: "acme".into(),
            repo: "acme/web".into(),
            workflow: "ci.yml".into(),
            job: "build".into(),
            run_id: id.into(),
            run_attempt: 1,
            runner_name: "".into(),
            cluster: "".into(),
            event: "".into(),
            git_ref: "".into(),
            actor: "".into(),
            head_repo: "".into(),
            assurance: Assurance::Signed,
        },
        credential: CredentialKind::Oidc,
        token_id: None,
        began: Generation(1),
        started_at: wall(),
        expires_at: wall() + jiff::SignedDuration::from_hours(hours),
    })
}

pub(super) fn gone(id: &str, ending: Ending) -> Change {
    Change::LeaseGone {
        id: id.into(),
        ending,
        sources: Vec::new(),
    }
}

pub(super) fn policy(id: &str, yaml: &str) -> Change {
    Change::Policy(PolicyRecord {
        id: id.into(),
        owner: "acme".into(),
        name: id.into(),
        versions: vec![VersionRecord {
            version: 1,
            since: Generation(1),
            yaml: yaml.into(),
        }],
    })
}

pub(super) fn attach(scope: &str, id: &str) -> Change {
    Change::Attachment {
        scope: scope.parse().unwrap(),
        policy: Some(id.into()),
    }
}

pub(super) fn batch(reset: bool, generation: u64, changes: Vec<Change>) -> Batch {
    Batch {
        epoch: "one".into(),
        reset,
        changes,
        generation: Generation(generation),
        at: wall(),
    }
}

/// A gateway's life without its sockets: what [`Enforcer::take`] does with a core, done with a lease table.
pub(super) struct Gateway {
    pub(super) control: Control,
    pub(super) enforcer: Mutex<Enforcer>,
    pub(super) disk: Arc<Disk>,
    pub(super) files: PolicyFiles,
    pub(super) config: GatewayConfig,
    pub(super) table: LeaseTable,
}

impl Gateway {
    pub(super) fn start(folder: &Path) -> Self {
        Self::start_with(folder, Arc::new(Nothing))
    }

    pub(super) fn start_with(folder: &Path, ended: Arc<dyn EndedLeases>) -> Self {
        std::fs::create_dir_all(folder.join("state")).unwrap();
        std::fs::write(folder.join("default.yaml"), "egress-policy: audit\n").unwrap();
        let config = GatewayConfig::parse(CONFIG, &folder.join("tidegate.yaml")).unwrap();
        let control = Control::new(true);
        control.heed(ended);
        let mut enforcer = Enforcer::load(&config, &control);
        let synced = enforcer.synced(&control, usize::MAX);
        let mut files = PolicyFiles::new();
        let set = files.load(&config, NeverDial::default(), &synced);
        let network = Network {
            name: "runners".into(),
            cluster: "".into(),
            ranges: vec!["10.0.0.0/24".parse().unwrap()],
            runners: RunnerKind::Ephemeral,
            min_assurance: None,
            adjacent: false,
        };
        let table = LeaseTable::new(vec![network], Arc::new(set));
        enforcer.restore_leases(&control, &Leases::at(&table, NOW, wall()));
        Self {
            control,
            disk: enforcer.disk(),
            enforcer: Mutex::new(enforcer),
            files,
            config,
            table,
        }
    }

    pub(super) fn take(&mut self, batches: Vec<Batch>) -> (Vec<IpAddr>, Vec<RefusedLease>) {
        let learnt = self.enforcer.lock().learn(batches, &self.control);
        if let Some(synced) = &learnt.synced {
            let set = self.files.assemble(&self.config, NeverDial::default(), synced);
            self.table.set_policies(Arc::new(set));
        }
        let outcome = Leases::at(&self.table, NOW, wall()).follow(&self.control, learnt.leases);
        self.enforcer.lock().tell(&self.control);
        self.disk.write(&self.enforcer, &self.control, NOW);
        outcome
    }

    /// Name of the policy that governs a source, or why everything is refused to it.
    pub(super) fn judged(&self, source: &str) -> Result<String, Reason> {
        let subject = self.table.lookup(source.parse().unwrap(), NOW);
        match &subject.rulebook().governing {
            Governing::Policy(policy, _) => Ok(policy.meta.name.to_string()),
            Governing::DenyAll(reason) => Err(*reason),
        }
    }

    pub(super) fn standing(&self, source: &str) -> Standing {
        self.table.lookup(source.parse().unwrap(), NOW).standing
    }
}

pub(super) struct Nothing;

impl EndedLeases for Nothing {
    fn is_ended(&self, _: &str) -> bool {
        false
    }
}

/// Notes what it is told, and in which order: ends of the stream, and that sources are taken down while the file is what
/// it was.
pub(super) struct Noting {
    pub(super) file: std::path::PathBuf,
    pub(super) told: Mutex<Vec<String>>,
    pub(super) left: Option<(IpAddr, Timestamp)>,
}

impl Noting {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            file: folder.join("state").join(crate::journal::FILE),
            told: Mutex::default(),
            left: None,
        }
    }
}

impl EndedLeases for Noting {
    fn is_ended(&self, id: &str) -> bool {
        id == "ended"
    }

    fn tell_again(&self, id: &CompactString) {
        self.told.lock().push(format!("{id} ended again"));
    }

    fn note_ended(&self, id: &CompactString) {
        self.told.lock().push(format!("{id} ended"));
    }

    fn was_left(&self, source: IpAddr, since: Timestamp) -> bool {
        self.left.is_some_and(|(left, at)| left == source && at >= since)
    }

    fn keep_sources(&self, _: Moment) {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let before = if text.contains("lease-gone") {
            "after"
        } else {
            "before"
        };
        self.told.lock().push(format!("sources {before} the file"));
    }
}

pub(super) struct Ended(pub(super) &'static str);

impl EndedLeases for Ended {
    fn is_ended(&self, id: &str) -> bool {
        id == self.0
    }
}

/// A lease that ends between two questions about it.
pub(super) struct EndsMeanwhile {
    id: &'static str,
    asked: Mutex<bool>,
}

impl EndsMeanwhile {
    pub(super) fn new(id: &'static str) -> Self {
        Self {
            id,
            asked: Mutex::new(false),
        }
    }
}

impl EndedLeases for EndsMeanwhile {
    fn is_ended(&self, id: &str) -> bool {
        id == self.id && std::mem::replace(&mut *self.asked.lock(), true)
    }
}

pub(super) const AUDIT: &str = "egress-policy: audit\n";
pub(super) const BLOCK: &str = "allowed-endpoints: a.test:443\n";

pub(super) fn snapshot() -> Batch {
    batch(
        true,
        5,
        vec![
            policy("web", BLOCK),
            attach("repo:acme/web", "web"),
            lease("job-1", "10.0.0.1", 6),
            lease("job-2", "10.0.0.2", 6),
        ],
    )
}
