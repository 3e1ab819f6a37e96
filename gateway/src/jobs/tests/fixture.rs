//! A gateway's leases without a gateway: networks, policies, tokens, an OIDC issuer and a control plane that does as it is
//! told.

mod control;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_control_wire::frame::Batch;
use tidegate_control_wire::mirror::{Credentials, Mirror};
use tidegate_control_wire::oidc::Issuer;
use tidegate_control_wire::record::{Change, CredentialKind, LeaseRecord, SyncedRole, TokenRecord};
use tidegate_control_wire::secret::{Role, Secret};
use tidegate_policy::Moment;
use tidegate_policy::document::{ParseOptions, PolicyDocument, platform};
use tidegate_policy::effective::{Attached, Generation, NetworkPolicies, PolicySet, Slot, Store};
use tidegate_policy::job::{Assurance, JobIdentity, Scope};
use tidegate_policy::lease::{LeaseTable, Mac, Neighbour};
use tidegate_policy::rulebook::{CompiledPolicy, PolicyMeta, RuleList};
use tidegate_policy::subject::{Network, RunnerKind};

use crate::jobs::asker::{Asker, Now};
use crate::jobs::authority::Authority;
use crate::jobs::outbox::Outbox;
use crate::jobs::registrar::{Parts, Registrar, Started};
use crate::jobs::{JobStart, Shown, StartError, claimed};

pub(crate) use self::control::{FakeControl, Mode};

/// The issuer of the tests' OIDC tokens.
const ISSUER: &str = "https://token.forge.example";

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap()
});

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) const fn mac(octet: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, octet])
}

/// Where the tests' walls' clock stands at moment zero.
fn origin() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// So many seconds after the beginning.
pub(crate) fn at(second: u64) -> Now {
    let span = SignedDuration::from_secs(i64::try_from(second).unwrap());
    Now {
        moment: Moment::from_millis(second * 1_000),
        wall: origin().checked_add(span).unwrap(),
    }
}

/// Who sits at an address; each last octet is a machine of its own.
pub(crate) fn asker(source: &str) -> Asker {
    let source = ip(source);
    let octet = match source {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    Asker {
        source,
        mac: Some(mac(octet)),
    }
}

/// The texts of the tests' tokens.
pub(crate) struct Tokens {
    /// Good everywhere, for everybody.
    pub(crate) any: Secret,
    /// Only for owner `acme`.
    pub(crate) acme: Secret,
    /// Only for the network `other`.
    pub(crate) other_network: Secret,
    /// Stands for another cluster.
    pub(crate) other_cluster: Secret,
    /// Expired after 50 s.
    pub(crate) short: Secret,
    /// A provisioner's.
    pub(crate) provisioner: Secret,
}

/// Everything that a registrar works with.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) leases: Arc<LeaseTable>,
    pub(crate) control: Arc<FakeControl>,
    pub(crate) jobs: Arc<Registrar>,
    pub(crate) tokens: Tokens,
    /// Sources of which it was said that they changed.
    pub(crate) changed: Arc<Mutex<Vec<IpAddr>>>,
}

impl World {
    /// With the network `runners` (10.77.1.0/24, fd77:1::/64) of this kind, and a control plane that is there.
    pub(crate) fn new(runners: RunnerKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens {
            any: Secret::new(Role::Runner),
            acme: Secret::new(Role::Runner),
            other_network: Secret::new(Role::Runner),
            other_cluster: Secret::new(Role::Runner),
            short: Secret::new(Role::Runner),
            provisioner: Secret::new(Role::Provisioner),
        };
        let control = Arc::new(FakeControl {
            mode: Mutex::new(Mode::There),
            credentials: Mutex::new(credentials(&tokens)),
            newer: Mutex::default(),
            claims: Mutex::default(),
            ends: Mutex::default(),
            strict: Mutex::default(),
            held: Mutex::default(),
            meanwhile: Mutex::default(),
            generation: 7,
        });
        let leases = Arc::new(LeaseTable::new(vec![network(runners)], Arc::new(policies())));
        let changed = Arc::default();
        let jobs = registrar(&dir, &leases, &control, &changed);
        Self {
            dir,
            leases,
            control,
            jobs,
            tokens,
            changed,
        }
    }

    pub(crate) fn ephemeral() -> Self {
        Self::new(RunnerKind::Ephemeral)
    }

    /// The same gateway after a restart: nothing is left but the state directory.
    pub(crate) fn restarted(mut self, second: u64) -> Self {
        let kind = RunnerKind::Ephemeral;
        self.leases = Arc::new(LeaseTable::new(vec![network(kind)], Arc::new(policies())));
        self.changed = Arc::default();
        self.jobs = registrar(&self.dir, &self.leases, &self.control, &self.changed);
        self.jobs.restore(at(second));
        self
    }

