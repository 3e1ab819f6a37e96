//! The routing rules of interception: owns the two rules per runner interface and
//! family, and the table that delivers locally; never touches a rule or route
//! that isn't its own (all of ours carry [`PROTOCOL`]).
//!
//! For packets that arrive on a runner interface, after the kernel's own table of
//! local addresses:
//!
//! - marked as diverted → our table, whose only route is "everything is local";
//! - all else → blackhole. This refuses forwarding a second time, without
//!   nftables and whatever the forwarding settings say.
//!
//! Both name the interface: the gateway's own packets can never be caught, even
//! if a mark is reflected into them. Only where the gateway dials with runners'
//! addresses (`preserve_source`) does a third rule deliver marked packets from any
//! interface.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::plan::{InterceptPlan, Steering};
use crate::link::{NetlinkError, netlink::Netlink};
use futures_util::TryStreamExt;
use rtnetlink::{
    IpVersion, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

/// Who made the rule or route, as `ip rule` shows it: unassigned in iproute2's
/// list, so that clean-up knows ours without knowing the plan that made them.
pub(super) const PROTOCOL: u8 = 84;

/// Why a rule or route could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The kernel can't be asked.
    #[error("the kernel's routing can't be reached")]
    Netlink(#[from] NetlinkError),
    /// The loopback interface is missing, so that nothing could be delivered.
    #[error("cannot find the loopback interface")]
    NoLoopback(#[source] nix::Error),
    /// The kernel refused.
    #[error("cannot {0}")]
    Kernel(&'static str, #[source] rtnetlink::Error),
}

/// What the rules and routes must be for one plan.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    rules: Vec<RuleMessage>,
    steering: Steering,
}

impl Routing {
    pub(super) fn compile(plan: &InterceptPlan) -> Self {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for interface in plan.interfaces() {
                rules.push(divert_rule(family, interface.as_str(), plan.steering));
                rules.push(refuse_rule(family, interface.as_str(), plan.steering));
            }
            if plan.preserve_source {
                rules.push(preserve_rule(family, plan.steering));
            }
        }
        Self {
            rules,
            steering: plan.steering,
        }
    }

    /// Makes the routes and rules, and removes ours that the plan no longer has.
    /// Routes first: a rule never points into an empty table.
    pub(super) async fn apply(&self, netlink: &Netlink) -> Result<(), RoutingError> {
        for route in self.routes()? {
            let add = netlink.handle.route().add(route).replace();
            add.execute()
                .await
                .map_err(|e| RoutingError::Kernel("add the local route", e))?;
        }
        let present = our_rules(netlink).await?;
        for wanted in &self.rules {
            if !present.iter().any(|rule| same_rule(rule, wanted)) {
                let mut add = netlink.handle.rule().add();
                *add.message_mut() = wanted.clone();
                add.execute()
                    .await
                    .map_err(|e| RoutingError::Kernel("add a routing rule", e))?;
            }
        }
        let stale = present
            .into_iter()
            .filter(|rule| !self.rules.iter().any(|wanted| same_rule(rule, wanted)));
        for rule in stale {
            delete_rule(netlink, rule).await?;
        }
        Ok(())
    }

    /// What is missing, in words; `None` when all is there.
    pub(super) async fn first_deviation(&self, netlink: &Netlink) -> Result<Option<String>, RoutingError> {
        let present = our_rules(netlink).await?;
        for wanted in &self.rules {
            if !present.iter().any(|rule| same_rule(rule, wanted)) {
                return Ok(Some(format!("routing rule missing: {}", describe(wanted))));
            }
        }
        for route in self.routes()? {
            let family = route.header.address_family;
            let there = our_routes(netlink, family).await?;
            if !there.iter().any(|found| same_route(found, &route)) {
                return Ok(Some(format!(
                    "local {family:?} route missing in table {}",
                    self.steering.table
                )));
            }
        }
        Ok(None)
    }

    fn routes(&self) -> Result<[RouteMessage; 2], RoutingError> {
        let loopback = nix::net::if_::if_nametoindex("lo").map_err(RoutingError::NoLoopback)?;
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(self.steering.table)
            .protocol(RouteProtocol::Other(PROTOCOL))
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .output_interface(loopback)
            .build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new()
            .table_id(self.steering.table)
            .protocol(RouteProtocol::Other(PROTOCOL))
            .kind(RouteType::Local)
            .output_interface(loopback)
            .build();
        Ok([v4, v6])
    }
}

/// Removes every rule and route of ours, whichever plan made it.
pub(super) async fn remove_all(netlink: &Netlink) -> Result<(), RoutingError> {
    for rule in our_rules(netlink).await? {
        delete_rule(netlink, rule).await?;
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for route in our_routes(netlink, family).await? {
            let delete = netlink.handle.route().del(route).execute().await;
            delete.map_err(|e| RoutingError::Kernel("delete the local route", e))?;
        }
    }
    Ok(())
}

async fn delete_rule(netlink: &Netlink, rule: RuleMessage) -> Result<(), RoutingError> {
    let delete = netlink.handle.rule().del(rule).execute().await;
    delete.map_err(|e| RoutingError::Kernel("delete a routing rule", e))
}

async fn our_rules(netlink: &Netlink) -> Result<Vec<RuleMessage>, RoutingError> {
    let mut ours = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let dump: Vec<RuleMessage> = netlink
            .handle
            .rule()
            .get(version)
            .execute()
            .try_collect()
            .await
            .map_err(|e| RoutingError::Kernel("list routing rules", e))?;
        let tag = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
        ours.extend(dump.into_iter().filter(|rule| rule.attributes.contains(&tag)));
    }
    Ok(ours)
}

