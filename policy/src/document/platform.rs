//! The platform pack: what the runner itself needs, as data in a versioned file of the program.
//!
//! It is read by the grammar of policies and holds nothing wider than that grammar lets pass without a
//! remark. Driven by [`crate::rulebook`], which permits it after the policy's own endpoints.

use std::sync::LazyLock;

use super::diagnostic::Severity;
use super::node::{Node, Value};
use super::reader::Reader;
use super::{ParseOptions, Parsed, SourcedEndpoint};
use crate::endpoint::parse::Role;

const GITHUB_ACTIONS: &str = include_str!("../../data/platform/github-actions.yaml");
const KEYS: [&str; 4] = ["version", "date", "provenance", "endpoints"];

static PACK: LazyLock<PlatformPack> = LazyLock::new(|| {
    read(GITHUB_ACTIONS)
        .document
        .expect("the shipped pack is read by a test")
});

/// A versioned list of endpoints with its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformPack {
    /// Grows with every change of the file.
    pub version: u32,
    /// Day of the last change, `YYYY-MM-DD`.
    pub date: String,
    /// Where its names were read.
    pub provenance: Vec<String>,
    /// What it permits.
    pub endpoints: Vec<SourcedEndpoint>,
}

/// The pack of GitHub Actions.
pub fn pack() -> &'static PlatformPack {
    &PACK
}

/// Reads a pack, strictly: what would only be a warning in a policy is an error here.
fn read(text: &str) -> Parsed<PlatformPack> {
    Reader::run(text, ParseOptions { strict: true }, |reader, root| {
        let mut pack = PlatformPack::default();
        let Value::Map(map) = &root.value else {
            reader.error(root, "expected a mapping", None);
            return pack;
        };
        for (name, key, value) in reader.entries(map) {
            match name {
                "version" => pack.version = version(reader, value),
                "date" => pack.date = text_of(value),
                "provenance" => pack.provenance = provenance(value),
                "endpoints" => pack.endpoints = reader.endpoints(value, Role::Allowed),
                unknown => reader.unknown_key(key, unknown, KEYS),
            }
        }
        if pack.version == 0
            || pack.date.is_empty()
            || pack.provenance.is_empty()
            || pack.endpoints.is_empty()
        {
            reader.report(
                Severity::Error,
                root,
                format!("a pack needs {}", KEYS.join(", ")),
                None,
            );
        }
        pack
    })
}

fn version(reader: &Reader<'_>, value: &Node) -> u32 {
    let (_, word) = reader.source.word(value.line, value.column);
    word.parse().unwrap_or_default()
}

fn text_of(value: &Node) -> String {
    match &value.value {
        Value::Text(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number | Value::List(_) | Value::Map(_) => String::new(),
    }
}

fn provenance(value: &Node) -> Vec<String> {
    match &value.value {
        Value::List(items) => items.iter().map(text_of).collect(),
        Value::Null | Value::Bool(_) | Value::Number | Value::Text(_) | Value::Map(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::endpoint::{Host, LabelPattern, Ports, Protocols};

    #[test]
    fn the_shipped_pack_is_read_without_a_remark() {
        let parsed = read(GITHUB_ACTIONS);
        assert_eq!(parsed.diagnostics, []);
        let pack = parsed.document.unwrap();
        assert_eq!(pack, *super::pack());
        assert!(pack.version >= 1 && pack.date.len() == 10 && pack.provenance.len() >= 2);
    }

    #[test]
    fn no_entry_is_wide_where_tenants_share_a_suffix() {
        for one in &pack().endpoints {
            let Host::Name(pattern) = &one.endpoint.host else {
                panic!("{}: an address", one.text)
            };
            assert_eq!(
                (one.endpoint.ports, one.endpoint.protocols),
                (Ports::one(443), Protocols::Tcp),
                "{}",
                one.text
            );
            let literal = pattern
                .labels
                .iter()
                .all(|label| matches!(label, LabelPattern::Literal(_)));
            let owned = pattern.to_string() == "*.actions.githubusercontent.com";
            assert!(literal && (!pattern.below || owned), "{} is a wildcard", one.text);
        }
    }

    #[test]
    fn what_steps_need_is_not_in_it() {
        let names: Vec<&str> = pack().endpoints.iter().map(|one| one.text.as_str()).collect();
        for absent in [
            "github.com",
            "gist.github.com",
            "ghcr.io",
            "objects.githubusercontent.com",
        ] {
            assert!(!names.iter().any(|name| name.starts_with(absent)), "{absent}");
        }
        assert_eq!(
            names
                .iter()
                .filter(|name| name.starts_with("productionresultssa"))
                .count(),
            20
        );
    }

    #[test]
    fn an_over_wide_pack_is_refused() {
        let head = "version: 1\ndate: 2026-01-01\nprovenance: [x]\n";
        assert!(read(&format!("{head}endpoints: [a.example]")).document.is_some());
        for wide in [
            "'*.blob.core.windows.net'",
            "'*'",
            "'*.github.io'",
            "'x*.blob.core.windows.net'",
        ] {
            assert_eq!(
                read(&format!("{head}endpoints: [{wide}]")).document,
                None,
                "{wide}"
            );
        }
        assert_eq!(
            read("endpoints: [a.example]").document,
            None,
            "a version is needed"
        );
    }
}
