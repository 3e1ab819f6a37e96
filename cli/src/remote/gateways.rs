//! `tidegate gateway list`: the gateways that the control plane has seen.

use std::process::ExitCode;

use reqwest::Method;
use tidegate_control::model::{GatewayView, Page};

use super::args::things::GatewayAction;
use super::client::Client;
use super::{show, when};

/// Does what was asked.
pub(super) async fn run(action: &GatewayAction) -> anyhow::Result<ExitCode> {
    let GatewayAction::List { remote } = action;
    let client = Client::new(remote)?;
    // The one list that has no pages.
    let answer = client.call(Method::GET, &["gateways"])?.send().await?;
    if remote.json {
        show::json(&answer.json);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |gateway: GatewayView| {
        let networks: Vec<String> = gateway
            .networks
            .iter()
            .map(|network| network.name.to_string())
            .collect();
        [
            show::cell(&gateway.name),
            show::cell(&gateway.group),
            if gateway.connected { "connected" } else { "away" }.to_owned(),
            gateway.generation.to_string(),
            show::cells(&networks),
            show::cell(&gateway.version),
            when::show(gateway.last_seen_at),
        ]
    };
    let seen: Page<GatewayView> = answer.read()?;
    let header = [
        "NAME",
        "GROUP",
        "STATE",
        "GENERATION",
        "NETWORKS",
        "VERSION",
        "LAST SEEN",
    ];
    show::table(
        header,
        seen.items.into_iter().map(row).collect(),
        "no gateway was ever seen",
    );
    Ok(ExitCode::SUCCESS)
}
