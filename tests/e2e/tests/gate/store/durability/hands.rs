//! Those who write: each changes one thing after another and remembers what was acknowledged, so that afterwards it can
//! tell what must be there, what may be, and what must not.
//!
//! Each owns what it writes: nobody else changes it. One change at a time is open; whether it was carried out, when no
//! answer came, is found out by [`Hand::settle`], which fails the test when it was carried out by half.

use std::collections::VecDeque;
use std::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_control_wire::claim::Claim;
use tidegate_control_wire::mirror::Mirror;
use tidegate_control_wire::record::{BlockLayer, Change};
use tidegate_lab::Answer;

use super::super::plain::{Client, Unanswered};
use super::follower::{GATEWAY, NETWORK};

/// How hands reach the control plane.
pub(super) struct Doors {
    pub(super) admin: Client,
    pub(super) gateway: Client,
}

/// What became of a change that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There was none.
    None,
    /// It was carried out.
    Stored,
    /// It was not.
    Lost,
}

/// Somebody who writes.
pub(super) enum Hand {
    Editor(Editor),
    Mover(Mover),
    Registrar(Registrar),
    Blocker(Blocker),
}

impl Hand {
    /// Three of each kind, with what they work on.
    pub(super) async fn hire(doors: &mut Doors) -> Vec<Self> {
        let mut hands = Vec::new();
        for number in 0..3 {
            hands.push(Self::Editor(Editor::new(doors, number).await));
            hands.push(Self::Mover(Mover::new(doors, number).await));
            hands.push(Self::Registrar(Registrar::new(number)));
            hands.push(Self::Blocker(Blocker::new(number)));
        }
        hands
    }

    /// One more change; an error leaves it open.
    pub(super) async fn write(&mut self, doors: &mut Doors) -> Result<(), Unanswered> {
        match self {
            Self::Editor(hand) => hand.write(&mut doors.admin).await,
            Self::Mover(hand) => hand.write(&mut doors.admin).await,
            Self::Registrar(hand) => hand.write(&mut doors.gateway).await,
            Self::Blocker(hand) => hand.write(&mut doors.admin).await,
        }
    }

    /// Compares what is there with what was acknowledged, and finds out about the change that is open.
    pub(super) async fn settle(&mut self, doors: &mut Doors) -> Result<Fate, Unanswered> {
        match self {
            Self::Editor(hand) => hand.settle(&mut doors.admin).await,
            Self::Mover(hand) => hand.settle(&mut doors.admin).await,
            Self::Registrar(hand) => hand.settle(&mut doors.admin).await,
            Self::Blocker(hand) => hand.settle(&mut doors.admin).await,
        }
    }

    /// Compares what gateways hear with what is there. To be called when nothing is open.
    pub(super) fn is_served(&self, mirror: &Mirror) {
        match self {
            Self::Editor(hand) => hand.is_served(mirror),
            Self::Mover(hand) => hand.is_served(mirror),
            Self::Registrar(hand) => hand.is_served(mirror),
            Self::Blocker(hand) => hand.is_served(mirror),
        }
    }
}

async fn policy(doors: &mut Doors, name: &str, yaml: &str) -> Value {
    let new = json!({"name": name, "yaml": yaml});
    let made = doors
        .admin
        .call("POST", "/api/v1/orgs/acme/policies", Some(&new))
        .await;
    made.unwrap().expect(201).json()
}

fn id_of(thing: &Value) -> String {
    thing["id"].as_str().expect("an id").to_owned()
}

/// Writes one version of a policy after another.
pub(super) struct Editor {
    id: String,
    pub(super) name: String,
    /// The number of each version's text, from version 1.
    texts: Vec<u32>,
    open: Option<u32>,
    next: u32,
}

impl Editor {
    async fn new(doors: &mut Doors, number: usize) -> Self {
        let name = format!("edited-{number}");
        let made = policy(doors, &name, &text(&name, 0)).await;
        Self {
            id: id_of(&made),
            name,
            texts: vec![0],
            open: None,
            next: 1,
        }
    }

    fn path(&self) -> String {
        format!("/api/v1/orgs/acme/policies/{}", self.name)
    }

    pub(super) fn version(&self) -> u32 {
        self.texts.len() as u32
    }

