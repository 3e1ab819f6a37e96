//! Owns a verifier of the audit log's chain that knows it by its documentation alone, as an auditor's would: numbers
//! without gaps, each entry's hash over its byte form, version 1, each form with the hash before it.
//!
//! It reads the log as it grows, so an entry that was there and is another one later breaks the chain too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use super::super::plain::Client;

/// `previous` of the first entry.
const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What an auditor has read.
pub(super) struct Auditor {
    seq: u64,
    hash: String,
    /// The newest version of each policy that the log knows, by `policy OWNER/NAME`.
    versions: BTreeMap<String, u32>,
}

impl Default for Auditor {
    fn default() -> Self {
        Self {
            seq: 0,
            hash: START.to_owned(),
            versions: BTreeMap::new(),
        }
    }
}

impl Auditor {
    /// Number and hash of the last entry.
    pub(super) fn head(&self) -> (u64, &str) {
        (self.seq, &self.hash)
    }

    /// The newest version of a policy.
    pub(super) fn version(&self, policy: &str) -> Option<u32> {
        self.versions.get(policy).copied()
    }

    /// Reads and verifies what was entered since the last time.
    pub(super) async fn read_on(&mut self, admin: &mut Client) {
        loop {
            let after = match self.seq {
                0 => String::new(),
                seq => format!("&after={seq}"),
            };
            let path = format!("/api/v1/audit-log?order=asc&limit=1000{after}");
            let page = admin.call("GET", &path, None).await.unwrap().expect(200).json();
            for entry in page["items"].as_array().unwrap() {
                assert_eq!(entry["seq"], self.seq + 1, "{entry}");
                assert_eq!(entry["previous"], self.hash.as_str(), "{entry}");
                let hash = hash_of(entry);
                assert_eq!(entry["hash"], hash.as_str(), "{entry}");
                (self.seq, self.hash) = (self.seq + 1, hash);
                self.note(entry);
            }
            if page["next"].is_null() {
                return;
            }
        }
    }

    /// A policy's versions come one after another, none twice.
    fn note(&mut self, entry: &Value) {
        let target = entry["target"].as_str().unwrap();
        match entry["action"].as_str().unwrap() {
            "policy.created" => assert_eq!(self.versions.insert(target.to_owned(), 1), None, "{entry}"),
            "policy.updated" => {
                let known = self.versions.get_mut(target).expect("it was created before");
                *known += 1;
                assert_eq!(entry["detail"]["to"], *known, "{entry}");
            }
            _ => {}
        }
    }
}

fn hash_of(entry: &Value) -> String {
    let mut form = Context::new(&SHA256);
    form.update(b"tidegate audit v1\n");
    let at: jiff::Timestamp = entry["at"].as_str().unwrap().parse().unwrap();
    for number in [entry["seq"].as_i64().unwrap(), at.as_microsecond()] {
        form.update(&number.to_be_bytes());
    }
    let actor = &entry["actor"];
    let detail = Value::String(canonical(&entry["detail"]));
    let texts = [
        &actor["subject"],
        &actor["token_id"],
        &actor["via"],
        &entry["action"],
        &entry["owner"],
        &entry["target"],
        &entry["policy_id"],
        &detail,
        &entry["previous"],
    ];
    for text in texts.map(Value::as_str) {
        let length = text.map_or(0, |text| text.len() as u64 + 1);
        form.update(&length.to_be_bytes());
        form.update(text.unwrap_or_default().as_bytes());
    }
    let digest = form.finish();
    digest.as_ref().iter().fold(String::new(), |mut hash, byte| {
        // Writing to a text can't fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// JSON without spaces, keys sorted by their bytes.
fn canonical(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(",");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(canonical).collect())),
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let field = |(key, value): (&String, &Value)| {
                format!("{}:{}", Value::from(key.as_str()), canonical(value))
            };
            format!("{{{}}}", list(sorted.into_iter().map(field).collect()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
