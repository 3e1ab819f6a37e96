//! The kernel settings that keep runner interfaces closed: owns which they are,
//! sets and re-reads them; never opens anything. They outlive the gateway: a
//! dead, stopped or removed one leaves forwarding off.
//!
//! IPv6 has a trap: `ip6_forward()` asks only `net.ipv6.conf.all.forwarding` (and,
//! since Linux 6.17, the interface's `force_forwarding`), never the interface's own
//! `forwarding`. So IPv6 forwarding is off for the whole namespace, or the
//! invariant would rest on a setting that does nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::plan::InterfaceName;

/// Per runner interface, IPv4. The rest of forwarding's family: nobody may
/// redirect, source-route or be answered for.
const V4: &[(&str, &str)] = &[
    ("forwarding", "0"),
    ("bc_forwarding", "0"),
    ("rp_filter", "1"),
    ("send_redirects", "0"),
    ("accept_redirects", "0"),
    ("secure_redirects", "0"),
    ("accept_source_route", "0"),
    ("accept_local", "0"),
    ("route_localnet", "0"),
    ("proxy_arp", "0"),
];

/// Per runner interface, IPv6. A runner's router advertisement must not become
/// the gateway's route.
const V6: &[(&str, &str)] = &[
    ("forwarding", "0"),
    ("force_forwarding", "0"),
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_redirects", "0"),
    ("accept_source_route", "-1"),
    ("seg6_enabled", "0"),
    ("rpl_seg_enabled", "0"),
    ("proxy_ndp", "0"),
];

/// For the namespace. A mark reflected into replies, or inherited by accepted
/// sockets, would route the gateway's own answers back to itself. Where a runner
/// interface is a bridge and `br_netfilter` is loaded (container engines do that),
/// prerouting would run at the bridge already, and the socket that `tproxy` found
/// there is dropped again when the packet enters IP: every SYN would find none.
const NAMESPACE: &[(&str, &str)] = &[
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv4/fwmark_reflect", "0"),
    ("ipv6/fwmark_reflect", "0"),
    ("ipv4/tcp_fwmark_accept", "0"),
];

/// A setting could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the kernel setting net/{setting}")]
pub struct SysctlError {
    action: &'static str,
    setting: String,
    #[source]
    source: io::Error,
}

/// One setting and the value it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Below `/proc/sys/net`.
    name: String,
    value: &'static str,
}

/// Every setting for these runner interfaces, in the order in which they are set.
pub(super) fn settings<'a>(interfaces: impl Iterator<Item = &'a InterfaceName>) -> Vec<Setting> {
    let setting = |name: String, value: &'static str| Setting { name, value };
    let mut all: Vec<_> = NAMESPACE
        .iter()
        .map(|(name, value)| setting((*name).to_owned(), value))
        .collect();
    for interface in interfaces {
        for (family, list) in [("ipv4", V4), ("ipv6", V6)] {
            all.extend(
                list.iter()
                    .map(|(name, value)| setting(format!("{family}/conf/{interface}/{name}"), value)),
            );
        }
    }
    all
}

/// Sets what differs. A setting that this kernel doesn't have is passed over,
/// except the interface's own IPv4 forwarding: without that there is no interface.
pub(super) fn apply(settings: &[Setting]) -> Result<(), SysctlError> {
    for setting in settings {
        match setting.read()? {
            Some(value) if value == setting.value => {}
            Some(_) => setting.write()?,
            None => setting.may_be_absent()?,
        }
    }
    Ok(())
}

/// The first setting that is not as it must be: its name and what it is.
pub(super) fn first_deviation(settings: &[Setting]) -> Result<Option<String>, SysctlError> {
    for setting in settings {
        match setting.read()? {
            Some(value) if value != setting.value => {
                return Ok(Some(format!(
                    "net/{} is {value}, not {}",
                    setting.name, setting.value
                )));
            }
            Some(_) => {}
            None => setting.may_be_absent()?,
        }
    }
    Ok(None)
}

impl Setting {
    fn path(&self) -> PathBuf {
        Path::new("/proc/sys/net").join(&self.name)
    }

    fn read(&self) -> Result<Option<String>, SysctlError> {
        match fs::read_to_string(self.path()) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error("read", source)),
        }
    }

    fn write(&self) -> Result<(), SysctlError> {
        fs::write(self.path(), self.value).map_err(|source| self.error("write", source))
    }

    fn may_be_absent(&self) -> Result<(), SysctlError> {
        let required = self.name.starts_with("ipv4/conf/") && self.name.ends_with("/forwarding");
        if required {
            return Err(self.error("find", io::ErrorKind::NotFound.into()));
        }
        Ok(())
    }

    fn error(&self, action: &'static str, source: io::Error) -> SysctlError {
        SysctlError {
            action,
            setting: self.name.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn forwarding_is_off_where_the_kernel_asks_for_it() {
        let runners = [InterfaceName::parse("br0.7").unwrap()];
        let all = settings(runners.iter());
        for name in [
            "ipv4/conf/br0.7/forwarding",
            "ipv6/conf/br0.7/forwarding",
            "ipv6/conf/br0.7/force_forwarding",
            "ipv6/conf/all/forwarding",
            "ipv6/conf/br0.7/accept_ra",
        ] {
            assert!(all.iter().any(|s| s.name == name && s.value == "0"), "{name}");
        }
        assert_eq!(all.len(), NAMESPACE.len() + V4.len() + V6.len());
    }

    #[test]
    fn an_absent_interface_is_an_error_an_absent_feature_is_not() {
        let gone = Setting {
            name: "ipv4/conf/tgi-none/forwarding".to_owned(),
            value: "0",
        };
        let error = apply(&[gone]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot find the kernel setting net/ipv4/conf/tgi-none/forwarding"
        );
        let old_kernel = Setting {
            name: "ipv6/conf/lo/tgi_none".to_owned(),
            value: "0",
        };
        apply(&[old_kernel]).unwrap();
    }
}
