//! What becomes of jobs when something is away: the control plane, the gateway, its state, its token. What was last
//! known stays in force, from disk too; what was never known refuses everything; nothing that ended comes back.

mod away;
mod state;

use std::time::Duration;

use serde_json::Value;
use tidegate_e2e::store::Fleet;
use tidegate_e2e::{PATIENCE, block};
use tidegate_lab::{Gateway, Lab, wait_until};

/// What the default policy of unknown sources, `acme/web`'s and `acme/api`'s policies allow, in this order.
const NAMES: [&str; 3] = ["allowed.test", "cdn-a.test", "cdn-b.test"];
const DEFAULT: [&str; 1] = ["allowed.test"];
const WEB: [&str; 1] = ["cdn-a.test"];
const API: [&str; 1] = ["cdn-b.test"];
const NOTHING: [&str; 0] = [];

/// A lab with three runners and a control plane's machine.
fn lab() -> Lab {
    Lab::builder().runners(3).control().build().unwrap()
}

/// A fleet with both policies, whose runners 0 and 1 are jobs of `acme/web` and `acme/api`.
async fn fleet(lab: &Lab) -> Fleet<'_> {
    let builder = Fleet::builder(lab).network("cluster: prod, default-policy: default.yaml");
    let fleet = builder
        .file("default.yaml", &block(&["allowed.test:443"]))
        .start()
        .await;
    fleet
        .attached("web", &block(&["cdn-a.test:443"]), "repo:acme/web")
        .await;
    fleet
        .attached("api", &block(&["cdn-b.test:443"]), "repo:acme/api")
        .await;
    fleet.register(0, "acme/web", "ci.yml").await;
    fleet.register(1, "acme/api", "ci.yml").await;
    fleet.reaches(0, "cdn-a.test").await;
    fleet.reaches(1, "cdn-b.test").await;
    fleet
}

/// Each runner's names: those of its job, or the default's.
async fn as_they_were(fleet: &Fleet<'_>) {
    assert_eq!(fleet.reached(0, &NAMES).await, WEB);
    assert_eq!(fleet.reached(1, &NAMES).await, API);
    assert_eq!(fleet.reached(2, &NAMES).await, DEFAULT);
}

/// Waits until the gateway says this of its control plane; gives back all that it says of it.
async fn link(gateway: &Gateway<'_>, state: &str) -> Value {
    let is = |status: &Value| status["control"]["state"] == state;
    let status = gateway.wait_status(&format!("control to be {state}"), is).await;
    status.unwrap_or_else(|error| panic!("{error}"))["control"].clone()
}

/// Waits until the gateway's log has this.
async fn says(gateway: &Gateway<'_>, text: &str) {
    let said = wait_until(text, PATIENCE, async || {
        let log = gateway.process().stderr();
        if log.contains(text) { Ok(()) } else { Err(log) }
    });
    said.await.unwrap_or_else(|error| panic!("{error}"));
}

/// How a gateway goes.
#[derive(Clone, Copy, Debug)]
enum End {
    /// SIGTERM: in order.
    Stop,
    /// SIGKILL.
    Kill,
}

impl End {
    async fn of(self, gateway: &mut Gateway<'_>) {
        match self {
            Self::Stop => assert_eq!(gateway.stop(Duration::from_secs(20)).await.unwrap(), Some(0)),
            Self::Kill => gateway.kill().await.unwrap(),
        }
    }
}
