//! Who is asking: the one question that the data plane puts to the lease table.

use std::net::IpAddr;
use std::sync::Arc;

use tidegate_policy::Moment;
use tidegate_policy::lease::{Changes, Lasting, LeaseTable};
use tidegate_policy::subject::Subject;

/// Gives the subject behind a source address. Called for every packet: implementations neither block
/// nor fail (an unknown source is a subject that is refused everything).
pub trait Subjects: Send + Sync {
    /// The subject that `source` belongs to at `now`.
    fn subject(&self, source: IpAddr, now: Moment) -> Arc<Subject>;

    /// The same, with how long it lasts while [`Self::changes`] does not move in the source's stripe, read before; `None`: it
    /// must be asked for each packet.
    fn lasting(&self, source: IpAddr, now: Moment) -> (Arc<Subject>, Option<Lasting>) {
        (self.subject(source, now), None)
    }

    /// What moves when sources have other subjects; `None` where nothing does, and no subject lasts.
    fn changes(&self) -> Option<Arc<Changes>> {
        None
    }
}

impl Subjects for LeaseTable {
    fn subject(&self, source: IpAddr, now: Moment) -> Arc<Subject> {
        self.lookup(source, now)
    }

    fn lasting(&self, source: IpAddr, now: Moment) -> (Arc<Subject>, Option<Lasting>) {
        self.lookup_lasting(source, now)
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        Some(Arc::clone(LeaseTable::changes(self)))
    }
}
