//! Reading the configuration anew while the gateway runs, by a signal or because a policy file changed.
//!
//! Owns what can't change without a restart. A bad configuration is refused whole, and the old one stays.

use std::sync::Arc;

use tidegate_dns::resolver::ResolverConfig;

use super::chain;
use crate::config::{ConfigError, GatewayConfig, NetworkConfig};
use crate::core::Core;
use crate::watch::FileWatch;
use crate::{parts, policies};

/// Re-reads the configuration; a bad one is refused whole and the old one stays.
pub(super) fn reload(core: &Arc<Core>) {
    match GatewayConfig::read(&core.file).and_then(|config| check_reload(core, config)) {
        Ok((config, resolver)) => {
            core.apply_config(config, &resolver);
            *core.refused_config.lock() = None;
            tracing::info!("the configuration was re-read");
        }
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, "the new configuration is refused, the old one stays");
            *core.refused_config.lock() = Some(error);
        }
    }
}

/// What can't change while running: listeners and networks are opened once.
fn check_reload(core: &Core, config: GatewayConfig) -> Result<(GatewayConfig, ResolverConfig), ConfigError> {
    let old = core.config.load();
    // Policies of networks are read anew like all others; what a network is stays.
    let networks = |config: &GatewayConfig| -> Vec<NetworkConfig> {
        let bare = |one: &NetworkConfig| NetworkConfig {
            default_policy: None,
            always_allow: None,
            ..one.clone()
        };
        config.networks.iter().map(bare).collect()
    };
    let refuse = |key: &str| ConfigError::Value {
        path: core.file.clone(),
        key: key.to_owned(),
        message: "can't change while the gateway runs; restart it".into(),
    };
    let fixed = [
        ("gateway.name", old.name == config.name),
        ("gateway.group", old.group == config.group),
        ("gateway.control-plane", old.control_plane == config.control_plane),
        ("gateway.state-dir", old.state_dir == config.state_dir),
        ("gateway.networks", networks(&old) == networks(&config)),
        ("gateway.dns.tls", old.dns.tls == config.dns.tls),
        ("gateway.proxy", old.proxy == config.proxy),
        ("gateway.runner-api", old.runner_api == config.runner_api),
        (
            "gateway.events",
            old.events == config.events && old.spool_bytes == config.spool_bytes,
        ),
        ("gateway.metrics", old.metrics == config.metrics),
    ];
    if let Some((key, _)) = fixed.iter().find(|(_, same)| !same) {
        return Err(refuse(key));
    }
    match parts::resolver_config(&config.dns) {
        Ok(resolver) => Ok((config, resolver)),
        Err(error) => Err(ConfigError::Value {
            path: core.file.clone(),
            key: "gateway.dns".into(),
            message: chain(&error),
        }),
    }
}

pub(super) fn watch_files(core: &Core) -> Option<FileWatch> {
    FileWatch::over(&policies::watched_paths(&core.config.load()))
        .inspect_err(|error| tracing::error!(error = chain(error), "changed policies need a reload"))
        .ok()
}

pub(super) async fn changed(watch: Option<&FileWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
