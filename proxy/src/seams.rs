//! What the proxy asks of its neighbours, as traits: what a name resolves to, who serves DNS over TCP, who
//! sends ICMP. (Who a source is, `tidegate_dns::Subjects` says.) Owns no behaviour. `gateway` implements
//! them; tests put their own in place, which also proves that nobody else is asked.

use std::net::IpAddr;
use std::pin::Pin;

use tidegate_policy::DnsName;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::rulebook::Rulebook;
use tokio::net::TcpStream;

use crate::address::{ClientAddr, OriginalDst};

/// A future behind a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a permitted name resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its addresses, in the answer's order.
    pub addresses: Vec<IpAddr>,
    /// The further names that the answer led through.
    pub chain: Vec<DnsName>,
}

/// Families that a lookup is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// A records.
    pub v4: bool,
    /// AAAA records.
    pub v6: bool,
}

/// A name did not resolve: it does not exist, has no address, or no upstream answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot resolve the flow's name: {0}")]
pub struct LookupError(pub String);

/// Resolves names for flows, through the same cache and upstreams as the jobs' own queries.
pub trait Lookup: Send + Sync {
    /// Charges a name that `rule` permits to a subject's DNS budget; false when that is used up.
    fn charge(&self, subject: u64, name: &DnsName, rule: &RuleRef) -> bool;

    /// The addresses of a name.
    fn addresses<'a>(
        &'a self,
        permit: &'a QueryPermit,
        families: Families,
    ) -> Pending<'a, Result<Found, LookupError>>;

    /// Asks for a name's HTTPS record, so that the ids of its ECH configurations are known to the ledger
    /// of `book` when this returns.
    fn learn_ech<'a>(&'a self, permit: &'a QueryPermit, book: &'a Rulebook) -> Pending<'a, ()>;
}

/// Serves DNS on a connection that a runner opened to port 53 of a foreign address.
pub trait StreamDns: Send + Sync {
    /// Block: every query is answered by us, under the job's policy.
    fn serve(&self, stream: TcpStream, client: ClientAddr, original: OriginalDst) -> Pending<'static, ()>;

    /// Audit: queries are relayed to the server that the client chose.
    fn relay(&self, stream: TcpStream, client: ClientAddr, original: OriginalDst) -> Pending<'static, ()>;
}

/// Tells a client that a datagram went nowhere: ICMP port unreachable, from the address it was sent to.
pub trait Unreachable: Send + Sync {
    /// Answers one datagram. `payload` is its beginning, for the error's quotation (RFC 792, RFC 4443).
    fn refuse(&self, client: ClientAddr, original: OriginalDst, payload: &[u8]);
}