    /// The same gateway with an outbox in which so many entries wait at most.
    pub(crate) fn with_outbox(mut self, capacity: usize) -> Self {
        let outbox = Outbox::with_capacity(self.dir.path(), capacity).unwrap();
        let parts = parts(&self.leases, &self.control, &self.changed);
        self.jobs = Arc::new(Registrar::over(parts, outbox, self.dir.path()).unwrap());
        self
    }

    /// Says which machines are seen at which addresses.
    pub(crate) fn see(&self, seen: &[(&str, u8)]) {
        let neighbour = |(source, octet): &(&str, u8)| Neighbour {
            address: ip(source),
            mac: mac(*octet),
            network: "runners".into(),
        };
        let rows: Vec<Neighbour> = seen.iter().map(neighbour).collect();
        self.leases.observe_neighbours(&rows);
    }

    /// Registers by a runner token.
    pub(crate) async fn declare(
        &self,
        source: &str,
        token: &Secret,
        body: &Value,
        second: u64,
    ) -> Result<Started, StartError> {
        self.start(asker(source), Some(token.expose()), body, second)
            .await
    }

    /// Registers by an OIDC token.
    pub(crate) async fn sign(&self, source: &str, oidc: &str, second: u64) -> Result<Started, StartError> {
        self.start(asker(source), None, &json!({"oidc_token": oidc}), second)
            .await
    }

    pub(crate) async fn start(
        &self,
        asker: Asker,
        bearer: Option<&str>,
        body: &Value,
        second: u64,
    ) -> Result<Started, StartError> {
        let start = JobStart::read(body.to_string().as_bytes())?;
        self.jobs.start(asker, &start, bearer, at(second)).await
    }

    /// Name of the policy that a source is judged by, or why it is refused everything.
    pub(crate) fn judged(&self, source: &str, second: u64) -> String {
        let subject = self.leases.lookup(ip(source), at(second).moment);
        let book = subject.rulebook();
        match &book.governing {
            tidegate_policy::rulebook::Governing::Policy(policy, _) => policy.meta.name.to_string(),
            tidegate_policy::rulebook::Governing::DenyAll(reason) => reason.as_str().to_owned(),
        }
    }
}

fn registrar(
    dir: &TempDir,
    leases: &Arc<LeaseTable>,
    control: &Arc<FakeControl>,
    changed: &Arc<Mutex<Vec<IpAddr>>>,
) -> Arc<Registrar> {
    Arc::new(Registrar::open(parts(leases, control, changed), dir.path()).unwrap())
}

fn parts(leases: &Arc<LeaseTable>, control: &Arc<FakeControl>, changed: &Arc<Mutex<Vec<IpAddr>>>) -> Parts {
    let note = Arc::clone(changed);
    Parts {
        gateway: "gw-1".into(),
        leases: Arc::clone(leases),
        control: Arc::clone(control) as Arc<dyn Authority>,
        changed: Arc::new(move |sources| note.lock().extend(sources)),
    }
}

fn network(runners: RunnerKind) -> Network {
    Network {
        name: "runners".into(),
        cluster: "prod".into(),
        ranges: vec!["10.77.1.0/24".parse().unwrap(), "fd77:1::/64".parse().unwrap()],
        runners,
        min_assurance: None,
        adjacent: true,
    }
}

/// Policies: `acme` for the organization, `web` for acme/web, `default` for the network.
fn policies() -> PolicySet {
    let attach = |scope: &str, name: &str| {
        (
            scope.parse::<Scope>().unwrap(),
            Attached::always(policy(name), None),
        )
    };
    let networks = [(
        "runners".into(),
        NetworkPolicies {
            default: policy("default"),
            always_allow: None,
        },
    )];
    PolicySet {
        attached: [attach("org:acme", "acme"), attach("repo:acme/web", "web")]
            .into_iter()
            .collect(),
        networks: networks.into_iter().collect(),
        store: Store::Known,
        ..PolicySet::default()
    }
}

/// A policy that allows the host of its own name.
fn policy(name: &str) -> Slot {
    let text = format!("platform: none\nallowed-endpoints: {name}.test:443\n");
    let document = PolicyDocument::parse(&text, &ParseOptions::default())
        .document
        .unwrap();
    let meta = PolicyMeta {
        id: format!("pol_{name}").into(),
        name: name.into(),
        version: 3,
    };
    let endpoints = platform::pack().endpoints.iter();
    let pack =
        Arc::new(RuleList::compile(endpoints.map(|one| {
            (one, tidegate_policy::compile::rules::RuleSource::Platform)
        })));
    let sets = hashbrown::HashMap::new();
    Slot::Policy(Arc::new(
        CompiledPolicy::compile(&document, meta, &sets, &pack).unwrap(),
    ))
}

