//! Names that the gateway answers by itself: `localhost` (RFC 6761 §6.3), the configured hosts and its own name
//! (`.internal` is nobody's in the public DNS, by ICANN's resolution 2024.07.29.06).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use smallvec::SmallVec;
use tidegate_policy::DnsName;

use super::explain;
use crate::wire::message::Section;
use crate::wire::query::Query;
use crate::wire::reply::Reply;
use crate::wire::{Rcode, name, rtype};

/// TTL of local answers: a reload is seen within a minute.
const LOCAL_TTL: u32 = 60;

/// The configured hosts, both ways.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    forward: HashMap<DnsName, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, Vec<DnsName>>,
}

impl Hosts {
    pub(crate) fn new(hosts: &[(DnsName, Vec<IpAddr>)]) -> Self {
        let mut all = Self::default();
        for (name, addresses) in hosts {
            all.forward.entry(name.clone()).or_default().extend(addresses);
            for address in addresses {
                all.reverse.entry(*address).or_default().push(name.clone());
            }
        }
        all
    }

    /// The addresses of a configured name.
    pub(crate) fn get(&self, name: &DnsName) -> Option<&[IpAddr]> {
        self.forward.get(name).map(Vec::as_slice)
    }

    /// The configured names of an address.
    pub(crate) fn names(&self, address: IpAddr) -> Option<&[DnsName]> {
        self.reverse.get(&address).map(Vec::as_slice)
    }
}

/// The loopback addresses when `name` is `localhost` or below it.
pub(crate) fn localhost(name: &DnsName) -> Option<[IpAddr; 2]> {
    let is = name.labels().last().is_some_and(|label| *label == b"localhost");
    is.then_some([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
}

/// True for the name of the gateway's own pages.
pub(crate) fn is_own_name(name: &DnsName) -> bool {
    name.as_wire() == b"\x08tidegate\x08internal"
}

/// `localhost`, as the name of loopback addresses.
pub(crate) fn localhost_name() -> DnsName {
    DnsName::parse("localhost").expect("a constant name is valid")
}

/// Answers with those of `addresses` that the type asks for; NODATA when there are none.
pub(crate) fn addresses(query: &Query, addresses: &[IpAddr]) -> (Vec<u8>, SmallVec<[IpAddr; 8]>) {
    let wanted = |address: &&IpAddr| match query.qtype {
        rtype::A => address.is_ipv4(),
        rtype::AAAA => address.is_ipv6(),
        _ => false,
    };
    let given: SmallVec<[IpAddr; 8]> = addresses.iter().filter(wanted).copied().collect();
    if given.is_empty() {
        return (explain::local_no_data(query), given);
    }
    let mut reply = Reply::to(query, Rcode::NOERROR);
    for address in &given {
        match address {
            IpAddr::V4(v4) => reply.record(Section::Answer, rtype::A, LOCAL_TTL, &v4.octets()),
            IpAddr::V6(v6) => reply.record(Section::Answer, rtype::AAAA, LOCAL_TTL, &v6.octets()),
        }
    }
    (reply.finish(query, Rcode::NOERROR, None), given)
}

/// Answers a PTR question with these names.
pub(crate) fn pointers(query: &Query, names: &[DnsName]) -> Vec<u8> {
    let mut reply = Reply::to(query, Rcode::NOERROR);
    for name in names {
        let mut data = Vec::with_capacity(name.as_wire().len() + 1);
        name::write(&mut data, name);
        reply.record(Section::Answer, rtype::PTR, LOCAL_TTL, &data);
    }
    reply.finish(query, Rcode::NOERROR, None)
}
