//! A fleet for tests of the policy store: a control plane and the gateways that follow it, each a process of its own
//! over TLS, with tokens for everybody who asks something of them.
//!
//! Owns the words in which tests change policies and jobs, and how long they wait to see it on the wire. Holds no
//! expectation of its own beyond the status of its own requests. Tests of `gate/store` drive it.

mod policies;
mod runners;

use serde_json::{Value, json};
use tidegate_lab::{Answer, Control, ControlBuilder, Gateway, GatewayBuilder, Lab, OidcIssuer};

use crate::{start, tidegate};

pub use self::runners::{Fetched, fetch, start_of, within_a_second};

/// The owner whose policies and jobs these are.
pub const OWNER: &str = "acme";
/// The audience that the fleet's issuers are asked for.
pub const AUDIENCE: &str = "tidegate";
/// The fleet's group, where it has two gateways.
pub const GROUP: &str = "zone-a";

/// What a fleet is made of before it starts.
#[must_use]
pub struct FleetBuilder<'a> {
    control: ControlBuilder<'a>,
    gateways: Gateways<'a>,
}

/// What its gateways are made of.
struct Gateways<'a> {
    lab: &'a Lab,
    networks: Vec<String>,
    sections: Vec<String>,
    files: Vec<(String, String)>,
    hosts: Vec<&'static str>,
    second: bool,
}

/// A control plane with its gateways.
pub struct Fleet<'a> {
    /// Where it stands.
    pub lab: &'a Lab,
    /// `gw-1`, and `gw-2` where there is one.
    pub gateways: Vec<Gateway<'a>>,
    /// The control plane, `https://control.test:8443`.
    pub control: Control,
    /// The first admin's token.
    pub admin: String,
    /// A runner token for all jobs of [`OWNER`].
    pub runner: String,
    /// A provisioner's token for all networks.
    pub provisioner: String,
}

impl<'a> FleetBuilder<'a> {
    /// A control plane with SQLite, and gateway `gw-1` with network `net0` of cluster `prod`, whose unknown sources get
    /// nothing. The lab needs [`control`](tidegate_lab::Builder::control).
    pub fn new(lab: &'a Lab) -> Self {
        Self {
            control: ControlBuilder::new(lab, tidegate()),
            gateways: Gateways {
                lab,
                networks: Vec::new(),
                sections: Vec::new(),
                files: Vec::new(),
                hosts: Vec::new(),
                second: false,
            },
        }
    }

    /// Sees to what else control is configured with.
    pub fn control(mut self, with: impl FnOnce(ControlBuilder<'a>) -> ControlBuilder<'a>) -> Self {
        self.control = with(self.control);
        self
    }

    /// Trusts an issuer for [`AUDIENCE`].
    pub fn issuer(self, issuer: &OidcIssuer) -> Self {
        self.control(|control| control.issuer(issuer.url(), AUDIENCE))
    }

    /// The next network has these keys, instead of one network of cluster `prod`.
    pub fn network(mut self, keys: &str) -> Self {
        self.gateways.networks.push(keys.to_owned());
        self
    }

    /// A key of the `gateway` section, on one line.
    pub fn section(mut self, key: &str) -> Self {
        self.gateways.sections.push(key.to_owned());
        self
    }

    /// Each gateway answers these names with its own address, and serves the runner API under them.
    pub fn hosts(mut self, names: &[&'static str]) -> Self {
        self.gateways.hosts.extend(names);
        self
    }

    /// A file beside each gateway's configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.gateways.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Adds gateway `gw-2`, both in [`GROUP`]. The lab needs [`second_gateway`](tidegate_lab::Builder::second_gateway).
    pub fn second_gateway(mut self) -> Self {
        self.gateways.second = true;
        self
    }

    /// Starts everything, and waits until each gateway has synced the fleet's tokens.
    pub async fn start(self) -> Fleet<'a> {
        Box::pin(self.begin()).await
    }

    async fn begin(self) -> Fleet<'a> {
        let Self { control, gateways } = self;
        let control = control.start().await;
        let control = control.unwrap_or_else(|error| panic!("{error}"));
        let admin = control.admin_token().await.expect("the first admin token");
        let mut fleet = Fleet {
            lab: gateways.lab,
            gateways: Vec::new(),
            control,
            admin,
            runner: String::new(),
            provisioner: String::new(),
        };
        fleet.runner = fleet
            .token(&json!({"role": "runner", "name": "fleet", "owners": [OWNER]}))
            .await;
        fleet.provisioner = fleet
            .token(&json!({"role": "provisioner", "name": "scaler"}))
            .await;
        for number in 1..=if gateways.second { 2 } else { 1 } {
            let token = fleet
                .token(&json!({"role": "gateway", "name": format!("gw-{number}")}))
                .await;
            let gateway = gateways.builder(number, &fleet.control.url(), &token);
            fleet.gateways.push(start(gateway).await);
        }
        fleet.connected().await;
        fleet
    }
}