    fn newest(&self) -> String {
        text(&self.name, *self.texts.last().expect("a version"))
    }

    async fn write(&mut self, admin: &mut Client) -> Result<(), Unanswered> {
        let number = self.next;
        self.next += 1;
        self.open = Some(number);
        let apply = if number.is_multiple_of(3) {
            "next-job"
        } else {
            "now"
        };
        let body = json!({"yaml": text(&self.name, number), "apply": apply});
        let written = admin
            .put(&self.path(), self.version(), &body)
            .await?
            .expect(200)
            .json();
        self.open = None;
        self.texts.push(number);
        assert_eq!(written["version"], self.version(), "{written}");
        Ok(())
    }

    async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
        let there = admin.call("GET", &self.path(), None).await?.expect(200).json();
        let fate = match self.open {
            Some(number) if there["version"] == self.version() + 1 => {
                self.texts.push(number);
                Fate::Stored
            }
            Some(_) => Fate::Lost,
            None => Fate::None,
        };
        self.open = None;
        assert_eq!(there["version"], self.version(), "{there}");
        assert_eq!(there["yaml"], self.newest(), "{there}");
        let endpoints = there["parsed"].to_string();
        let first = format!("e{}-0.example.test", self.texts.last().expect("a version"));
        assert!(
            endpoints.contains(&first),
            "the parsed form is the text's: {there}"
        );
        let path = format!("{}/versions/{}", self.path(), self.version());
        let version = admin.call("GET", &path, None).await?.expect(200).json();
        assert_eq!(version["yaml"], self.newest(), "{version}");
        Ok(fate)
    }

    /// Every version's text is still there.
    pub(super) async fn all_versions(&self, admin: &mut Client) {
        for (version, number) in (1..).zip(&self.texts) {
            let path = format!("{}/versions/{version}", self.path());
            let found = admin.call("GET", &path, None).await.unwrap().expect(200).json();
            assert_eq!(found["yaml"], text(&self.name, *number), "{found}");
        }
    }

    fn is_served(&self, mirror: &Mirror) {
        let (record, editions) = mirror
            .policies()
            .find(|(record, _)| record.id == self.id)
            .expect("the policy is served");
        let newest = record.versions.last().expect("a version");
        assert_eq!((newest.version, &newest.yaml), (self.version(), &self.newest()));
        assert_eq!(editions.len(), record.versions.len());
    }
}

/// A document that nobody takes for another, long enough to be cut in two.
fn text(name: &str, number: u32) -> String {
    let mut text = format!("# edition {number} of {name}\negress-policy: block\nallowed-endpoints:\n");
    for endpoint in 0..40 {
        // Writing to a text can't fail.
        let _ = writeln!(text, "  - \"e{number}-{endpoint}.example.test:443\"");
    }
    text
}

/// Moves a policy from one scope to the next: it is always attached to exactly one.
pub(super) struct Mover {
    id: String,
    name: String,
    at: String,
    open: Option<String>,
    next: u32,
}

impl Mover {
    async fn new(doors: &mut Doors, number: usize) -> Self {
        let name = format!("moved-{number}");
        let made = policy(doors, &name, "egress-policy: block\n").await;
        let at = format!("repo:acme/{name}-0");
        let path = format!("/api/v1/orgs/acme/policies/{name}/attachments");
        let attached = doors.admin.call("POST", &path, Some(&json!({"add": [at]}))).await;
        attached.unwrap().expect(200);
        Self {
            id: id_of(&made),
            name,
            at,
            open: None,
            next: 1,
        }
    }

    async fn write(&mut self, admin: &mut Client) -> Result<(), Unanswered> {
        let to = format!("repo:acme/{}-{}", self.name, self.next);
        self.next += 1;
        self.open = Some(to.clone());
        let path = format!("/api/v1/orgs/acme/policies/{}/attachments", self.name);
        let change = json!({"add": [to], "remove": [self.at]});
        let moved = admin.call("POST", &path, Some(&change)).await?.expect(200).json();
        assert_eq!(moved["policy"]["attachments"], json!([to]), "{moved}");
        (self.at, self.open) = (to, None);
        Ok(())
    }

