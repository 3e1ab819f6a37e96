//! Plain lists: one entry a line.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::super::diagnostic::Severity;
use super::{BlockEntry, Lines, numbered};
use crate::endpoint::parse::{Role, parse_endpoint};
use crate::endpoint::problem::{NoticeKind, quoted};
use crate::endpoint::{Endpoint, Host, LabelPattern, Ports, Protocols};
use crate::name::DnsName;

pub(super) fn read(text: &str, lines: &mut Lines) {
    for (number, line) in numbered(text) {
        let content = line.split('#').next().unwrap_or_default().trim();
        if !content.is_empty() {
            entry((number, line), content, lines);
        }
    }
}

/// Reads a word of a line into an entry or an error.
pub(super) fn entry(at: (usize, &str), word: &str, lines: &mut Lines) {
    match read_word(word) {
        Ok((entry, remark)) => {
            lines.entry(entry, at.0);
            if let Some(remark) = remark {
                lines.report(Severity::Warning, at, word, remark);
            }
        }
        Err(message) => lines.error(at, word, message),
    }
}

/// Reads one name, `*.name`, address or range; with what is to say about it.
pub(super) fn read_word(word: &str) -> Result<(BlockEntry, Option<String>), String> {
    plain_name(word).map_or_else(|| by_grammar(word), |entry| Ok((entry, None)))
}

/// The fast path of a long list: ASCII names that can't be addresses.
fn plain_name(word: &str) -> Option<BlockEntry> {
    let (below, base) = word.strip_prefix("*.").map_or((false, word), |base| (true, base));
    let last = base.strip_suffix('.').unwrap_or(base).rsplit('.').next()?;
    if !last.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    DnsName::parse(base)
        .ok()
        .map(|name| BlockEntry::Name { name, below })
}

/// Addresses, ranges and internationalized names; errors in the words of the endpoint grammar.
fn by_grammar(word: &str) -> Result<(BlockEntry, Option<String>), String> {
    let bare_v6 = word.parse::<Ipv6Addr>().is_ok() || word.parse::<Ipv6Net>().is_ok();
    let word = if bare_v6 {
        Cow::Owned(format!("[{word}]"))
    } else {
        Cow::Borrowed(word)
    };
    let (endpoint, notices) = parse_endpoint(&word, Role::Denied).map_err(|error| error.to_string())?;
    let Endpoint {
        host,
        ports: Ports::ALL,
        protocols: Protocols::Any,
    } = endpoint
    else {
        return Err(format!(
            "a block list refuses names and addresses whole, without ports, found {}",
            quoted(&word)
        ));
    };
    let masked = notices
        .iter()
        .find(|one| matches!(one.kind, NoticeKind::HostBits { .. }));
    let remark = masked.map(|one| one.kind.to_string());
    let entry = match host {
        Host::Net(net) => Some(BlockEntry::Net(net)),
        Host::Name(pattern) => {
            let labels: Option<Vec<&[u8]>> = pattern.labels.iter().map(literal).collect();
            let name = labels
                .filter(|labels| !labels.is_empty())
                .and_then(|labels| DnsName::from_labels(labels).ok());
            name.map(|name| BlockEntry::Name {
                name,
                below: pattern.below,
            })
        }
    };
    let entry =
        entry.ok_or_else(|| format!("a block list holds names and `*.names`, found {}", quoted(&word)))?;
    Ok((entry, remark))
}

fn literal(label: &LabelPattern) -> Option<&[u8]> {
    match label {
        LabelPattern::Literal(bytes) => Some(bytes),
        LabelPattern::One | LabelPattern::Glob(_) => None,
    }
}
