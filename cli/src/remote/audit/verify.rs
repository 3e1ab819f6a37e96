//! `tidegate audit verify`: the chain of hashes, recomputed here from what the server shows.
//!
//! The server's word is not taken: only entries are read, and each must follow from the one before. What the server
//! could still do is leave out the newest ones; that shows by a head from before ([`Trust`]).

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use reqwest::Method;
use serde_json::json;
use tidegate_control::model::{AuditEntry, Page};
use tidegate_control::store::chain::{Broken, Head, Verifier, entry_hash};

use crate::Usage;
use crate::out::say;
use crate::remote::args::things::AuditVerify;
use crate::remote::client::Client;
use crate::remote::show;

/// Entries of a page.
const PAGE: &str = "200";
/// Characters of a hash.
const HASH: usize = 64;

/// What is known from before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    /// Nothing.
    Nothing,
    /// The chain had this head.
    Head(Head),
    /// The chain had a head of this hash.
    Hash(String),
    /// The chain up to this head was verified before, and is not fetched again.
    Since(Head),
}

/// A chain under verification.
struct Chain {
    trust: Trust,
    verifier: Verifier,
    /// The remembered entry was met.
    met: bool,
    /// The last entry, for messages only.
    entries: u64,
}

impl Trust {
    fn new(args: &AuditVerify) -> Result<Self, Usage> {
        match (&args.head, &args.since) {
            (Some(text), _) if !text.contains(':') => Ok(Self::Hash(hash(text)?)),
            (Some(text), _) => Ok(Self::Head(head(text)?)),
            (None, Some(text)) => Ok(Self::Since(head(text)?)),
            (None, None) => Ok(Self::Nothing),
        }
    }

    /// Where the first page begins.
    fn start(&self) -> Option<String> {
        match self {
            // With the remembered entry itself, so that it is seen to be still there.
            Self::Since(head) => Some(head.seq.saturating_sub(1))
                .filter(|seq| *seq > 0)
                .map(|seq| seq.to_string()),
            Self::Nothing | Self::Head(_) | Self::Hash(_) => None,
        }
    }
}

fn head(text: &str) -> Result<Head, Usage> {
    let wrong = || {
        Usage(format!(
            "{text:?} is no head: write SEQ:HASH, as `audit verify` printed it"
        ))
    };
    let (seq, text_of_hash) = text.split_once(':').ok_or_else(wrong)?;
    match seq.parse() {
        Ok(seq) if seq > 0 => Ok(Head {
            seq,
            hash: hash(text_of_hash)?,
        }),
        _ => Err(wrong()),
    }
}

fn hash(text: &str) -> Result<String, Usage> {
    if text.len() == HASH && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Usage(format!(
        "{text:?} is no hash of an entry: it has {HASH} hexadecimal digits"
    )))
}

impl Chain {
    fn new(trust: Trust) -> Self {
        let verifier = match &trust {
            Trust::Head(head) => Verifier::remembering(head.clone()),
            Trust::Since(head) => Verifier::following(head.clone()),
            Trust::Nothing | Trust::Hash(_) => Verifier::new(),
        };
        Self {
            trust,
            verifier,
            met: false,
            entries: 0,
        }
    }

    fn push(&mut self, entry: &AuditEntry) -> Result<(), Broken> {
        self.entries += 1;
        match &self.trust {
            Trust::Since(head) if !self.met => {
                self.met = true;
                return remembered(head, entry);
            }
            Trust::Hash(hash) => self.met |= entry.hash == *hash,
            Trust::Nothing | Trust::Head(_) | Trust::Since(_) => {}
        }
        self.verifier.push(entry)
    }

    fn finish(self) -> anyhow::Result<Head> {
        match &self.trust {
            Trust::Since(head) if !self.met => {
                let (remembered, found) = (head.seq, 0);
                return Err(Broken::Truncated { remembered, found }.into());
            }
            Trust::Hash(hash) if !self.met => {
                bail!(
                    "no entry has the hash {hash}: the log was cut off or rewritten since that was its head"
                )
            }
            Trust::Nothing | Trust::Head(_) | Trust::Hash(_) | Trust::Since(_) => {}
        }
        Ok(self.verifier.finish()?)
    }
}

/// The first entry that is fetched has to be the one that was the head.
fn remembered(head: &Head, entry: &AuditEntry) -> Result<(), Broken> {
    if entry.seq != head.seq {
        let (expected, found) = (head.seq, entry.seq);
        return Err(Broken::Order { expected, found });
    }
    if entry.hash != head.hash {
        return Err(Broken::Rewritten { seq: entry.seq });
    }
    if entry_hash(entry) != entry.hash {
        return Err(Broken::Edited { seq: entry.seq });
    }
    Ok(())
}

