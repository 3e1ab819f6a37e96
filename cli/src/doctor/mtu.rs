//! How large a packet may be: the links' own word, and what gets through.
//!
//! Pure: what gets through is asked by a function that it is given.

use super::finding::{Finding, Severity, word};

/// The least that IPv6 needs of a link (RFC 8200 §5), and that every gateway's answer fits into.
const LEAST: usize = 1_280;
/// The largest size that is tried: a DNS server takes no larger query.
const MOST: usize = 4_096;

/// What is wrong with a link of this size, towards a server that answers a small query.
pub(super) fn judge(
    device: &str,
    mtu: usize,
    server: &str,
    gets_through: impl Fn(usize) -> bool,
) -> Option<Finding> {
    let command = |size: usize| format!("ip link set dev {} mtu {size}", word(device));
    if mtu < LEAST {
        let what = format!("its MTU is {mtu}; IPv6 needs {LEAST}, and many servers' packets are larger");
        return Some(Finding::new(Severity::Problem, "mtu", device, what).mend(command(1_500)));
    }
    let full = mtu.min(MOST);
    if gets_through(full) {
        return None;
    }
    let (mut through, mut lost) = (576, full);
    if !gets_through(through) {
        // Not a matter of size: the server takes no padded query.
        return None;
    }
    while lost - through > 1 {
        let middle = usize::midpoint(through, lost);
        if gets_through(middle) {
            through = middle;
        } else {
            lost = middle;
        }
    }
    let what = format!(
        "its MTU is {mtu}, but packets of more than {through} bytes get lost on the way to {server}, and nobody says so"
    );
    Some(Finding::new(Severity::Problem, "mtu", device, what).mend(command(through)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gets_through_is_found_to_the_byte() {
        assert_eq!(judge("eth0", 1_500, "gw", |_| true), None);
        assert_eq!(judge("eth0", 9_000, "gw", |size| size <= MOST), None);
        for path in [1_280, 1_400, 1_499] {
            let found = judge("eth0", 1_500, "gw", |size| size <= path).map(|one| one.mend);
            assert_eq!(found, Some(Some(format!("ip link set dev eth0 mtu {path}"))));
        }
        // A server that answers no padded query says nothing about the path.
        assert_eq!(judge("eth0", 1_500, "gw", |_| false), None);
        let found = judge("eth0", 1_000, "gw", |_| true).map(|one| one.mend);
        assert_eq!(found, Some(Some("ip link set dev eth0 mtu 1500".to_owned())));
    }
}
