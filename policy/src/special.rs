//! Addresses that are special whatever a policy says: the never-dial set, private ranges, and IPv4
//! addresses hidden in IPv6 ones.
//!
//! Sources: the IANA special-purpose registries (RFC 6890), RFC 6052 (NAT64), RFC 3056 (6to4),
//! RFC 4380 (Teredo), and the metadata addresses that clouds document.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use hashbrown::HashSet;
use ipnet::IpNet;
use smallvec::SmallVec;

/// Addresses that a spelling stands for: itself, and every IPv4 address inside of it.
pub type Spellings = SmallVec<[IpAddr; 3]>;

static NEVER_DIAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    nets(&[
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "168.63.129.16/32",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "fe80::/10",
        "fd00:ec2::254/128",
        "ff00::/8",
    ])
});

static NOT_PUBLIC: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    nets(&[
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "fc00::/7",
        "fe80::/10",
    ])
});

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Unwraps IPv4 addresses hidden in an IPv6 one: v4-mapped and v4-compatible, NAT64 (the well-known and
/// the local-use prefix), 6to4, Teredo (server and client) and ISATAP. The address itself comes first.
pub fn spellings(address: IpAddr) -> Spellings {
    let mut all = Spellings::new();
    all.push(address);
    let IpAddr::V6(v6) = address else { return all };
    let s = v6.segments();
    let low = || Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    let mapped = s[..5] == [0; 5] && (s[5] == 0xffff || (s[5] == 0 && (s[6] != 0 || s[7] > 1)));
    let translated = s[..6] == [0, 0, 0, 0, 0xffff, 0];
    let nat64 = s[0] == 0x64 && s[1] == 0xff9b && (s[2..6] == [0; 4] || s[2] == 1);
    let isatap = matches!(s[4], 0 | 0x0200) && s[5] == 0x5efe;
    if mapped || translated || nat64 || isatap {
        all.push(IpAddr::V4(low()));
    }
    if s[0] == 0x2002 {
        all.push(IpAddr::V4(Ipv4Addr::from(
            (u32::from(s[1]) << 16) | u32::from(s[2]),
        )));
    }
    if s[0] == 0x2001 && s[1] == 0 {
        all.push(IpAddr::V4(Ipv4Addr::from(
            (u32::from(s[2]) << 16) | u32::from(s[3]),
        )));
        all.push(IpAddr::V4(Ipv4Addr::from(!u32::from(low()))));
    }
    all
}

/// The canonical form of a destination: a v4-mapped address is the IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// True for the fixed part of the never-dial set, in any spelling.
pub fn is_never_dial(address: IpAddr) -> bool {
    spellings(address)
        .iter()
        .any(|one| NEVER_DIAL.iter().any(|net| net.contains(one)))
}

/// True when the whole range, or part of it, can never be dialled whole: every address of `net` is in
/// the fixed never-dial set.
pub fn is_never_dial_net(net: IpNet) -> bool {
    NEVER_DIAL.iter().any(|never| never.contains(&net))
        || (net.addr() == net.broadcast() && is_never_dial(net.addr()))
}

/// True for an address that a public name has no business to resolve to, in any spelling: private,
/// link-local, shared, benchmarking or protocol-assignment space.
pub fn is_not_public(address: IpAddr) -> bool {
    spellings(address)
        .iter()
        .any(|one| NOT_PUBLIC.iter().any(|net| net.contains(one)))
}

/// True for loopback and the unspecified address of either family.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The never-dial set: the fixed part above and the gateway's own addresses, kept current by the
/// gateway, with those of its control plane, upstreams and store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeverDial {
    own: HashSet<IpAddr>,
}

impl NeverDial {
    /// The fixed set and these addresses.
    pub fn new(own: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            own: own.into_iter().map(canonical).collect(),
        }
    }

    /// True when the gateway must not dial `address` in any of its spellings.
    pub fn contains(&self, address: IpAddr) -> bool {
        is_never_dial(address) || spellings(address).iter().any(|one| self.own.contains(one))
    }
}

/// The unspecified address of a family: what a socket binds to for "any".
pub const fn unspecified(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn l14_m01_never_dial_in_every_spelling() {
        let never = NeverDial::new([
            "198.51.100.1".parse().unwrap(),
            "2001:db8:100::1".parse().unwrap(),
        ]);
        for text in [
            "0.0.0.0",
            "127.8.9.1",
            "::",
            "::1",
            "169.254.169.254",
            "168.63.129.16",
            "fd00:ec2::254",
            "fe80::1",
            "224.0.0.251",
            "255.255.255.255",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::127.0.0.1",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::",
            "2001:0:0102:0304:0:0:5601:5601",
            "2001:db8::5efe:169.254.169.254",
            "198.51.100.1",
            "::ffff:198.51.100.1",
            "64:ff9b::198.51.100.1",
            "2001:db8:100::1",
        ] {
            assert!(never.contains(text.parse().unwrap()), "{text}");
        }
        for text in [
            "192.0.2.10",
            "2001:db8:200::10",
            "10.0.0.1",
            "64:ff9b::192.0.2.10",
        ] {
            assert!(!never.contains(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn rebinding_ranges_of_the_dns_table() {
        for text in [
            "10.1.2.3",
            "192.168.0.1",
            "172.31.0.1",
            "169.254.1.1",
            "0.1.2.3",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_not_public(text.parse().unwrap()), "{text}");
        }
        assert!(!is_not_public("192.0.2.1".parse().unwrap()));
        assert!(
            !is_not_public("127.0.0.1".parse().unwrap()),
            "loopback passes unticketed instead"
        );
    }
}
