//! Reverse names (RFC 1035 §3.5, RFC 3596 §2.5): from a name to the address that it spells.

use std::net::IpAddr;

use tidegate_policy::DnsName;

/// The address of a complete reverse name; `None` for every other name, shorter ones included.
pub(crate) fn address(name: &DnsName) -> Option<IpAddr> {
    let labels = name.labels();
    let (host, zone) = labels.split_at(labels.len().checked_sub(2)?);
    match (zone, host.len()) {
        ([b"in-addr", b"arpa"], 4) => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip(host.iter().rev()) {
                *octet = decimal(label)?;
            }
            Some(IpAddr::from(octets))
        }
        ([b"ip6", b"arpa"], 32) => {
            let mut octets = [0; 16];
            for (at, label) in host.iter().rev().enumerate() {
                let [digit] = label else { return None };
                let nibble = char::from(*digit).to_digit(16)? as u8;
                let octet = octets.get_mut(at / 2)?;
                *octet = *octet << 4 | nibble;
            }
            Some(IpAddr::from(octets))
        }
        _ => None,
    }
}

/// A decimal octet without leading zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn of(text: &str) -> Option<IpAddr> {
        address(&DnsName::parse(text).unwrap())
    }

    #[test]
    fn complete_reverse_names_spell_addresses() {
        assert_eq!(of("4.3.2.10.in-addr.arpa"), Some("10.2.3.4".parse().unwrap()));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(of(v6), Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn other_names_do_not() {
        for text in [
            "2.10.in-addr.arpa",
            "256.3.2.10.in-addr.arpa",
            "04.3.2.10.in-addr.arpa",
            "arpa",
            "a.test",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
