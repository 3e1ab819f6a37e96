//! Hosts files that sink names: `0.0.0.0 name …`.

use std::net::IpAddr;

use super::super::diagnostic::Severity;
use super::{Lines, numbered, plain};

/// Names that every hosts file defines for the machine itself.
const OWN: [&str; 11] = [
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
];

/// An address and at least one name.
pub(super) fn is_hosts_line(words: &[&str]) -> bool {
    words.len() >= 2 && words.first().is_some_and(|first| address(first).is_some())
}

pub(super) fn read(text: &str, lines: &mut Lines) {
    for (number, line) in numbered(text) {
        let content = line.split('#').next().unwrap_or_default().trim();
        let mut words = content.split_whitespace();
        let Some(first) = words.next() else { continue };
        let at = (number, line);
        let Some(target) = address(first) else {
            lines.error(at, first, "a line of a hosts file begins with an address");
            continue;
        };
        let mut words = words.peekable();
        if words.peek().is_none() {
            lines.error(at, first, "expected a name after the address");
        }
        for word in words {
            name(at, target, word, lines);
        }
    }
}

fn name(at: (usize, &str), target: IpAddr, word: &str, lines: &mut Lines) {
    if OWN.iter().any(|own| own.eq_ignore_ascii_case(word)) {
        lines.report(Severity::Note, at, word, "the machine's own name is left out");
    } else if address(word).is_some_and(is_sink) {
        lines.report(Severity::Note, at, word, "a sink address is left out");
    } else if address(word).is_some() {
        lines.error(at, word, "expected a name, found an address");
    } else if is_sink(target) {
        plain::entry(at, word, lines);
    } else {
        lines.error(
            at,
            word,
            format!("this line gives an address ({target}), it does not sink the name"),
        );
    }
}

/// Where hosts files send names that nobody may reach.
fn is_sink(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_unspecified() || address.is_loopback()
}

/// The address of a line, without an interface (`fe80::1%lo0`).
fn address(word: &str) -> Option<IpAddr> {
    word.split('%').next().unwrap_or_default().parse().ok()
}
