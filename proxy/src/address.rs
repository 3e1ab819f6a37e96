//! What the ends of a flow are called. Owns three address types, so that a client's address can't be
//! dialled by mistake; never does I/O. Used by everything in this crate.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

macro_rules! address {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(SocketAddr);

        impl $name {
            /// Wraps a socket's address; a v4-mapped one becomes the IPv4 address that it is.
            pub fn new(address: SocketAddr) -> Self {
                Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }

            /// The bare address.
            pub fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port.
            pub fn port(self) -> u16 {
                self.0.port()
            }

            /// Both, for a socket call.
            pub fn socket(self) -> SocketAddr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

address! {
    /// The runner's end of a diverted flow: who is asking.
    ClientAddr
}
address! {
    /// The destination that the runner asked for, untouched by the diversion.
    OriginalDst
}
address! {
    /// What the gateway dials, or has dialled.
    UpstreamAddr
}
