//! What a document says, without how: two texts with the same meaning decide the same.

use tidegate_policy::document::{
    Detection, Diagnostic, EndpointSet, HostSettings, Lockdown, ParseOptions, Platform, PolicyDocument,
    SourcedEndpoint,
};
use tidegate_policy::verdict::Mode;

use super::list::Placed;
use super::{Kind, List};

/// A document's meaning; lists are sorted, repetitions stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) mode: Option<Mode>,
    pub(super) allowed: Vec<String>,
    pub(super) denied: Vec<String>,
    pub(super) uses: Vec<String>,
    pub(super) lockdown: Option<(bool, Vec<String>)>,
    platform: Platform,
    icmp: bool,
    not_enforced: Vec<String>,
    host: HostSettings,
}

impl Meaning {
    /// Reads it; every diagnostic when one is an error.
    pub(super) fn of(yaml: &str, kind: Kind) -> Result<Self, Vec<Diagnostic>> {
        // What a strict store refuses is said by who stores it.
        let options = ParseOptions::default();
        let mut document = match kind {
            Kind::Policy => {
                let read = PolicyDocument::parse(yaml, &options);
                read.document.ok_or(read.diagnostics)?
            }
            Kind::Set => {
                let read = EndpointSet::parse(yaml, &options);
                let set = read.document.ok_or(read.diagnostics)?;
                let mut document = PolicyDocument::default();
                document.allowed_endpoints = set.endpoints;
                document
            }
        };
        document.not_enforced.sort_unstable();
        document.use_sets.sort_unstable();
        Ok(Self {
            mode: document.egress_policy,
            allowed: sorted(&document.allowed_endpoints),
            denied: sorted(&document.denied_endpoints),
            uses: document.use_sets,
            lockdown: document.lockdown.as_ref().map(section),
            platform: document.platform,
            icmp: document.icmp,
            not_enforced: document.not_enforced,
            host: document.host,
        })
    }

    fn list(&mut self, list: List) -> Option<&mut Vec<String>> {
        match list {
            List::Allowed => Some(&mut self.allowed),
            List::Denied => Some(&mut self.denied),
            List::Use => Some(&mut self.uses),
            List::Detections => self.lockdown.as_mut().map(|(_, detections)| detections),
        }
    }

    pub(super) fn add(&mut self, list: List, words: &[String]) {
        if let Some(list) = self.list(list) {
            list.extend_from_slice(words);
            list.sort_unstable();
        }
    }

    /// Takes an endpoint out of both lists, however often it stands there. False when it stands in none.
    pub(super) fn drop_endpoint(&mut self, endpoint: &str) -> bool {
        let before = self.allowed.len() + self.denied.len();
        self.allowed.retain(|one| one != endpoint);
        self.denied.retain(|one| one != endpoint);
        self.allowed.len() + self.denied.len() < before
    }

    /// Takes one away from where it stands.
    pub(super) fn drop_one(&mut self, token: &Placed) {
        if let Some(list) = self.list(token.list)
            && let Some(at) = list.iter().position(|one| *one == token.canonical)
        {
            list.remove(at);
        }
    }

    pub(super) fn set_lockdown(&mut self, wanted: Option<&Lockdown>) {
        self.lockdown = wanted.map(section);
    }

    pub(super) fn enable(&mut self, enabled: bool) {
        if let Some(lockdown) = &mut self.lockdown {
            lockdown.0 = enabled;
        }
    }

    pub(super) fn detections(&self) -> Vec<String> {
        self.lockdown
            .as_ref()
            .map(|(_, detections)| detections.clone())
            .unwrap_or_default()
    }

    pub(super) fn drop_detection(&mut self, name: &str) {
        if let Some((_, detections)) = &mut self.lockdown {
            detections.retain(|one| one != name);
        }
    }
}

fn section(lockdown: &Lockdown) -> (bool, Vec<String>) {
    let names = lockdown.detections.iter().copied().map(Detection::as_str);
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    (lockdown.enabled, names)
}

fn sorted(list: &[SourcedEndpoint]) -> Vec<String> {
    let mut all: Vec<String> = list.iter().map(|one| one.endpoint.to_string()).collect();
    all.sort_unstable();
    all
}
