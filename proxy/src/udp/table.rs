//! UDP associations: who talks to whom, bounded in all and by job. Owns the table and each association's
//! first datagrams until it is judged; never waits. Driven by [`super::serve`] and by the association's
//! task.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::UdpSocket;

use crate::address::{ClientAddr, OriginalDst};
use crate::relay::Traffic;

/// Datagrams kept for an association that is not judged yet; later ones are dropped, as a full queue of the
/// network drops them.
const MOST_WAITING: usize = 16;

/// The two ends of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) client: ClientAddr,
    pub(super) original: OriginalDst,
}

/// One association.
#[derive(Debug)]
pub(super) struct Association {
    subject: u64,
    /// Where its bytes are counted.
    pub(super) traffic: Arc<Traffic>,
    way: Mutex<Way>,
}

#[derive(Debug)]
enum Way {
    /// Not judged yet.
    Waiting(Vec<Vec<u8>>),
    /// Open.
    Open(Arc<UdpSocket>),
    /// Refused or ended.
    Closed,
}

/// Where a datagram went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Upstream.
    Upstream(usize),
    /// Kept until the verdict.
    Kept,
    /// Nowhere: no room, or the network refused it.
    Dropped,
}

impl Association {
    /// Sends one datagram upstream, or keeps it until the verdict.
    pub(super) fn send(&self, payload: &[u8]) -> Sent {
        let mut way = self.way.lock();
        match &mut *way {
            Way::Waiting(kept) if kept.len() < MOST_WAITING => {
                kept.push(payload.to_vec());
                Sent::Kept
            }
            Way::Open(socket) => upstream(socket, payload),
            Way::Waiting(_) | Way::Closed => Sent::Dropped,
        }
    }

    /// The verdict is a permit: sends what was kept, and all that follows, to `socket`. Returns the bytes.
    pub(super) fn open(&self, socket: &Arc<UdpSocket>) -> usize {
        let mut way = self.way.lock();
        let kept = match std::mem::replace(&mut *way, Way::Open(Arc::clone(socket))) {
            Way::Waiting(kept) => kept,
            Way::Open(_) | Way::Closed => Vec::new(),
        };
        let sent = |payload: &Vec<u8>| match upstream(socket, payload) {
            Sent::Upstream(bytes) => bytes,
            Sent::Kept | Sent::Dropped => 0,
        };
        kept.iter().map(sent).sum()
    }

    /// Nothing passes from here on; returns what was kept.
    pub(super) fn close(&self) -> Vec<Vec<u8>> {
        match std::mem::replace(&mut *self.way.lock(), Way::Closed) {
            Way::Waiting(kept) => kept,
            Way::Open(_) | Way::Closed => Vec::new(),
        }
    }
}

fn upstream(socket: &UdpSocket, payload: &[u8]) -> Sent {
    match SockRef::from(socket).send(payload) {
        Ok(bytes) => Sent::Upstream(bytes),
        // An ICMP error about an earlier datagram was reported instead of this one being sent.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => SockRef::from(socket)
            .send(payload)
            .map_or(Sent::Dropped, Sent::Upstream),
        Err(_) => Sent::Dropped,
    }
}

/// All associations.
#[derive(Debug)]
pub(super) struct Table {
    inner: Mutex<Inner>,
    most: usize,
    most_per_job: usize,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Pair, Arc<Association>>,
    by_subject: HashMap<u64, usize>,
}

impl Table {
    pub(super) fn new(most: usize, most_per_job: usize) -> Self {
        Self {
            inner: Mutex::default(),
            most,
            most_per_job,
        }
    }

    /// The association of a pair.
    pub(super) fn find(&self, pair: &Pair) -> Option<Arc<Association>> {
        self.inner.lock().open.get(pair).cloned()
    }

    /// Begins an association for a job; `None` at the bounds. Two cores may begin the same one: the second
    /// gets the first's, and `true` only one of them.
    pub(super) fn begin(
        &self,
        pair: Pair,
        subject: u64,
        traffic: &Arc<Traffic>,
    ) -> Option<(Arc<Association>, bool)> {
        let mut inner = self.inner.lock();
        if let Some(known) = inner.open.get(&pair) {
            return Some((Arc::clone(known), false));
        }
        let of_job = inner.by_subject.get(&subject).copied().unwrap_or_default();
        if inner.open.len() >= self.most || of_job >= self.most_per_job {
            return None;
        }
        let way = Mutex::new(Way::Waiting(Vec::new()));
        let fresh = Arc::new(Association {
            subject,
            traffic: Arc::clone(traffic),
            way,
        });
        inner.open.insert(pair, Arc::clone(&fresh));
        *inner.by_subject.entry(subject).or_default() += 1;
        Some((fresh, true))
    }

    /// Forgets an association.
    pub(super) fn end(&self, pair: &Pair) {
        let mut inner = self.inner.lock();
        let Some(gone) = inner.open.remove(pair) else {
            return;
        };
        if let Some(count) = inner.by_subject.get_mut(&gone.subject) {
            *count -= 1;
            if *count == 0 {
                inner.by_subject.remove(&gone.subject);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.inner.lock().open.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn pair(port: u16) -> Pair {
        let client = ClientAddr::new(([10, 0, 0, 1], port).into());
        Pair {
            client,
            original: OriginalDst::new(([192, 0, 2, 1], 123).into()),
        }
    }

    #[test]
    fn bounded_in_all_and_by_job_and_freed_by_the_end() {
        let table = Table::new(3, 2);
        assert!(
            table.begin(pair(1), 7, &Arc::default()).unwrap().1
                && table.begin(pair(2), 7, &Arc::default()).unwrap().1
        );
        assert!(table.begin(pair(3), 7, &Arc::default()).is_none(), "two a job");
        assert!(
            !table.begin(pair(1), 7, &Arc::default()).unwrap().1,
            "the same one is not begun twice"
        );
        assert!(table.begin(pair(3), 8, &Arc::default()).is_some());
        assert!(table.begin(pair(4), 9, &Arc::default()).is_none(), "three in all");
        table.end(&pair(1));
        table.end(&pair(1));
        assert!(table.begin(pair(5), 7, &Arc::default()).is_some());
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn datagrams_before_the_verdict_are_kept_up_to_a_bound() {
        let table = Table::new(1, 1);
        let (association, _) = table.begin(pair(1), 7, &Arc::default()).unwrap();
        for _ in 0..MOST_WAITING {
            assert_eq!(association.send(b"x"), Sent::Kept);
        }
        assert_eq!(association.send(b"x"), Sent::Dropped);
        assert_eq!(association.close().len(), MOST_WAITING);
        assert_eq!(association.send(b"x"), Sent::Dropped);
    }
}