impl<'a> Gateways<'a> {
    /// Gateway 1 or 2, which follows the control plane at `url` with its token.
    fn builder(&self, number: usize, url: &str, token: &str) -> GatewayBuilder<'a> {
        let builder = match number {
            1 => GatewayBuilder::named(self.lab, "gw-1", tidegate()),
            _ => GatewayBuilder::second(self.lab, "gw-2", tidegate()),
        };
        let builder = builder
            .control_plane(url, token, &self.lab.ca_pem_path())
            .runner_api();
        let builder = if self.second {
            builder.group(GROUP)
        } else {
            builder
        };
        let plain = ["cluster: prod".to_owned()];
        let networks = if self.networks.is_empty() {
            &plain[..]
        } else {
            &self.networks
        };
        let builder = networks
            .iter()
            .fold(builder, |builder, keys| builder.network(keys));
        let builder = if self.hosts.is_empty() {
            builder
        } else {
            builder.hosts(&self.hosts)
        };
        let sections = self.sections.iter();
        let builder = sections.fold(builder, |builder, key| builder.section(key));
        self.files.iter().fold(builder, |builder, (name, text)| {
            builder.file(name, text).expect("a file of the gateway")
        })
    }
}

impl<'a> Fleet<'a> {
    /// See [`FleetBuilder::new`].
    pub fn builder(lab: &'a Lab) -> FleetBuilder<'a> {
        FleetBuilder::new(lab)
    }

    /// The usual fleet, running.
    pub async fn start(lab: &'a Lab) -> Self {
        FleetBuilder::new(lab).start().await
    }

    /// The first gateway.
    pub fn gateway(&self) -> &Gateway<'a> {
        &self.gateways[0]
    }

    /// Waits until each gateway is connected and has put something in force.
    pub async fn connected(&self) {
        for gateway in &self.gateways {
            gateway
                .wait_status("the gateway to follow control", |status| {
                    let control = &status["control"];
                    control["state"] == "connected" && control["generation"].as_u64() > Some(0)
                })
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// How far each gateway has followed control.
    pub async fn generations(&self) -> Vec<u64> {
        let mut generations = Vec::new();
        for gateway in &self.gateways {
            let (_, status) = gateway.status().await.expect("its status");
            generations.push(status["control"]["generation"].as_u64().unwrap_or_default());
        }
        generations
    }

    /// Does something that gateways have to hear of, and waits until they have: for what is not seen on the wire.
    pub async fn synced<T>(&self, change: impl Future<Output = T>) -> T {
        let before = self.generations().await;
        let done = change.await;
        for (gateway, before) in self.gateways.iter().zip(before) {
            let further = |status: &Value| status["control"]["generation"].as_u64() > Some(before);
            gateway
                .wait_status("the gateway to hear of the change", further)
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
        done
    }

    /// Asks the control plane as the first admin.
    pub async fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.api_as(&self.admin, method, path, body).await
    }

    /// Asks the control plane with any token.
    pub async fn api_as(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let path = format!("/api/v1{path}");
        let answer = self.control.api(method, &path, Some(token), body).await;
        answer.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a token and gives back its text. Gateways that run already hear of it a little later: [`synced`](Self::synced).
    pub async fn token(&self, of: &Value) -> String {
        let made = self.api("POST", "/tokens", Some(of)).await.expect(201).json();
        made["token"].as_str().expect("the token's text").to_owned()
    }
}
