//! Between the wire's policy and a document.
//!
//! Pure. What the wire can't say (`use`, `icmp`, `platform`, further keys of the runner's agent) stays in the document as
//! it is when a client writes what it read: only the keys that it names are set anew. The document is then written afresh,
//! so comments are in its older versions only; one that would mean the same is not written at all.

use serde_yaml::{Mapping, Value};
use tidegate_policy::document::{Lockdown, ParseOptions, PolicyDocument, SourcedEndpoint};

use super::shape::{WireLockdown, WirePolicy, WirePolicyUpdate};
use crate::api::errors;
use crate::api::problem::Refused;

/// A stored document as the wire shows it, without its attachments.
pub(super) fn shown(owner: &str, name: &str, yaml: &str) -> Result<WirePolicy, Refused> {
    let read = PolicyDocument::parse(yaml, &ParseOptions::default());
    let document = read
        .document
        .ok_or_else(|| errors::internal("the stored document can't be read"))?;
    let texts = |list: &[SourcedEndpoint]| list.iter().map(|one| one.text.clone()).collect();
    Ok(WirePolicy {
        owner: owner.to_owned(),
        policy_name: name.to_owned(),
        allowed_endpoints: texts(&document.allowed_endpoints),
        denied_endpoints: texts(&document.denied_endpoints),
        egress_policy: document.mode().map_or("", |mode| mode.as_str()).to_owned(),
        disable_telemetry: document.host.disable_telemetry == Some(true),
        disable_sudo: document.host.disable_sudo == Some(true),
        disable_file_monitoring: document.host.disable_file_monitoring == Some(true),
        lockdown: document.lockdown.as_ref().map(lockdown),
        attachments: None,
    })
}

fn lockdown(facet: &Lockdown) -> WireLockdown {
    let names = facet.detections.iter().map(|one| one.as_str().to_owned());
    WireLockdown {
        enabled: facet.enabled,
        detections: (!facet.detections.is_empty()).then(|| names.collect()),
    }
}

/// The document that follows from what is stored and what is said.
pub(super) fn merged(stored: Option<&str>, said: &WirePolicyUpdate) -> Result<String, Refused> {
    let mut document = match stored {
        Some(yaml) => keys(yaml)?,
        None => Mapping::new(),
    };
    match said.egress_policy.as_deref() {
        Some(mode @ ("audit" | "block")) => set(&mut document, "egress-policy", mode.into()),
        Some(_) => return Err(Refused::invalid("egress_policy", "write `audit` or `block`")),
        None if stored.is_none() => {
            return Err(Refused::invalid(
                "egress_policy",
                "missing field `egress_policy`: write `audit` or `block`",
            ));
        }
        None => {}
    }
    for (field, key, list) in [
        ("allowed_endpoints", "allowed-endpoints", &said.allowed_endpoints),
        ("denied_endpoints", "denied-endpoints", &said.denied_endpoints),
    ] {
        match list.as_deref() {
            None => {}
            Some([]) => drop(document.shift_remove(key)),
            Some(list) => set(&mut document, key, endpoints(field, list)?),
        }
    }
    for (key, setting) in [
        ("disable-telemetry", said.disable_telemetry),
        ("disable-sudo", said.disable_sudo),
        ("disable-file-monitoring", said.disable_file_monitoring),
    ] {
        match setting {
            None => {}
            Some(true) => set(&mut document, key, true.into()),
            Some(false) => drop(document.shift_remove(key)),
        }
    }
    if let Some(facet) = &said.lockdown {
        let mut inner = Mapping::new();
        set(&mut inner, "enabled", facet.enabled.into());
        if let Some(detections) = facet.detections.as_ref().filter(|list| !list.is_empty()) {
            set(&mut inner, "detections", detections.clone().into());
        }
        set(&mut document, "lockdown-mode", Value::Mapping(inner));
    }
    serde_yaml::to_string(&document).map_err(|_| errors::internal("the document can't be written"))
}

/// The keys of a stored document, which may be a pasted step.
fn keys(yaml: &str) -> Result<Mapping, Refused> {
    let unread = || errors::internal("the stored document can't be read");
    let value: Value = serde_yaml::from_str(yaml).map_err(|_| unread())?;
    let step = match value.as_sequence().and_then(|items| items.first()) {
        Some(only) => only.clone(),
        None => value,
    };
    let Value::Mapping(mut keys) = step else {
        return Err(unread());
    };
    match keys.shift_remove("with") {
        Some(Value::Mapping(inner)) => Ok(inner),
        Some(_) => Err(unread()),
        None => Ok(keys),
    }
}

fn set(keys: &mut Mapping, key: &str, value: Value) {
    keys.insert(key.into(), value);
}

