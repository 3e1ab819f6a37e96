//! Questions to the kernel's routing half: owns one netlink connection and the task
//! that drives it; never listens to multicast (`wake` does). Driven by `monitor`
//! and by interception's routing.

use rtnetlink::Handle;
use tokio::task::JoinHandle;

/// No netlink socket could be opened (no descriptors left, say).
#[derive(Debug, thiserror::Error)]
#[error("cannot open a netlink socket")]
pub struct NetlinkError(#[source] std::io::Error);

/// A netlink connection in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    pub(crate) handle: Handle,
    driver: JoinHandle<()>,
}

impl Netlink {
    /// Opens a connection with strict checks: the kernel then filters dumps
    /// instead of returning all of a full routing table.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _no_multicast) =
            rtnetlink::new_connection_with_strict_check().map_err(NetlinkError)?;
        Ok(Self {
            handle,
            driver: tokio::spawn(connection),
        })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
