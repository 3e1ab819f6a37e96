//! Policies: from nodes to a [`PolicyDocument`].

use super::diagnostic::{Diagnostic, Severity};
use super::keys::{self, Key};
use super::node::{Node, Value};
use super::pasted;
use super::reader::{Reader, of};
use super::{Detection, Lockdown, ParseOptions, Parsed, Platform, PolicyDocument};
use crate::endpoint::cover::covered_by;
use crate::endpoint::parse::Role;
use crate::verdict::Mode;

const MODES: [(&str, Mode); 2] = [("block", Mode::Block), ("audit", Mode::Audit)];
const PLATFORMS: [(&str, Platform); 2] = [
    ("github-actions", Platform::GithubActions),
    ("none", Platform::None),
];

pub(super) fn read(text: &str, options: ParseOptions) -> Parsed<PolicyDocument> {
    Reader::run(text, options, |reader, root| {
        let mut document = PolicyDocument::default();
        if let Some(map) = pasted::unwrapped(reader, root) {
            fields(reader, map, &mut document);
            consistency(reader, root, &document);
        }
        document
    })
}

fn fields(reader: &mut Reader<'_>, map: &[(Node, Node)], document: &mut PolicyDocument) {
    for (name, key, value) in reader.entries(map) {
        let Some((_, known)) = keys::POLICY.iter().find(|(known, _)| *known == name) else {
            if keys::NOT_ENFORCED.contains(&name) {
                let message = format!("`{name}` is not enforced by the gateway");
                reader.report(Severity::Note, key, message, None);
                document.not_enforced.push(name.to_owned());
                document.host.take(name, &value.value);
            } else {
                let ours = keys::POLICY.iter().map(|(known, _)| *known);
                reader.unknown_key(key, name, ours.chain(keys::NOT_ENFORCED));
            }
            continue;
        };
        // A key without a value stands nowhere; its key does.
        let place = if value.line == 0 || value.value == Value::Null {
            key
        } else {
            value
        };
        field(
            reader,
            *known,
            &Node {
                line: place.line,
                column: place.column,
                ..value.clone()
            },
            document,
        );
    }
}

fn field(reader: &mut Reader<'_>, key: Key, value: &Node, document: &mut PolicyDocument) {
    match key {
        Key::EgressPolicy => {
            document.egress_policy = reader.choice(value, "egress-policy", &MODES);
            document.has_egress = true;
        }
        Key::AllowedEndpoints => {
            document.allowed_endpoints = reader.endpoints(value, Role::Allowed);
            document.has_egress = true;
        }
        Key::DeniedEndpoints => {
            document.denied_endpoints = reader.endpoints(value, Role::Denied);
            document.has_egress = true;
        }
        Key::Use => {
            sets(reader, value, document);
            document.has_egress = true;
        }
        Key::Platform => document.platform = reader.choice(value, "platform", &PLATFORMS).unwrap_or_default(),
        Key::Icmp => document.icmp = reader.boolean(value, "icmp"),
        Key::LockdownMode => document.lockdown = lockdown(reader, value),
    }
}

fn sets(reader: &mut Reader<'_>, value: &Node, document: &mut PolicyDocument) {
    for token in reader.words(value, "set name") {
        let place = super::diagnostic::Place {
            line: token.line,
            column: token.column,
            length: token.text.chars().count() as u32,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let diagnostic = if !token.text.chars().all(plain) {
            Diagnostic::error(
                place,
                "the name of an endpoint set has letters, digits, `-`, `_` and `.`",
            )
            .hint(Some("endpoints themselves belong to `allowed-endpoints`"))
        } else if document.use_sets.contains(&token.text) {
            Diagnostic::note(place, format!("`{}` is used already", token.text))
        } else {
            document.use_sets.push(token.text);
            document.use_lines.push(token.line);
            continue;
        };
        reader.sink.push(diagnostic.token(token.text));
    }
}

fn lockdown(reader: &mut Reader<'_>, value: &Node) -> Option<Lockdown> {
    let Value::Map(map) = &value.value else {
        let message = format!(
            "expected a mapping below `lockdown-mode`, found {}",
            value.value.kind()
        );
        reader.error(value, message, Some("write `enabled: true` below it".into()));
        return None;
    };
    let (mut enabled, mut detections) = (None, Vec::new());
    for (name, key, value) in reader.entries(map) {
        match name {
            "enabled" => enabled = Some(reader.boolean(value, "enabled")),
            "detections" => detections = self::detections(reader, value),
            unknown => reader.unknown_key(key, unknown, ["enabled", "detections"]),
        }
    }
    if enabled.is_none() {
        reader.error(
            value,
            "`lockdown-mode` needs `enabled`",
            Some("write `enabled: true`".into()),
        );
    }
    Some(Lockdown {
        enabled: enabled?,
        detections,
    })
}

fn detections(reader: &mut Reader<'_>, value: &Node) -> Vec<Detection> {
    let mut found = Vec::new();
    for token in reader.words(value, "detection") {
        match Detection::ALL
            .iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(&token.text))
        {
            Some(known) if found.contains(known) => {}
            Some(known) => found.push(*known),
            None => {
                let length = token.text.chars().count() as u32;
                let place = super::diagnostic::Place {
                    line: token.line,
                    column: token.column,
                    length,
                };
                let names = Detection::ALL.map(Detection::as_str);
                let hint = keys::nearest(&token.text, names).map_or_else(
                    || format!("known: {}", names.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let message = format!(
                    "unknown detection {}",
                    crate::endpoint::problem::quoted(&token.text)
                );
                reader.sink.push(
                    Diagnostic::error(place, message)
                        .token(token.text)
                        .hint(Some(hint)),
                );
            }
        }
    }
    found
}

/// What is only wrong in view of the whole document.
fn consistency(reader: &mut Reader<'_>, root: &Node, document: &PolicyDocument) {
    if !reader.sink.failed() && !document.decides_egress() && !document.decides_lockdown() {
        let hint = "write `egress-policy: block` or `egress-policy: audit`";
        reader.report(
            Severity::Warning,
            root,
            "the policy decides nothing",
            Some(hint.into()),
        );
    }
    let endpoints =
        |list: &[super::SourcedEndpoint]| list.iter().map(|one| one.endpoint.clone()).collect::<Vec<_>>();
    let (allowed, denied) = (
        endpoints(&document.allowed_endpoints),
        endpoints(&document.denied_endpoints),
    );
    for (at, by) in covered_by(&allowed, &denied) {
        if let (Some(one), Some(other)) = (
            document.allowed_endpoints.get(at),
            document.denied_endpoints.get(by),
        ) {
            let message = format!(
                "allowed here, but refused by `denied-endpoints` on line {}",
                other.line
            );
            reader
                .sink
                .push(Diagnostic::warning(of(one), message).token(one.text.clone()));
        }
    }
}
