//! Who is asking: the one question that the data plane puts to the lease table.

use std::net::IpAddr;
use std::sync::Arc;

use tidegate_policy::Moment;
use tidegate_policy::lease::LeaseTable;
use tidegate_policy::subject::Subject;

/// Gives the subject behind a source address. Called for every packet: implementations neither block
/// nor fail (an unknown source is a subject that is refused everything).
pub trait Subjects: Send + Sync {
    /// The subject that `source` belongs to at `now`.
    fn subject(&self, source: IpAddr, now: Moment) -> Arc<Subject>;
}

impl Subjects for LeaseTable {
    fn subject(&self, source: IpAddr, now: Moment) -> Arc<Subject> {
        self.lookup(source, now)
    }
}
