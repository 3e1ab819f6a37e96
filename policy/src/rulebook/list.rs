//! One allow or deny list: compiled endpoints together with the rules as written.
//!
//! Adapts the tries of [`crate::compile`], which know ids only, to the questions that judging asks, and
//! answers with [`RuleRef`]s. It decides nothing; [`crate::judge`] drives it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::matcher::{Matcher, Offer};
use crate::compile::rules::{RuleId, RuleRef, RuleSource, RuleTable};
use crate::compile::{Ends, NameView};
use crate::document::SourcedEndpoint;
use crate::endpoint::{Host, Ports, Protocols, Transport};
use crate::name::DnsName;

/// Endpoints compiled together with the table that turns a match back into the rule as written.
#[derive(Debug)]
pub struct RuleList {
    matcher: Matcher,
    rules: Arc<RuleTable>,
    has_names: bool,
}

impl RuleList {
    /// Compiles endpoints of one or more sources.
    pub fn compile<'a>(endpoints: impl IntoIterator<Item = (&'a SourcedEndpoint, RuleSource)>) -> Self {
        let mut rules = RuleTable::builder();
        let mut has_names = false;
        let compiled: Vec<_> = endpoints
            .into_iter()
            .inspect(|(one, _)| has_names |= matches!(one.endpoint.host, Host::Name(_)))
            .map(|(one, source)| (one.endpoint.clone(), rules.push(&one.text, one.line, source)))
            .collect();
        Self {
            matcher: Matcher::build(compiled),
            rules: Arc::new(rules.finish()),
            has_names,
        }
    }

    /// The rule that covers a name on a port.
    pub fn find_name(&self, name: &DnsName, port: u16, transport: Transport) -> Option<RuleRef> {
        self.matcher
            .find_name(name, port, transport)
            .map(|id| self.rule(id))
    }

    /// The rule that covers an address on a port.
    pub fn find_address(&self, address: IpAddr, port: u16, transport: Transport) -> Option<RuleRef> {
        self.matcher
            .find_address(address, port, transport)
            .map(|id| self.rule(id))
    }

    /// The rule by which some port of a name stays permitted after `denied`.
    pub fn any_port(&self, name: &DnsName, denied: &Self) -> Option<RuleRef> {
        self.matcher
            .any_port_permitted(name, &denied.matcher)
            .map(|id| self.rule(id))
    }

    /// [`Self::any_port`], and whether a pattern lies below the name (RFC 8020: such a name must exist), at once.
    pub(crate) fn offer(&self, name: &NameView<'_>, denied: &Self) -> Offer<RuleRef> {
        let Offer { rule, above } = self.matcher.offer(name, &denied.matcher);
        let rule = rule.map(|id| self.rule(id));
        Offer { rule, above }
    }

    /// The earliest rule that matches a name, whatever its ports.
    pub fn any_rule(&self, name: &DnsName) -> Option<RuleRef> {
        let mut first: Option<RuleId> = None;
        self.matcher.names.for_each_match(name, |rule, _, _| {
            first = Some(first.map_or(rule, |known| known.min(rule)));
        });
        first.map(|id| self.rule(id))
    }

    /// The rule that leaves a name no port and no transport.
    pub fn whole_name(&self, name: &DnsName) -> Option<RuleRef> {
        let mut whole = Whole::default();
        self.matcher
            .names
            .for_each_match(name, |rule, ports, protocols| whole.see(rule, ports, protocols));
        whole.rule().map(|id| self.rule(id))
    }

    /// The rule that leaves an address no port and no transport.
    pub fn whole_address(&self, address: IpAddr) -> Option<RuleRef> {
        let mut whole = Whole::default();
        self.matcher
            .nets
            .for_each_match(address, |rule, ports, protocols| {
                whole.see(rule, ports, protocols);
            });
        whole.rule().map(|id| self.rule(id))
    }

    /// False when no name of this list ends in one of these labels; true when one may.
    pub(crate) fn may_end_in(&self, labels: &Ends) -> bool {
        self.matcher.names.may_end_in_any(labels)
    }

    /// The rule that covers an address on some port.
    pub fn covering(&self, address: IpAddr) -> Option<RuleRef> {
        let mut first = None;
        self.matcher.nets.for_each_match(address, |rule, _, _| {
            first.get_or_insert(rule);
        });
        first.map(|id| self.rule(id))
    }

    /// The rule that a reader would call the nearest to a refused name.
    pub fn nearest(&self, name: &DnsName) -> Option<RuleRef> {
        self.matcher.names.nearest(name).map(|id| self.rule(id))
    }

    /// Exact names on a port, each with its rule; the caller bounds how many it takes.
    pub fn exact_names(
        &self,
        port: u16,
        transport: Transport,
    ) -> impl Iterator<Item = (DnsName, RuleRef)> + '_ {
        self.matcher
            .names
            .exact_names_on_port(port, transport)
            .map(|(name, id)| (name.clone(), self.rule(id)))
    }

    /// Every rule as it was written, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.rules.texts()
    }

    /// Heap memory in bytes, texts and lines included.
    pub fn heap_bytes(&self) -> usize {
        self.matcher.heap_bytes() + self.rules.heap_bytes()
    }

    /// True when some rule is a name: a flow that hides its name may want that one.
    pub fn has_names(&self) -> bool {
        self.has_names
    }

    fn rule(&self, id: RuleId) -> RuleRef {
        RuleRef::new(&self.rules, id)
    }
}

/// Whether the rules seen for one host leave nothing of it: every port by TCP and by UDP. Partial ranges
/// that add up to all ports are not counted: what this refuses early, the flow's own check refuses anyway.
#[derive(Default)]
struct Whole {
    tcp: Option<RuleId>,
    udp: Option<RuleId>,
}

impl Whole {
    fn see(&mut self, rule: RuleId, ports: Ports, protocols: Protocols) {
        if ports != Ports::ALL {
            return;
        }
        if protocols.cover(Transport::Tcp) {
            self.tcp.get_or_insert(rule);
        }
        if protocols.cover(Transport::Udp) {
            self.udp.get_or_insert(rule);
        }
    }

    fn rule(&self) -> Option<RuleId> {
        self.udp.and(self.tcp)
    }
}
