//! Owns who writes policies and who moves them from scope to scope.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_control_wire::mirror::Mirror;

use super::super::super::plain::{Client, Unanswered};
use super::{Doors, Fate, id_of};

async fn policy(doors: &mut Doors, name: &str, yaml: &str) -> Value {
    let new = json!({"name": name, "yaml": yaml});
    let made = doors
        .admin
        .call("POST", "/api/v1/orgs/acme/policies", Some(&new))
        .await;
    made.unwrap().expect(201).json()
}

/// Writes one version of a policy after another.
pub(in super::super) struct Editor {
    id: String,
    pub(in super::super) name: String,
    /// The number of each version's text, from version 1.
    texts: Vec<u32>,
    open: Option<u32>,
    next: u32,
}

impl Editor {
    pub(super) async fn new(doors: &mut Doors, number: usize) -> Self {
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

    pub(in super::super) fn version(&self) -> u32 {
        self.texts.len() as u32
    }

    fn newest(&self) -> String {
        text(&self.name, *self.texts.last().expect("a version"))
    }

    pub(super) async fn write(&mut self, admin: &mut Client) -> Result<(), Unanswered> {
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

    pub(super) async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
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
    pub(in super::super) async fn all_versions(&self, admin: &mut Client) {
        for (version, number) in (1..).zip(&self.texts) {
            let path = format!("{}/versions/{version}", self.path());
            let found = admin.call("GET", &path, None).await.unwrap().expect(200).json();
            assert_eq!(found["yaml"], text(&self.name, *number), "{found}");
        }
    }

    pub(super) fn is_served(&self, mirror: &Mirror) {
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
pub(in super::super) struct Mover {
    id: String,
    name: String,
    at: String,
    open: Option<String>,
    next: u32,
}

impl Mover {
    pub(super) async fn new(doors: &mut Doors, number: usize) -> Self {
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

    pub(super) async fn write(&mut self, admin: &mut Client) -> Result<(), Unanswered> {
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

    pub(super) async fn settle(&mut self, admin: &mut Client) -> Result<Fate, Unanswered> {
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

    pub(super) fn is_served(&self, mirror: &Mirror) {
        let scopes = mirror.attachments().filter(|(_, policy)| **policy == self.id);
        let scopes: Vec<String> = scopes.map(|(scope, _)| scope.to_string()).collect();
        assert_eq!(scopes, [self.at.as_str()]);
    }
}
