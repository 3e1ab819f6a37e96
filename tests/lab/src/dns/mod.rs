//! Owns the fake internet's name servers: programmable answers, per-name
//! behaviours, and a log of every query. Tests drive them at run time.
//! Never asks anybody else: what is not programmed does not exist.

mod answer;
mod listen;
mod log;
mod secure;
mod zone;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::op::Message;
use parking_lot::Mutex;

pub use self::log::{EdnsSeen, LoggedQuery, Transport};
pub use self::zone::{Behaviour, Gate};

use self::answer::Answer;
use self::log::{Log, Origin};
use self::zone::Zone;
use crate::error::LabError;

pub(crate) use self::secure::serve_secure;

/// A name server of the fake internet. Cheap to clone; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct DnsServer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    zone: Mutex<Zone>,
    log: Mutex<Log>,
    down: AtomicBool,
}

impl DnsServer {
    /// Replaces the records of `name` by lines of `[TTL] TYPE RDATA` in zone
    /// file syntax, e.g. `A 192.0.2.10`, `5 CNAME cdn.test.`,
    /// `HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.10 ech=AEj+…`, or any type as
    /// `TYPE65280 \# 0a0b0c`. The TTL is 60 s unless said. A name `*.x.test`
    /// answers for every name below `x.test` that has no records. The name
    /// answers plainly afterwards, whatever it did before.
    pub fn set(&self, name: &str, records: &[&str]) -> Result<(), LabError> {
        self.shared.zone.lock().set(name, records)
    }

    /// Forgets a name: it does not exist any more.
    pub fn remove(&self, name: &str) {
        self.shared.zone.lock().remove(name);
    }

    /// Makes `name` behave in another way from now on; its records stay.
    pub fn behave(&self, name: &str, behaviour: Behaviour) {
        self.shared.zone.lock().behave(name, behaviour);
    }

    /// Holds every answer for `name` back until the gate is opened.
    pub fn gate(&self, name: &str) -> Gate {
        self.shared.zone.lock().gate(name)
    }

    /// Adds an RRSIG record (of random bytes) to every answer for `name` that
    /// is asked for with DO.
    pub fn sign(&self, name: &str) {
        self.shared.zone.lock().sign(name);
    }

    /// A server that is down leaves UDP unanswered and closes TCP at once.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// Every query so far, oldest first; the last 65 536 are kept.
    pub fn log(&self) -> Vec<LoggedQuery> {
        self.shared.log.lock().all()
    }

    /// The queries for `name` (compared without case) so far.
    pub fn asked(&self, name: &str) -> Vec<LoggedQuery> {
        let name = zone::canonical(name);
        let mut log = self.log();
        log.retain(|query| query.name == name);
        log
    }

    /// The queries for `name` and everything below it so far.
    pub fn asked_below(&self, name: &str) -> Vec<LoggedQuery> {
        let name = zone::canonical(name);
        let below = format!(".{name}");
        let mut log = self.log();
        log.retain(|query| query.name == name || query.name.ends_with(&below));
        log
    }

    /// Empties the log.
    pub fn clear_log(&self) {
        self.shared.log.lock().clear();
    }

    fn is_down(&self) -> bool {
        self.shared.down.load(Ordering::SeqCst)
    }

    /// One query to its reply; `None` is silence.
    async fn reply(&self, query: &[u8], origin: Origin) -> Option<Vec<u8>> {
        let parsed = Message::from_vec(query);
        self.shared.log.lock().add(parsed.as_ref().ok(), origin);
        if self.is_down() {
            return None;
        }
        let Ok(query) = parsed else {
            return answer::malformed(query);
        };
        let gate = self.shared.zone.lock().gate_of(&query);
        if let Some(gate) = gate {
            gate.passed().await;
        }
        let answer = self.shared.zone.lock().answer(&query);
        match answer {
            Answer::Silence => None,
            Answer::Raw(bytes) => Some(answer::with_id(bytes, query.metadata.id)),
            Answer::Message { message, stream_only } => {
                answer::encode(&message, origin.transport, stream_only, &query)
            }
        }
    }
}

pub(crate) use self::listen::serve;
