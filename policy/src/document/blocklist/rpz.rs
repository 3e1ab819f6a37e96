//! Response policy zones as zone files: <https://datatracker.ietf.org/doc/draft-vixie-dnsop-dns-rpz/>.
//!
//! Owners are triggers, relative to the zone. Every action but an exception refuses: NXDOMAIN, NODATA,
//! drop, and local data, which would send the job somewhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::diagnostic::Severity;
use super::{BlockEntry, Lines, numbered, plain};

/// Records of the zone itself.
const ZONE: [&str; 7] = ["SOA", "NS", "TXT", "DNSKEY", "RRSIG", "NSEC", "NSEC3PARAM"];

pub(super) fn read(text: &str, lines: &mut Lines) {
    let mut zone = Zone::default();
    for (number, line) in numbered(text) {
        zone.line((number, line), lines);
    }
}

/// What the lines so far say about the ones that follow.
#[derive(Default)]
struct Zone<'a> {
    /// Name of the zone, without a final dot; empty when the file does not say.
    apex: String,
    /// What relative owners end in.
    origin: String,
    /// A line that begins with a blank has the owner of the one before.
    owner: &'a str,
    /// Inside of the parentheses of a SOA.
    open: bool,
}

impl<'a> Zone<'a> {
    fn line(&mut self, at: (usize, &'a str), lines: &mut Lines) {
        let content = at.1.split(';').next().unwrap_or_default();
        if self.open {
            self.open = !content.contains(')');
            return;
        }
        let mut words = content.split_whitespace().peekable();
        if let Some(first) = words.peek()
            && first.starts_with('$')
        {
            let directive = words.next().unwrap_or_default();
            return self.directive(at, directive, words.next().unwrap_or_default(), lines);
        }
        if !content.starts_with([' ', '\t'])
            && let Some(owner) = words.next()
        {
            self.owner = owner;
        }
        let ttl = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let class = |word: &&str| word.eq_ignore_ascii_case("IN");
        let mut rest = words.skip_while(|word| ttl(word) || class(word));
        let Some(kind) = rest.next() else {
            if !content.trim().is_empty() {
                lines.error(at, content.trim(), "expected a record: `name CNAME .`");
            }
            return;
        };
        let data = rest.next().unwrap_or_default();
        self.open = content.contains('(') && !content.contains(')');
        self.record(at, kind, data, lines);
    }

    fn directive(&mut self, at: (usize, &'a str), directive: &str, value: &str, lines: &mut Lines) {
        match directive {
            "$TTL" => {}
            "$ORIGIN" => {
                self.origin = value.trim_end_matches('.').to_ascii_lowercase();
                if self.apex.is_empty() {
                    self.apex.clone_from(&self.origin);
                }
            }
            _ => lines.error(at, at.1.trim(), "only $TTL and $ORIGIN are read here"),
        }
    }

    fn record(&mut self, at: (usize, &'a str), kind: &str, data: &'a str, lines: &mut Lines) {
        let owner = self.full_owner();
        if kind.eq_ignore_ascii_case("SOA") {
            self.apex = owner;
            return;
        }
        let trigger = match owner.strip_suffix(&self.apex) {
            Some("") => None,
            Some(inside) if self.apex.is_empty() => Some(inside),
            Some(inside) => inside.strip_suffix('.'),
            None => {
                return lines.error(
                    at,
                    self.owner,
                    format!("this name is outside of the zone {}", self.apex),
                );
            }
        };
        let Some(trigger) = trigger else {
            if !ZONE.iter().any(|own| own.eq_ignore_ascii_case(kind)) {
                lines.error(at, kind, "expected a trigger before this record");
            }
            return;
        };
        if kind.eq_ignore_ascii_case("CNAME") {
            let exception = match data.to_ascii_lowercase().as_str() {
                "rpz-passthru." | "rpz-passthru" => "a block list has no exceptions",
                "rpz-tcp-only." | "rpz-tcp-only" => "this action refuses nothing",
                "" => return lines.error(at, kind, "expected `.`, `*.` or a name after CNAME"),
                _ => return self.trigger(at, trigger, lines),
            };
            return lines.report(Severity::Warning, at, data, format!("left out: {exception}"));
        }
        if ["A", "AAAA"].iter().any(|local| local.eq_ignore_ascii_case(kind)) {
            return self.trigger(at, trigger, lines);
        }
        lines.report(
            Severity::Warning,
            at,
            kind,
            "left out: records of this type refuse nothing",
        );
    }

    /// The owner without a final dot, lower case, `@` and the origin put in.
    fn full_owner(&self) -> String {
        let owner = self.owner.to_ascii_lowercase();
        match owner.strip_suffix('.') {
            Some(absolute) => absolute.to_owned(),
            None if owner == "@" => self.origin.clone(),
            None if self.origin.is_empty() => owner,
            None => format!("{owner}.{}", self.origin),
        }
    }

    fn trigger(&self, at: (usize, &'a str), trigger: &str, lines: &mut Lines) {
        if let Some(reversed) = trigger.strip_suffix(".rpz-ip") {
            return match address(reversed) {
                Some(net) => lines.entry(BlockEntry::Net(net), at.0),
                None => lines.error(at, self.owner, "not an address range in RPZ's reversed form"),
            };
        }
        if [".rpz-client-ip", ".rpz-nsdname", ".rpz-nsip"]
            .iter()
            .any(|kind| trigger.ends_with(kind))
        {
            return lines.report(
                Severity::Warning,
                at,
                self.owner,
                "left out: this kind of trigger is not supported",
            );
        }
        // The entry's text is not part of the line when an origin was cut off or put in.
        match plain::read_word(trigger) {
            Ok((entry, remark)) => {
                lines.entry(entry, at.0);
                if let Some(remark) = remark {
                    lines.report(Severity::Warning, at, self.owner, remark);
                }
            }
            Err(message) => lines.error(at, self.owner, message),
        }
    }
}

/// `24.0.2.0.192` is 192.0.2.0/24, `48.zz.1.db8.2001` is 2001:db8:1::/48.
fn address(reversed: &str) -> Option<IpNet> {
    let (length, rest) = reversed.split_once('.')?;
    let length: u8 = length.parse().ok()?;
    let mut parts: Vec<&str> = rest.split('.').collect();
    parts.reverse();
    let v4 = parts.join(".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let address = v4
        .or_else(|_| v6(&parts).parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()?;
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

/// `zz` stands for the run of zeros that `::` abbreviates.
fn v6(parts: &[&str]) -> String {
    let Some(at) = parts.iter().position(|part| *part == "zz") else {
        return parts.join(":");
    };
    let (head, tail) = parts.split_at(at);
    format!(
        "{}::{}",
        head.join(":"),
        tail.get(1..).unwrap_or_default().join(":")
    )
}
