//! What the kernel and `/etc` say of this machine: read, bounded, judged by nobody here.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use super::routes::{Route, parse_v4, parse_v6};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A file's text; empty when there is none.
pub(super) fn text(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_or_else(
        |_| String::new(),
        |_| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

/// The routes of both families.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = parse_v4(&text("/proc/net/route"));
    routes.extend(parse_v6(&text("/proc/net/ipv6_route")));
    routes
}

/// A kernel setting below `/proc/sys/net`; `None` where this kernel has none.
pub(super) fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
    Some(text.trim().to_owned())
}

/// The MTU of an interface; `None` when there is no such one.
pub(super) fn mtu(interface: &str) -> Option<usize> {
    text(format!("/sys/class/net/{interface}/mtu"))
        .trim()
        .parse()
        .ok()
}

/// True when the interface can carry packets.
pub(super) fn is_up(interface: &str) -> bool {
    // `unknown` is what drivers without a carrier say.
    !matches!(
        text(format!("/sys/class/net/{interface}/operstate")).trim(),
        "down" | "notpresent" | "lowerlayerdown"
    )
}

/// The ports of a bridge; none of another interface.
pub(super) fn ports(interface: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/sys/class/net/{interface}/brif")) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// True for an address of this machine.
pub(super) fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
