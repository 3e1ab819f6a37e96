//! Packets below TCP and UDP: owns what the gateway sees of other protocols and
//! the ICMP that it sends itself; never forwards one and never decides a policy.
//! The appliance runs an [`Observer`] per runner interface and one [`Echo`]; the
//! data plane calls [`Refuser`] for each datagram that it refuses.

mod bucket;
mod echo;
mod filter;
mod icmp;
mod observed;
mod observer;
mod packet;
mod sender;

pub use bucket::{MAX_SOURCES, SourceBudget, TokenBucket};
pub use echo::{Echo, EchoError, MAX_PINGS, Rtt};
pub use icmp::{Refusal, RefusedDatagram, Refuser, Unreachable};
pub use observed::{EchoRequest, ForeignProtocol, Observed};
pub use observer::{Drops, OBSERVED_QUEUE, Observer, ObserverError};
pub use packet::echo_reply;
pub use sender::RawSender;
