//! The world that the scenarios live in: `tidegate up` with its runner API, and a token for everybody.
//!
//! Owns how it is configured and what the scenarios are told of it. Never asks or judges anything of a page.

use serde_json::{Value, json};
use tidegate_e2e::{start, tidegate};
use tidegate_lab::{ControlSection, Gateway, GatewayBuilder, Lab, OidcIssuer};

/// Where browsers reach it, in the gateway's machine.
const URL: &str = "http://127.0.0.1:8443";

/// What runs.
pub(crate) struct World<'a> {
    /// Where it stands.
    pub(crate) lab: &'a Lab,
    /// Gateway and control plane.
    pub(crate) gateway: Gateway<'a>,
    /// A runner token for the jobs of `acme`.
    pub(crate) runner: String,
    tokens: Value,
}

impl<'a> World<'a> {
    /// Starts everything. Machines run one job after another, so that a scenario can have as many runs as it needs.
    pub(crate) async fn start(lab: &'a Lab, people: &OidcIssuer) -> Self {
        let builder = GatewayBuilder::new(lab, tidegate())
            .network("cluster: prod, runners: persistent")
            .runner_api()
            .up(section(lab, people));
        let gateway = start(builder).await;
        let admin = gateway
            .control()
            .admin_token()
            .await
            .expect("the first admin token");
        let mut world = Self {
            lab,
            gateway,
            runner: String::new(),
            tokens: json!({}),
        };
        for role in ["editor", "viewer"] {
            world.tokens[role] = world.token(&admin, role, &[]).await.into();
        }
        world.runner = world.token(&admin, "runner", &["acme"]).await;
        world.tokens["admin"] = admin.into();
        world
    }

    /// Makes a token of a role, named after it.
    async fn token(&self, admin: &str, role: &str, owners: &[&str]) -> String {
        let new = json!({"role": role, "name": format!("the {role}"), "owners": owners});
        let asked = self
            .gateway
            .control()
            .api("POST", "/api/v1/tokens", Some(admin), Some(&new));
        let made = asked.await.expect("an answer").expect(201).json();
        made["token"].as_str().expect("the token's text").to_owned()
    }

    /// What the scenarios know of it.
    pub(crate) fn told(&self) -> Value {
        json!({"url": URL, "tokens": self.tokens})
    }
}

/// The control plane's configuration: people log in at the lab's issuer, too.
fn section(lab: &Lab, people: &OidcIssuer) -> ControlSection {
    let of = |name: &str, groups: &[&str]| {
        let email = format!("{name}@example.test");
        people.admit(
            name,
            json!({"email": email, "email_verified": true, "groups": groups}),
        );
    };
    of("alice", &["everybody", "platform"]);
    of("bob", &["everybody"]);
    of("mallory", &["guests"]);
    let (issuer, ca) = (people.url(), lab.ca_pem_path());
    let groups = "[{group: platform, role: editor}, {group: everybody, role: viewer}]";
    let section = ControlSection::default().key(&format!("public-url: \"{URL}\""));
    section.key(&format!(
        "login: {{issuer: \"{issuer}\", client-id: tidegate, ca: \"{}\", groups: {groups}}}",
        ca.display()
    ))
}
