//! Which of the kernel's announcements concern interception: owns the filters over
//! netlink messages; never acts on one (`watch` does).

use std::io;

use nix::sys::socket::SockProtocol;

use super::routing::PROTOCOL;
use crate::link::wake::{RTNLGRP_LINK, Wake};

const NFNLGRP_NFTABLES: u32 = 7;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_RULE: u32 = 8;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV6_RULE: u32 = 19;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;

/// Changes of nftables' structure.
pub(super) fn nftables() -> io::Result<Wake> {
    Wake::open(
        SockProtocol::NetlinkNetFilter,
        &[NFNLGRP_NFTABLES],
        nftables_matters,
    )
}

/// Changes of links, forwarding settings, routing rules and our own routes.
pub(super) fn routing() -> io::Result<Wake> {
    let groups = [
        RTNLGRP_LINK,
        RTNLGRP_IPV4_ROUTE,
        RTNLGRP_IPV4_RULE,
        RTNLGRP_IPV6_ROUTE,
        RTNLGRP_IPV6_RULE,
        RTNLGRP_IPV4_NETCONF,
        RTNLGRP_IPV6_NETCONF,
    ];
    Wake::open(SockProtocol::NetlinkRoute, &groups, routing_matters)
}

/// `NFT_MSG_NEWSETELEM`, `GETSETELEM`, `DELSETELEM` and the `NEWGEN` that ends
/// every transaction don't change the table's structure, and the bindings change
/// elements all the time.
fn nftables_matters(kind: u16, _body: &[u8]) -> bool {
    const NEWSETELEM: u16 = 12;
    const NEWGEN: u16 = 15;
    !(NEWSETELEM..=NEWGEN).contains(&(kind & 0xff))
}

/// Of routes, only the deletion of ours: a router's table may change a thousand
/// times a second.
fn routing_matters(kind: u16, body: &[u8]) -> bool {
    /// Of `rtm_protocol` in `struct rtmsg`.
    const PROTOCOL_OFFSET: usize = 5;
    match kind {
        libc::RTM_NEWROUTE => false,
        libc::RTM_DELROUTE => body.get(PROTOCOL_OFFSET) == Some(&PROTOCOL),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
    const NFTABLES: u16 = 10 << 8;

    #[test]
    fn our_own_element_changes_wake_nobody_and_a_deleted_table_does() {
        const DELTABLE: u16 = 2;
        const DELRULE: u16 = 8;
        for element in 12..=15 {
            assert!(!nftables_matters(NFTABLES | element, &[]));
        }
        assert!(nftables_matters(NFTABLES | DELTABLE, &[]));
        assert!(nftables_matters(NFTABLES | DELRULE, &[]));
    }

    #[test]
    fn of_routes_only_the_deletion_of_ours_matters() {
        let rtmsg = |protocol| [2, 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0];
        assert!(!routing_matters(libc::RTM_DELROUTE, &rtmsg(3)));
        assert!(!routing_matters(libc::RTM_NEWROUTE, &rtmsg(PROTOCOL)));
        assert!(routing_matters(libc::RTM_DELROUTE, &rtmsg(PROTOCOL)));
        assert!(routing_matters(libc::RTM_DELRULE, &[]));
    }
}