fn credentials(tokens: &Tokens) -> Arc<Credentials> {
    let record = |id: &str, secret: &Secret| TokenRecord {
        id: id.into(),
        digest: secret.digest(),
        role: SyncedRole::Runner,
        owners: Vec::new(),
        repos: Vec::new(),
        networks: Vec::new(),
        cluster: None,
        expires_at: None,
    };
    let issuer = Issuer {
        issuer: ISSUER.into(),
        audience: "tidegate".into(),
        owners: Vec::new(),
        jwks: JwkSet { keys: vec![public()] },
    };
    let changes = vec![
        Change::Token(record("tok_any", &tokens.any)),
        Change::Token(TokenRecord {
            owners: vec!["Acme".into()],
            ..record("tok_acme", &tokens.acme)
        }),
        Change::Token(TokenRecord {
            networks: vec!["other".into()],
            ..record("tok_net", &tokens.other_network)
        }),
        Change::Token(TokenRecord {
            cluster: Some("staging".into()),
            ..record("tok_cluster", &tokens.other_cluster)
        }),
        Change::Token(TokenRecord {
            expires_at: Some(at(50).wall),
            ..record("tok_short", &tokens.short)
        }),
        Change::Token(TokenRecord {
            role: SyncedRole::Provisioner,
            ..record("tok_prov", &tokens.provisioner)
        }),
        Change::Issuer(issuer),
    ];
    let mut mirror = Mirror::new();
    mirror.apply(Batch {
        epoch: "store-1".into(),
        reset: true,
        changes,
        generation: Generation(7),
        at: origin(),
    });
    Arc::clone(mirror.credentials())
}

fn public() -> Jwk {
    let mut jwk = Jwk::from_encoding_key(&KEY, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("ec".into());
    jwk
}

/// A good OIDC token of a run of `owner/name`, issued at this second, good for five minutes.
pub(crate) fn oidc(repo: &str, run: &str, jti: &str, second: u64) -> String {
    oidc_at(repo, run, jti, at(second).wall)
}

/// The same at a time of the wall's clock.
pub(crate) fn oidc_at(repo: &str, run: &str, jti: &str, issued: Timestamp) -> String {
    let issued = issued.as_second();
    let life = i64::try_from(Duration::from_mins(5).as_secs()).unwrap();
    let claims = json!({
        "iss": ISSUER, "aud": "tidegate", "jti": jti, "iat": issued, "nbf": issued, "exp": issued + life,
        "repository": repo, "repository_owner": repo.split('/').next(),
        "workflow_ref": format!("{repo}/.github/workflows/ci.yml@refs/heads/main"),
        "run_id": run, "run_attempt": "1", "event_name": "push", "ref": "refs/heads/main", "actor": "octocat"
    });
    let header = Header {
        kid: Some("ec".into()),
        ..Header::new(Algorithm::ES256)
    };
    jsonwebtoken::encode(&header, &claims, &KEY).unwrap()
}

/// What a runner says of a run of `owner/name`.
pub(crate) fn body(repo: &str, run: &str) -> Value {
    json!({"repo": repo, "run_id": run, "run_attempt": 1, "workflow": "ci.yml", "job": "build"})
}

/// A runner token in a request.
pub(crate) fn declared(token: &Secret) -> Shown<'_> {
    Shown {
        bearer: Some(token.expose()),
        oidc: None,
    }
}

/// An OIDC token in a request.
pub(crate) fn signed(token: &str) -> Shown<'_> {
    Shown {
        bearer: None,
        oidc: Some(token),
    }
}

/// A request without a credential.
pub(crate) const NOTHING: Shown<'static> = Shown {
    bearer: None,
    oidc: None,
};

/// What a Harden-Runner client says of a run of `owner/name`.
pub(crate) fn claim_of(repo: &str, run: &str) -> JobIdentity {
    let (owner, name) = repo.split_once('/').unwrap();
    claimed(owner, name, run, b"{\"job\":\"test\"}").unwrap()
}

/// A lease of acme/web as it is recorded.
pub(crate) fn record(id: &str) -> LeaseRecord {
    let identity = JobIdentity {
        owner: "acme".into(),
        repo: "acme/web".into(),
        workflow: "".into(),
        job: "".into(),
        run_id: id.into(),
        run_attempt: 1,
        runner_name: "".into(),
        cluster: "".into(),
        event: "".into(),
        git_ref: "".into(),
        actor: "".into(),
        head_repo: "".into(),
        assurance: Assurance::Declared,
    };
    LeaseRecord {
        id: id.into(),
        gateway: "gw-1".into(),
        network: "runners".into(),
        sources: vec![ip("10.77.1.2")],
        identity,
        credential: CredentialKind::RunnerToken,
        token_id: None,
        began: Generation(7),
        started_at: at(0).wall,
        expires_at: at(100).wall,
    }
}
