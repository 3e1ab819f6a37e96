//! A connection begun before the client's first bytes came, where a protocol in which the server speaks
//! first is permitted. Owns the dial while it is under way: a verdict that comes meanwhile goes on over it, so
//! that one flow is one connection towards its server. Never decides. Begun by `flow`, used up by `route`.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tidegate_policy::DnsName;
use tidegate_policy::judge::permit::DialPermit;
use tokio::task::JoinSet;

use crate::address::UpstreamAddr;
use crate::context::FlowContext;
use crate::dial::{DialError, Upstream};

/// Dials under way; dropping them ends them.
pub(crate) type Tries = JoinSet<Result<Upstream, DialError>>;

/// A connection to the flow's own address, or one in the making.
#[derive(Debug)]
pub(crate) struct Early {
    to: UpstreamAddr,
    confirmed: Option<DnsName>,
    state: State,
}

#[derive(Debug)]
enum State {
    UnderWay(Tries),
    Connected(Upstream),
}

impl Early {
    /// Begins to dial. `confirmed` is the exact name that was found to have the address.
    pub(crate) fn begin(context: &FlowContext, permit: DialPermit, confirmed: Option<DnsName>) -> Self {
        let to = UpstreamAddr::new((permit.address(), context.flow.port).into());
        let mut tries = Tries::new();
        begin(&mut tries, context, permit);
        Self {
            to,
            confirmed,
            state: State::UnderWay(tries),
        }
    }

    /// Where it goes.
    pub(crate) fn address(&self) -> IpAddr {
        self.to.ip()
    }

    /// The exact name that was confirmed to have the address.
    pub(crate) fn confirmed(&self) -> Option<&DnsName> {
        self.confirmed.as_ref()
    }

    /// The connection, once it is there.
    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        match &self.state {
            State::Connected(upstream) => Some(upstream),
            State::UnderWay(_) => None,
        }
    }

    /// Waits until the connection is there; may be dropped and called again.
    pub(crate) async fn connected(&mut self) -> Result<(), DialError> {
        if let State::UnderWay(tries) = &mut self.state {
            let lost = || DialError::new(self.to, io::ErrorKind::Other.into());
            let upstream = tries.join_next().await.and_then(Result::ok).ok_or_else(lost)??;
            self.state = State::Connected(upstream);
        }
        Ok(())
    }

    /// The connection, or the dial to wait for.
    pub(crate) fn finish(self) -> Result<Upstream, Tries> {
        match self.state {
            State::Connected(upstream) => Ok(upstream),
            State::UnderWay(tries) => Err(tries),
        }
    }
}

/// Adds a dial to those under way.
pub(crate) fn begin(tries: &mut Tries, context: &FlowContext, permit: DialPermit) {
    let (proxy, client) = (Arc::clone(&context.proxy), context.client);
    tries.spawn(async move { proxy.dialer.dial(&permit, client).await });
}