/// Each text is one endpoint: one that reads as several, or as none, would not come back as it was written.
fn endpoints(field: &str, list: &[String]) -> Result<Value, Refused> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '#');
    for (at, text) in list.iter().enumerate() {
        if text.is_empty() || text.contains(odd) {
            let detail =
                format!("{text:?} is not one endpoint; write `host:port`, each as an item of its own");
            return Err(Refused::invalid(&format!("{field}[{at}]"), detail));
        }
    }
    Ok(list.to_vec().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    fn said(value: serde_json::Value) -> WirePolicyUpdate {
        serde_json::from_value(value).unwrap()
    }

    fn again(stored: Option<&str>, value: serde_json::Value) -> serde_json::Value {
        let yaml = merged(stored, &said(value)).unwrap();
        serde_json::to_value(shown("Acme", "base", &yaml).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = json!({
            "owner": "Acme", "policyName": "base", "egress_policy": "block",
            "allowed_endpoints": ["GitHub.com:443", "*.npm.test:443", "[2001:db8::1]:443", "ntp.test:123/udp", "1.2.3.4:22"],
            "denied_endpoints": ["gist.github.com"],
            "disable_telemetry": false, "disable_sudo": true, "disable_file_monitoring": true,
            "lockdown": {"enabled": true, "detections": ["Reverse-Shell"]},
        });
        assert_eq!(again(None, written.clone()), written);
        let least = json!({
            "owner": "Acme", "policyName": "base", "egress_policy": "audit", "allowed_endpoints": [],
            "disable_telemetry": false, "disable_sudo": false, "disable_file_monitoring": false,
        });
        assert_eq!(
            again(None, json!({"egress_policy": "audit", "allowed_endpoints": null})),
            least
        );
    }

    /// What a client reads and writes again must destroy nothing that it can't see.
    #[test]
    fn what_the_wire_can_not_say_stays() {
        let stored = "icmp: true\nuse: [corp]\nplatform: none\ndisable-sudo-and-containers: true\nexempt-files: |\n  a\n  b\n\
                      egress-policy: block\nallowed-endpoints: a.test:443 b.test\ndenied-endpoints: c.test\n\
                      lockdown-mode: {enabled: true}\n";
        let read = serde_json::to_value(shown("acme", "base", stored).unwrap()).unwrap();
        assert_eq!(read["allowed_endpoints"], json!(["a.test:443", "b.test"]));
        let mut update = read.clone();
        update["egress_policy"] = "audit".into();
        // The provider knows neither of these.
        for unknown in ["denied_endpoints", "lockdown"] {
            update.as_object_mut().unwrap().remove(unknown);
        }
        let yaml = merged(Some(stored), &said(update)).unwrap();
        let document = PolicyDocument::parse(&yaml, &ParseOptions::default())
            .document
            .unwrap();
        let before = PolicyDocument::parse(stored, &ParseOptions::default())
            .document
            .unwrap();
        assert_eq!(document.mode().unwrap().as_str(), "audit");
        assert!(document.icmp && document.use_sets == ["corp"] && document.lockdown == before.lockdown);
        assert_eq!((document.platform, document.host), (before.platform, before.host));
        assert_eq!(document.not_enforced.len(), 2, "{yaml}");
        assert_eq!(document.denied_endpoints[0].text, "c.test");
        assert!(yaml.contains("exempt-files"), "{yaml}");
    }

    #[test]
    fn a_pasted_step_is_written_as_the_policy_that_it_is() {
        let stored = "- uses: step-security/harden-runner@v2\n  with:\n    egress-policy: audit\n    disable-sudo: true\n";
        assert_eq!(
            again(Some(stored), json!({"allowed_endpoints": ["a.test:443"]})),
            json!({
                "owner": "Acme", "policyName": "base", "egress_policy": "audit", "allowed_endpoints": ["a.test:443"],
                "disable_telemetry": false, "disable_sudo": true, "disable_file_monitoring": false,
            })
        );
    }

    #[test]
    fn a_text_that_is_not_one_endpoint_is_refused() {
        for odd in [
            "",
            "a.test b.test",
            "a.test,b.test",
            "a.test:443 # all",
            "a.test\n",
        ] {
            let update = json!({"egress_policy": "block", "allowed_endpoints": ["x.test", odd]});
            assert_eq!(merged(None, &said(update)).unwrap_err().status(), 422, "{odd:?}");
        }
        assert_eq!(
            merged(None, &said(json!({"egress_policy": "none"})))
                .unwrap_err()
                .status(),
            422
        );
        assert_eq!(merged(None, &said(json!({}))).unwrap_err().status(), 422);
    }
}