    async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
        let path = format!("/api/v1/orgs/acme/policies/{}", self.name);
        let there = admin.call("GET", &path, None).await?.expect(200).json();
        let fate = match self.open.take() {
            Some(to) if there["attachments"] == json!([to]) => {
                self.at = to;
                Fate::Stored
            }
            Some(_) => Fate::Lost,
            None => Fate::None,
        };
        assert_eq!(there["attachments"], json!([self.at]), "{there}");
        Ok(fate)
    }

    fn is_served(&self, mirror: &Mirror) {
        let scopes = mirror.attachments().filter(|(_, policy)| **policy == self.id);
        let scopes: Vec<String> = scopes.map(|(scope, _)| scope.to_string()).collect();
        assert_eq!(scopes, [self.at.as_str()]);
    }
}

/// Registers jobs of one source, each in place of the one before, as a gateway does.
pub(super) struct Registrar {
    source: String,
    /// Jobs that were acknowledged, oldest first; the last one runs.
    pub(super) jobs: Vec<String>,
    open: Option<Box<Claim>>,
    /// What a claim that is repeated must be answered.
    again: Option<Value>,
}

impl Registrar {
    fn new(number: usize) -> Self {
        Self {
            source: format!("10.9.0.{}", number + 1),
            jobs: Vec::new(),
            open: None,
            again: None,
        }
    }

    /// The job that is to run next.
    fn claim(&self) -> Claim {
        let now = jiff::Timestamp::now();
        let lease = json!({
            "id": tidegate_control_wire::id::new_id("job"),
            "gateway": GATEWAY,
            "network": NETWORK,
            "sources": [self.source],
            "identity": {
                "owner": "acme", "repo": "acme/web", "workflow": "ci.yml", "job": "build", "run_id": "1",
                "run_attempt": 1, "runner_name": "r", "cluster": "prod", "event": "push", "ref": "refs/heads/main",
                "actor": "ada", "assurance": "declared",
            },
            "credential": "runner-token",
            "started_at": now,
            "expires_at": now + jiff::SignedDuration::from_hours(10),
        });
        Claim {
            lease: serde_json::from_value(lease).expect("a lease"),
            replaces: self
                .jobs
                .last()
                .map(|id| id.as_str().into())
                .into_iter()
                .collect(),
            proof: None,
            granted: false,
        }
    }

    async fn write(&mut self, gateway: &mut Client) -> Result<(), Unanswered> {
        let claim = self.open.take().unwrap_or_else(|| Box::new(self.claim()));
        self.open = Some(claim.clone());
        let granted = gateway
            .call("POST", "/sync/v1/leases", Some(&json!(claim)))
            .await?;
        let began = granted.expect(200).json()["began"].clone();
        if let Some(before) = self.again.take() {
            assert_eq!(began, before, "a claim that is repeated is the same claim");
        }
        self.open = None;
        if self.jobs.last().map(String::as_str) != Some(&claim.lease.id) {
            self.jobs.push(claim.lease.id.to_string());
        }
        Ok(())
    }

    /// What is open stays open: it is asked again, as gateways do.
    async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
        let path = format!("/api/v1/leases?source={}", self.source);
        let leases = admin.call("GET", &path, None).await?.expect(200).json();
        let holder = match leases["items"].as_array().expect("a list").as_slice() {
            [] => None,
            [lease] => lease["job_id"].as_str(),
            more => panic!("one source, several leases: {more:?}"),
        };
        let open = self.open.as_ref().map(|claim| claim.lease.id.to_string());
        let fate = match &open {
            Some(open) if holder == Some(open) && self.jobs.last() != Some(open) => {
                let replaced = self.jobs.last().cloned();
                self.jobs.push(open.clone());
                if let Some(replaced) = replaced {
                    let job = job(admin, &replaced).await?;
                    assert_eq!(job["ended_by"], "replaced", "{job}");
                }
                self.again = Some(job(admin, open).await?["began"].clone());
                Fate::Stored
            }
            Some(open) if self.jobs.last() != Some(open) => Fate::Lost,
            Some(_) | None => Fate::None,
        };
        assert_eq!(holder, self.jobs.last().map(String::as_str), "{leases}");
        if let Some(running) = self.jobs.last() {
            let job = job(admin, running).await?;
            assert_eq!(
                (&job["ended_at"], &job["sources"]),
                (&Value::Null, &json!([self.source])),
                "{job}"
            );
            assert_eq!(job["identity"]["repo"], "acme/web", "{job}");
        }
        Ok(fate)
    }

    fn is_served(&self, mirror: &Mirror) {
        let here = |source: &std::net::IpAddr| source.to_string() == self.source;
        let leases = mirror.leases().filter(|lease| lease.sources.iter().any(here));
        let ids: Vec<&str> = leases.map(|lease| lease.id.as_str()).collect();
        let running: Vec<&str> = self.jobs.last().map(String::as_str).into_iter().collect();
        assert_eq!(ids, running, "source {}", self.source);
    }
}