async fn our_routes(netlink: &Netlink, family: AddressFamily) -> Result<Vec<RouteMessage>, RoutingError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = family;
    filter.header.protocol = RouteProtocol::Other(PROTOCOL);
    let dump: Vec<RouteMessage> = netlink
        .handle
        .route()
        .get(filter)
        .execute()
        .try_collect()
        .await
        .map_err(|e| RoutingError::Kernel("list routes", e))?;
    let ours = |route: &RouteMessage| route.header.protocol == RouteProtocol::Other(PROTOCOL);
    Ok(dump.into_iter().filter(ours).collect())
}

fn divert_rule(family: AddressFamily, interface: &str, steering: Steering) -> RuleMessage {
    to_table(rule(family, Some(interface), steering.priority), steering)
}

/// For whatever carries the mark. Its priority is its own: the kernel deletes the
/// first rule that has all named attributes, so a rule that is part of another
/// could not be deleted alone.
fn preserve_rule(family: AddressFamily, steering: Steering) -> RuleMessage {
    to_table(rule(family, None, steering.priority + 2), steering)
}

fn to_table(mut rule: RuleMessage, steering: Steering) -> RuleMessage {
    rule.header.action = RuleAction::ToTable;
    rule.header.table = RouteHeader::RT_TABLE_UNSPEC;
    rule.attributes.extend([
        RuleAttribute::FwMark(steering.divert_mark),
        RuleAttribute::FwMask(steering.divert_mark),
        RuleAttribute::Table(steering.table),
    ]);
    rule
}

fn refuse_rule(family: AddressFamily, interface: &str, steering: Steering) -> RuleMessage {
    let mut rule = rule(family, Some(interface), steering.priority + 1);
    rule.header.action = RuleAction::Blackhole;
    rule
}

fn rule(family: AddressFamily, interface: Option<&str>, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    let interface = interface.map(|name| RuleAttribute::Iifname(name.to_owned()));
    rule.attributes.extend(interface);
    rule.attributes.extend([
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ]);
    rule
}

/// Whether a rule from a dump is the one we made: the kernel adds attributes of
/// its own (a suppressed prefix length, a table for a rule that has none).
fn same_rule(found: &RuleMessage, wanted: &RuleMessage) -> bool {
    found.header.family == wanted.header.family
        && found.header.action == wanted.header.action
        && found.header.src_len == 0
        && found.header.dst_len == 0
        && interface_of(found) == interface_of(wanted)
        && wanted
            .attributes
            .iter()
            .all(|attribute| found.attributes.contains(attribute))
}

fn interface_of(rule: &RuleMessage) -> Option<&RuleAttribute> {
    let names_interface = |attribute: &&RuleAttribute| matches!(attribute, RuleAttribute::Iifname(_));
    rule.attributes.iter().find(names_interface)
}

fn same_route(found: &RouteMessage, wanted: &RouteMessage) -> bool {
    found.header.kind == wanted.header.kind
        && found.header.destination_prefix_length == 0
        && table_of(found) == table_of(wanted)
        && wanted
            .attributes
            .iter()
            .filter(|attribute| matches!(attribute, RouteAttribute::Oif(_)))
            .all(|attribute| found.attributes.contains(attribute))
}

fn table_of(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Table(table) = attribute {
            Some(*table)
        } else {
            None
        }
    });
    attribute.unwrap_or_else(|| route.header.table.into())
}

fn describe(rule: &RuleMessage) -> String {
    format!(
        "{:?} {:?} {:?}",
        rule.header.family, rule.header.action, rule.attributes
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::intercept::plan::{InterfaceName, NetworkPlan};

    fn routing() -> Routing {
        let interface = InterfaceName::parse("run0").unwrap();
        Routing::compile(&InterceptPlan {
            networks: vec![NetworkPlan::new("n", interface, Vec::new())],
            tcp_port: 1,
            udp_port: 1,
            runner_api: Vec::new(),
            refuse_v6_tcp: false,
            preserve_source: false,
            steering: Steering::default(),
        })
    }

    #[test]
    fn every_rule_names_its_interface_so_own_packets_are_never_caught() {
        let routing = routing();
        assert_eq!(routing.rules.len(), 4);
        for rule in &routing.rules {
            let named = RuleAttribute::Iifname("run0".to_owned());
            assert!(rule.attributes.contains(&named), "{}", describe(rule));
        }
    }

    #[test]
    fn a_dumped_rule_is_recognised_with_the_kernels_additions_and_not_when_narrowed() {
        let wanted = &routing().rules[0];
        let mut found = wanted.clone();
        found.attributes.push(RuleAttribute::SuppressPrefixLen(u32::MAX));
        assert!(same_rule(&found, wanted));
        found.header.src_len = 32;
        assert!(!same_rule(&found, wanted), "a rule for one source is not ours");
    }
}
