//! Owns who registers jobs, as a gateway does.

use serde_json::{Value, json};
use tidegate_control_wire::claim::Claim;
use tidegate_control_wire::mirror::Mirror;

use super::super::super::plain::{Client, Unanswered};
use super::super::follower::{GATEWAY, NETWORK};
use super::Fate;

/// Registers jobs of one source, each in place of the one before, as a gateway does.
pub(in super::super) struct Registrar {
    source: String,
    /// Jobs that were acknowledged, oldest first; the last one runs.
    pub(in super::super) jobs: Vec<String>,
    open: Option<Box<Claim>>,
    /// What a claim that is repeated must be answered.
    again: Option<Value>,
}

impl Registrar {
    pub(super) fn new(number: usize) -> Self {
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

    pub(super) async fn write(&mut self, gateway: &mut Client) -> Result<(), Unanswered> {
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
    pub(super) async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
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

    pub(super) fn is_served(&self, mirror: &Mirror) {
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
