//! A connection begun before the client's first bytes came, where a protocol in which the server speaks
//! first is permitted. Owns the dial while it is under way: a verdict that comes meanwhile goes on over it, so
//! that one flow is one connection towards its server. Never decides. Begun by `flow`, used up by `route`.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tidegate_policy::DnsName;
use tidegate_policy::judge::permit::DialPermit;

use crate::address::UpstreamAddr;
use crate::context::FlowContext;
use crate::dial::{DialError, Greeting, Upstream};

/// A dial under way, in the flow's own task; dropping it ends it.
pub(crate) type Dial = Pin<Box<dyn Future<Output = Result<Upstream, DialError>> + Send>>;

/// Several of them.
pub(crate) type Tries = FuturesUnordered<Dial>;

/// A connection to the flow's own address, or one in the making.
pub(crate) struct Early {
    to: UpstreamAddr,
    confirmed: Option<DnsName>,
    state: State,
}

enum State {
    /// Never locked: flows that hold one are shared between threads by reference, as futures are not.
    UnderWay(Mutex<Dial>),
    Connected(Upstream),
}

impl std::fmt::Debug for Early {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Early")
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Early {
    /// A dial to be begun by waiting for it. `confirmed` is the exact name that was found to have the address.
    pub(crate) fn begin(context: &FlowContext, permit: DialPermit, confirmed: Option<DnsName>) -> Self {
        let to = UpstreamAddr::new((permit.address(), context.flow.port).into());
        Self {
            to,
            confirmed,
            state: State::UnderWay(Mutex::new(dial(context, permit, Greeting::None))),
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
        if let State::UnderWay(dial) = &mut self.state {
            self.state = State::Connected(dial.get_mut().await?);
        }
        Ok(())
    }

    /// The connection, or the dial to wait for.
    pub(crate) fn finish(self) -> Result<Upstream, Dial> {
        match self.state {
            State::Connected(upstream) => Ok(upstream),
            State::UnderWay(dial) => Err(dial.into_inner()),
        }
    }
}

/// A dial, begun when it is first waited for.
pub(crate) fn dial(context: &FlowContext, permit: DialPermit, greeting: Greeting) -> Dial {
    let (proxy, client) = (Arc::clone(&context.proxy), context.client);
    Box::pin(async move { proxy.dialer.dial(&permit, client, greeting).await })
}
