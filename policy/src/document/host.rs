//! What a document says to agents on the runner itself.
//!
//! Owns the values of Harden-Runner's `disable-*` keys. Nothing here is enforced by a gateway, and nothing that is written
//! wrongly is an error: such a value says nothing. [`super::policy`] fills it; the gateway hands it on.

use super::node::Value;

/// Settings for host agents; `None` where the document says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostSettings {
    /// `disable-sudo`.
    pub disable_sudo: Option<bool>,
    /// `disable-sudo-and-containers`.
    pub disable_sudo_and_containers: Option<bool>,
    /// `disable-file-monitoring`.
    pub disable_file_monitoring: Option<bool>,
    /// `disable-telemetry`.
    pub disable_telemetry: Option<bool>,
}

impl HostSettings {
    /// Takes what stands at a key, when it is one of these and plainly true or false.
    pub(super) fn take(&mut self, key: &str, value: &Value) {
        let setting = match key {
            "disable-sudo" => &mut self.disable_sudo,
            "disable-sudo-and-containers" => &mut self.disable_sudo_and_containers,
            "disable-file-monitoring" => &mut self.disable_file_monitoring,
            "disable-telemetry" => &mut self.disable_telemetry,
            _ => return,
        };
        *setting = match value {
            Value::Bool(said) => Some(*said),
            // A workflow's inputs are strings.
            Value::Text(text) => text.parse().ok(),
            Value::Null | Value::Number | Value::List(_) | Value::Map(_) => None,
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use crate::document::{HostSettings, ParseOptions, PolicyDocument};

    fn host(text: &str) -> HostSettings {
        let parsed = PolicyDocument::parse(text, &ParseOptions::default());
        parsed.document.unwrap().host
    }

    #[test]
    fn what_is_written_for_host_agents_is_kept() {
        let text = "egress-policy: audit\ndisable-sudo: true\ndisable-sudo-and-containers: 'false'\n\
                    disable-file-monitoring: \"true\"\n";
        let said = HostSettings {
            disable_sudo: Some(true),
            disable_sudo_and_containers: Some(false),
            disable_file_monitoring: Some(true),
            disable_telemetry: None,
        };
        assert_eq!(host(text), said);
        assert_eq!(host("egress-policy: audit\n"), HostSettings::default());
    }

    #[test]
    fn what_is_neither_true_nor_false_says_nothing_and_is_no_error() {
        for odd in ["${{ inputs.sudo }}", "1", "[true]", "", "yes please"] {
            let text = format!("egress-policy: audit\ndisable-sudo: {odd}\n");
            assert_eq!(host(&text), HostSettings::default(), "{odd}");
        }
    }
}
