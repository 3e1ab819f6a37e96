//! What an admin does to policies, endpoint sets and the block list, in one word each.
//!
//! Owns requests to the control plane that have to succeed; who wants to see one fail asks [`Fleet::api`].

use serde_json::{Value, json};
use tidegate_lab::Answer;

use super::{Fleet, OWNER};

impl Fleet<'_> {
    /// Makes a policy of [`OWNER`].
    pub async fn policy(&self, name: &str, yaml: &str) -> Value {
        let new = json!({"name": name, "yaml": yaml});
        let path = format!("/orgs/{OWNER}/policies");
        self.api("POST", &path, Some(&new)).await.expect(201).json()
    }

    /// Makes a policy and attaches it.
    pub async fn attached(&self, name: &str, yaml: &str, scope: &str) {
        self.policy(name, yaml).await;
        self.attach(name, scope).await;
    }

    /// Changes a policy, whatever its version, for all jobs.
    pub async fn edit(&self, name: &str, yaml: &str) -> Value {
        self.changed(name, "PUT", "", &json!({"yaml": yaml})).await
    }

    /// Changes a policy for jobs that begin afterwards.
    pub async fn edit_for_next_job(&self, name: &str, yaml: &str) -> Value {
        self.changed(name, "PUT", "", &json!({"yaml": yaml, "apply": "next-job"}))
            .await
    }

    /// Makes an old version's text the newest.
    pub async fn rollback(&self, name: &str, to: u32) -> Value {
        self.changed(name, "POST", "/rollback", &json!({"to": to})).await
    }

    async fn changed(&self, name: &str, method: &str, below: &str, body: &Value) -> Value {
        let path = format!("/api/v1/orgs/{OWNER}/policies/{name}{below}");
        let request = self.control.request(method, &path).token(&self.admin);
        let answer = request.header("if-match", "*").json(body).send().await;
        answer
            .unwrap_or_else(|error| panic!("{error}"))
            .expect(200)
            .json()
    }

    /// Deletes a policy.
    pub async fn delete(&self, name: &str) -> Value {
        let path = format!("/orgs/{OWNER}/policies/{name}");
        self.api("DELETE", &path, None).await.expect(200).json()
    }

    /// Attaches a policy to a scope that nobody holds.
    pub async fn attach(&self, name: &str, scope: &str) -> Value {
        self.attachments(name, &json!({"add": [scope]}))
            .await
            .expect(200)
            .json()
    }

    /// Takes a policy from a scope.
    pub async fn detach(&self, name: &str, scope: &str) -> Value {
        self.attachments(name, &json!({"remove": [scope]}))
            .await
            .expect(200)
            .json()
    }

    /// Changes where a policy is attached.
    pub async fn attachments(&self, name: &str, change: &Value) -> Answer {
        let path = format!("/orgs/{OWNER}/policies/{name}/attachments");
        self.api("POST", &path, Some(change)).await
    }

    /// Writes an endpoint set of [`OWNER`].
    pub async fn set(&self, name: &str, endpoints: &[&str]) -> Value {
        let path = format!("/api/v1/orgs/{OWNER}/endpoint-sets/{name}");
        let yaml = json!({"endpoints": endpoints}).to_string();
        let put = |condition: (&'static str, &'static str)| {
            let request = self.control.request("PUT", &path).token(&self.admin);
            request
                .header(condition.0, condition.1)
                .json(&json!({"yaml": yaml}))
                .send()
        };
        let mut answer = put(("if-match", "*"))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        if answer.status == 412 {
            answer = put(("if-none-match", "*"))
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(matches!(answer.status, 200 | 201), "{answer}");
        answer.json()
    }

    /// Adds an entry of the deployment to the global block list; gives back its id.
    pub async fn block(&self, pattern: &str, expires_at: Option<&str>) -> String {
        let mut entry = json!({"pattern": pattern, "reason": "a test"});
        if let Some(at) = expires_at {
            entry["expires_at"] = at.into();
        }
        let added = self
            .api("POST", "/global-block/entries", Some(&entry))
            .await
            .expect(201)
            .json();
        added["id"].as_str().expect("the entry's id").to_owned()
    }
}
