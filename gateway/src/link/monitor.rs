//! Keeps the picture of the links current: owns when the kernel is asked; never
//! decides what the picture is for.
//!
//! Announcements only wake it; it then reads the state whole. So a burst of
//! announcements costs one reading, and a lost one costs nothing.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use rtnetlink::{packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Mac, ask,
    netlink::{Netlink, NetlinkError},
    snapshot::{self, LinkSnapshot, Neighbour},
    wake::Wake,
};
use crate::intercept::InterfaceName;

/// Least time between two readings. A reading of 10 000 neighbours takes about
/// 20 ms; who can't wait asks [`Monitor::lookup_neighbour`].
const SPACING: Duration = Duration::from_millis(100);

/// After a failed reading the old picture stays, and this long passes.
const RETRY: Duration = Duration::from_secs(1);

/// Why the links could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel can't be asked.
    #[error("the kernel's links can't be reached")]
    Netlink(#[from] NetlinkError),
    /// The kernel can't be listened to.
    #[error("cannot subscribe to link changes")]
    Subscribe(#[source] io::Error),
    /// The kernel refused a question.
    #[error("cannot list {0}")]
    Kernel(&'static str, #[source] rtnetlink::Error),
}

/// The links' state, kept current by a task that ends when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    netlink: Arc<Netlink>,
    snapshots: watch::Receiver<Arc<LinkSnapshot>>,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Reads the state once, so that [`snapshot`](Self::snapshot) is true from the
    /// start, then keeps reading. Neighbours are those of `runners` only.
    pub async fn start(runners: Vec<InterfaceName>) -> Result<Self, LinkError> {
        let netlink = Arc::new(Netlink::open()?);
        // Subscribed before the first reading: no change falls between.
        let addresses = Wake::addresses().map_err(LinkError::Subscribe)?;
        let neighbours = Wake::neighbours().map_err(LinkError::Subscribe)?;
        let reader = Reader {
            netlink: Arc::clone(&netlink),
            runners,
        };
        let first = reader.read().await?;
        let (sender, snapshots) = watch::channel(Arc::new(first));
        let task = tokio::spawn(keep_current(reader, [addresses, neighbours], sender));
        Ok(Self {
            netlink,
            snapshots,
            task,
        })
    }

    /// The latest picture; at most about 100 ms behind the kernel.
    pub fn snapshot(&self) -> Arc<LinkSnapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// A receiver that is told of every new picture that differs from the last.
    pub fn subscribe(&self) -> watch::Receiver<Arc<LinkSnapshot>> {
        self.snapshots.clone()
    }

    /// Asks the kernel at this moment which machine uses an address, for a source
    /// that spoke a moment ago. `None`: it doesn't know (yet).
    pub async fn lookup_neighbour(&self, interface: u32, address: IpAddr) -> Result<Option<Mac>, LinkError> {
        let request = ask::question(interface, address);
        let failed = |error| LinkError::Kernel("a neighbour", error);
        let mut answers = self.netlink.handle.clone().request(request).map_err(failed)?;
        let answer = futures_util::StreamExt::next(&mut answers).await;
        match answer.map(|message| message.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found))) => {
                Ok(snapshot::neighbour(&found).map(|neighbour| neighbour.mac))
            }
            Some(NetlinkPayload::Error(error)) if error.raw_code() == -libc::ENOENT => Ok(None),
            Some(NetlinkPayload::Error(error)) => Err(failed(rtnetlink::Error::NetlinkError(error))),
            _ => Ok(None),
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_current(
    reader: Reader,
    [addresses, neighbours]: [Wake; 2],
    pictures: watch::Sender<Arc<LinkSnapshot>>,
) {
    loop {
        let spaced = Instant::now() + SPACING;
        let woken = tokio::select! {
            woken = addresses.changed() => woken,
            woken = neighbours.changed() => woken,
        };
        if let Err(error) = woken {
            // Still worth a reading: what can't be heard may have changed.
            tracing::error!(%error, "link changes can't be heard");
            sleep(RETRY).await;
        }
        sleep_until(spaced).await;
        let now = read_at_last(&reader).await;
        pictures.send_if_modified(|last| {
            let changed = **last != now;
            if changed {
                *last = Arc::new(now);
            }
            changed
        });
    }
}

async fn read_at_last(reader: &Reader) -> LinkSnapshot {
    loop {
        match reader.read().await {
            Ok(now) => return now,
            Err(error) => tracing::error!(%error, "links can't be read, the last picture stays"),
        }
        sleep(RETRY).await;
    }
}

struct Reader {
    netlink: Arc<Netlink>,
    runners: Vec<InterfaceName>,
}

impl Reader {
    async fn read(&self) -> Result<LinkSnapshot, LinkError> {
        let handle = &self.netlink.handle;
        let mut now = LinkSnapshot::default();
        let links: Vec<_> = handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| LinkError::Kernel("interfaces", error))?;
        now.interfaces = links.iter().filter_map(snapshot::interface).collect();
        let addresses: Vec<_> = handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| LinkError::Kernel("addresses", error))?;
        now.local = addresses.iter().filter_map(snapshot::local_address).collect();
        let neighbours: Vec<_> = handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| LinkError::Kernel("neighbours", error))?;
        let runners: Vec<u32> = self.runner_indices(&now);
        let on_runners = |neighbour: &Neighbour| runners.contains(&neighbour.interface);
        now.set_neighbours(
            neighbours
                .iter()
                .filter_map(snapshot::neighbour)
                .filter(on_runners),
        );
        Ok(now)
    }

    /// By name each time: an interface that was made anew has another number.
    fn runner_indices(&self, now: &LinkSnapshot) -> Vec<u32> {
        self.runners
            .iter()
            .filter_map(|name| now.interface(name.as_str()))
            .map(|interface| interface.index)
            .collect()
    }
}