/// Fetches and verifies; prints the head.
pub(super) async fn run(client: &Client, args: &AuditVerify, json: bool) -> anyhow::Result<()> {
    let trust = Trust::new(args)?;
    let mut after = trust.start();
    let mut chain = Chain::new(trust);
    let progress = show::counter(json, "entries verified");
    loop {
        let mut call = client
            .call(Method::GET, &["audit-log"])?
            .query("order", "asc")
            .query("limit", PAGE);
        if let Some(after) = &after {
            call = call.query("after", after);
        }
        let page: Page<AuditEntry> = call.send().await?.read()?;
        push(&mut chain, &page.items, &progress)?;
        match page.next {
            None => break,
            // Entries that count up end; pages without any would not.
            Some(_) if page.items.is_empty() => bail!("the control plane sends empty pages without an end"),
            Some(next) => after = Some(next),
        }
    }
    progress.finish_and_clear();
    let entries = chain.entries;
    let head = chain.finish().context("the audit log is not what it was")?;
    if json {
        show::json(&json!({"seq": head.seq, "hash": head.hash, "entries": entries}));
    } else {
        say!("{entries} entries follow from each other; the head is");
        say!("{}:{}", head.seq, head.hash);
    }
    Ok(())
}

fn push(chain: &mut Chain, entries: &[AuditEntry], progress: &ProgressBar) -> anyhow::Result<()> {
    for entry in entries {
        chain.push(entry).map_err(|broken| {
            let partly = matches!(broken, Broken::Order { expected: 1, .. }) && !entry.owner.is_empty();
            let error = anyhow::Error::new(broken).context("the audit log is not what it was");
            if partly {
                error.context(
                    "a token that is limited to owners sees a part of the log only; verify with another",
                )
            } else {
                error
            }
        })?;
        progress.inc(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tidegate_control::model::Actor;
    use tidegate_control::store::chain::START;

    use super::*;

    fn log(length: u64) -> Vec<AuditEntry> {
        let mut previous = START.to_owned();
        (1..=length)
            .map(|seq| {
                let mut entry = AuditEntry {
                    seq,
                    at: jiff::Timestamp::from_microsecond(1_767_000_000_000_000 + seq.cast_signed()).unwrap(),
                    actor: Actor::system(),
                    action: "policy.created".into(),
                    owner: String::new(),
                    target: format!("policy acme/{seq}"),
                    policy_id: None,
                    detail: json!({"version": 1}),
                    previous: previous.clone(),
                    hash: String::new(),
                };
                entry.hash = entry_hash(&entry);
                previous.clone_from(&entry.hash);
                entry
            })
            .collect()
    }

    fn verified(trust: Trust, entries: &[AuditEntry]) -> Result<Head, String> {
        let mut chain = Chain::new(trust);
        for entry in entries {
            chain.push(entry).map_err(|broken| broken.to_string())?;
        }
        chain.finish().map_err(|error| error.to_string())
    }

    fn head_of(entry: &AuditEntry) -> Head {
        Head {
            seq: entry.seq,
            hash: entry.hash.clone(),
        }
    }

    #[test]
    fn a_log_that_was_cut_off_shows_by_a_remembered_head() {
        let log = log(5);
        let end = head_of(&log[4]);
        let third = head_of(&log[2]);
        assert_eq!(verified(Trust::Nothing, &log), Ok(end.clone()));
        assert_eq!(
            verified(Trust::Nothing, &log[..3]),
            Ok(third.clone()),
            "nobody remembers the rest"
        );
        for trust in [Trust::Head(end.clone()), Trust::Hash(end.hash.clone())] {
            assert_eq!(verified(trust.clone(), &log), Ok(end.clone()));
            assert!(verified(trust, &log[..3]).is_err());
        }
        assert_eq!(verified(Trust::Hash(third.hash), &log), Ok(end));
    }

    #[test]
    fn what_came_after_a_head_is_verified_from_it_on() {
        let log = log(5);
        let (third, end) = (head_of(&log[2]), head_of(&log[4]));
        let since = Trust::Since(third.clone());
        assert_eq!(verified(since.clone(), &log[2..]), Ok(end));
        assert_eq!(verified(since.clone(), &log[2..3]), Ok(third));
        let said = verified(since.clone(), &[]).unwrap_err();
        assert!(said.contains("had 3 entries"), "{said}");
        let said = verified(since.clone(), &log[3..]).unwrap_err();
        assert!(said.contains("entry 3 is missing"), "{said}");
        let mut other = log.clone();
        other[2].target = "policy acme/other".into();
        let said = verified(since.clone(), &other[2..]).unwrap_err();
        assert!(said.contains("entry 3 was edited"), "{said}");
        other[2].hash = entry_hash(&other[2]);
        let said = verified(since, &other[2..]).unwrap_err();
        assert!(said.contains("entry 3 is not the entry"), "{said}");
    }

    #[test]
    fn heads_are_written_as_they_are_printed() {
        let hash = "0A".repeat(32);
        let args = |head: Option<String>, since: Option<String>| Trust::new(&AuditVerify { head, since });
        let lower = hash.to_lowercase();
        assert_eq!(
            args(Some(hash.clone()), None).unwrap(),
            Trust::Hash(lower.clone())
        );
        let head = Head { seq: 7, hash: lower };
        assert_eq!(
            args(Some(format!("7:{hash}")), None).unwrap(),
            Trust::Head(head.clone())
        );
        let since = args(None, Some(format!("7:{hash}"))).unwrap();
        assert_eq!(since.start().as_deref(), Some("6"));
        assert_eq!(since, Trust::Since(head));
        for wrong in [
            "",
            "7",
            "x:0a",
            "0:0a",
            &format!("0:{hash}"),
            &hash[1..],
            &format!("7:{}", &hash[2..]),
        ] {
            assert!(args(Some(wrong.to_owned()), None).is_err(), "{wrong:?}");
        }
        assert!(args(None, Some(hash)).is_err());
    }
}
