//! What the control plane is told of this gateway: who it is, and the networks that it serves.
//!
//! Owns what is said of a default policy. What was said holds for a connection: the client asks again with each ping, and
//! connects anew when it became another.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_control_wire::PROTOCOL;
use tidegate_control_wire::frame::{Hello, ServedNetwork};
use tidegate_policy::effective::{PolicySet, Slot};
use tidegate_policy::subject::{Network, RunnerKind};

use crate::core::Core;
use crate::networks::Served;
use crate::policies::PolicyFiles;

/// What a gateway says of itself.
pub(super) struct Told {
    core: Arc<Core>,
    networks: Vec<Network>,
    /// What was last said: files that are being read are not waited for.
    last: Mutex<Vec<ServedNetwork>>,
}

impl Told {
    /// Of a gateway that serves these networks.
    pub(super) fn new(core: &Arc<Core>, served: &[Served]) -> Self {
        let networks: Vec<Network> = served.iter().map(|one| one.network.clone()).collect();
        let policies = core.leases.policies();
        // Whatever is being read just now: jobs are registered by networks.
        let last = networks.iter().map(|one| told(one, &policies, None)).collect();
        Self {
            core: Arc::clone(core),
            networks,
            last: Mutex::new(last),
        }
    }

    /// Who this gateway is, from the beginning.
    pub(super) fn hello(&self) -> Hello {
        let config = self.core.config.load();
        let policies = self.core.leases.policies();
        if let Some(files) = self.core.files.try_lock() {
            let network = |one: &Network| {
                let own = config.networks.iter().find(|known| known.name == one.name);
                let file = own
                    .and_then(|known| known.default_policy.as_deref())
                    .or(config.default_policy.as_deref());
                told(one, &policies, file.map(|file| (file, &*files)))
            };
            *self.last.lock() = self.networks.iter().map(network).collect();
        }
        Hello {
            protocol: PROTOCOL,
            gateway: config.name.clone(),
            group: config.group.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            networks: self.last.lock().clone(),
            resume: None,
        }
    }
}

/// What is told of a network, for people who ask which policy a job has or would have. `default` is the file of the policy
/// that governs by default.
pub(super) fn told(
    network: &Network,
    policies: &PolicySet,
    default: Option<(&Path, &PolicyFiles)>,
) -> ServedNetwork {
    let own = policies.networks.get(&network.name).map(|known| &known.default);
    let slot = own
        .filter(|slot| !matches!(slot, Slot::Vacant))
        .unwrap_or(&policies.default);
    let default_policy = match (slot.meta(), slot.mode()) {
        (Some(meta), Some(mode)) => format!("{} ({})", meta.name, mode.as_str()),
        (Some(meta), None) => format!("{} (not readable: deny-all)", meta.name),
        (None, _) => "deny-all".into(),
    };
    let default_yaml = default
        .filter(|_| slot.mode().is_some())
        .and_then(|(file, files)| files.text_to_tell(file));
    ServedNetwork {
        name: network.name.clone(),
        cluster: network.cluster.clone(),
        ranges: network.ranges.clone(),
        min_assurance: network.min_assurance,
        default_policy: Some(default_policy),
        default_yaml: default_yaml.map(str::to_owned),
        runners: Some(match network.runners {
            RunnerKind::Ephemeral => "ephemeral".into(),
            RunnerKind::Persistent => "persistent".into(),
        }),
    }
}