async fn job(admin: &mut Client, id: &str) -> Result<Value, Unanswered> {
    let job = admin.call("GET", &format!("/api/v1/jobs/{id}"), None).await?;
    Ok(job.expect(200).json())
}

/// Adds names to the block list and removes the oldest again.
pub(super) struct Blocker {
    prefix: String,
    /// Ids and patterns, oldest first.
    entries: VecDeque<(String, String)>,
    open: Option<Open>,
    next: u32,
}

enum Open {
    Add(String),
    Remove,
}

/// Entries that one hand keeps on the list.
const KEPT: usize = 6;

impl Blocker {
    fn new(number: usize) -> Self {
        Self {
            prefix: format!("blocked-{number}-"),
            entries: VecDeque::new(),
            open: None,
            next: 0,
        }
    }

    async fn write(&mut self, admin: &mut Client) -> Result<(), Unanswered> {
        if self.entries.len() >= KEPT {
            self.open = Some(Open::Remove);
            let path = format!("/api/v1/global-block/entries/{}", self.entries[0].0);
            admin.call("DELETE", &path, None).await?.expect(204);
            self.entries.pop_front();
        } else {
            let pattern = format!("{}{}.example.test", self.prefix, self.next);
            self.next += 1;
            self.open = Some(Open::Add(pattern.clone()));
            let entry = json!({"pattern": pattern, "reason": "a test"});
            let added = admin
                .call("POST", "/api/v1/global-block/entries", Some(&entry))
                .await?;
            let added: Answer = added.expect(201);
            self.entries.push_back((id_of(&added.json()), pattern));
        }
        self.open = None;
        Ok(())
    }

    async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
        let path = format!(
            "/api/v1/global-block/entries?layer=deployment&search={}",
            self.prefix
        );
        let listed = admin.call("GET", &path, None).await?.expect(200).json();
        let listed = listed["items"].as_array().expect("a list");
        let has = |pattern: &str| listed.iter().find(|entry| entry["pattern"] == pattern);
        let fate = match self.open.take() {
            Some(Open::Add(pattern)) => match has(&pattern) {
                Some(entry) => {
                    self.entries.push_back((id_of(entry), pattern));
                    Fate::Stored
                }
                None => Fate::Lost,
            },
            Some(Open::Remove) if has(&self.entries[0].1).is_none() => {
                self.entries.pop_front();
                Fate::Stored
            }
            Some(Open::Remove) => Fate::Lost,
            None => Fate::None,
        };
        let mut there: Vec<&str> = listed
            .iter()
            .filter_map(|entry| entry["pattern"].as_str())
            .collect();
        there.sort_unstable();
        assert_eq!(there, self.patterns());
        Ok(fate)
    }

    fn patterns(&self) -> Vec<&str> {
        let mut patterns: Vec<&str> = self.entries.iter().map(|(_, pattern)| pattern.as_str()).collect();
        patterns.sort_unstable();
        patterns
    }

    fn is_served(&self, mirror: &Mirror) {
        let mut served: Vec<String> = Vec::new();
        for change in mirror.snapshot() {
            if let Change::Block(block) = change
                && block.layer == BlockLayer::Deployment
            {
                served.extend(
                    block
                        .add
                        .into_iter()
                        .filter(|pattern| pattern.starts_with(&self.prefix)),
                );
            }
        }
        served.sort_unstable();
        assert_eq!(served, self.patterns());
    }
}
