//! The gateway's answers to what `dns` and `proxy` ask of their neighbours: who a source is, what a name
//! resolves to, who serves DNS over TCP, who sends ICMP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use tidegate_dns::front::{Client, DnsHandler, Transport, relay_stream, serve_stream};
use tidegate_dns::resolver::Resolver;
use tidegate_dns::subjects::Subjects;
use tidegate_policy::compile::rules::RuleRef;
use tidegate_policy::judge::permit::QueryPermit;
use tidegate_policy::lease::{Changes, Lasting, LeaseTable};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::subject::{Standing, Subject};
use tidegate_policy::{DnsName, Moment};
use tidegate_proxy::address::{ClientAddr, OriginalDst};
use tidegate_proxy::seams::{Families, Found, Lookup, LookupError, Pending, StreamDns, Unreachable};
use tokio::net::TcpStream;

use crate::intercept::NetworkPlan;
use crate::raw::{RefusedDatagram, Refuser};
use crate::runner_api::Links;

/// The lease table as the data plane asks it.
pub(crate) struct Leases {
    pub(crate) table: Arc<LeaseTable>,
    /// Who knows the machine of a source that the table has not seen yet.
    pub(crate) links: Links,
}

impl Subjects for Leases {
    /// A source at which no machine was seen yet may be a fresh address of a job's machine. The table refuses it; most
    /// are new machines, though, and the kernel knows them since they asked for their router.
    fn subject(&self, source: IpAddr, now: Moment) -> Arc<Subject> {
        let subject = self.table.lookup(source, now);
        let is_unseen = subject.standing == Standing::Unbound && self.table.is_unseen(source);
        match is_unseen.then(|| self.links.neighbour(source)).flatten() {
            None => subject,
            Some(machine) => {
                self.table.observe_neighbour(&machine);
                self.table.lookup(source, now)
            }
        }
    }

    fn lasting(&self, source: IpAddr, now: Moment) -> (Arc<Subject>, Option<Lasting>) {
        match self.table.lookup_lasting(source, now) {
            (subject, lasting @ Some(_)) => (subject, lasting),
            // Refused, perhaps only because its machine was not seen yet.
            (_, None) => (self.subject(source, now), None),
        }
    }

    fn changes(&self) -> Option<Arc<Changes>> {
        Some(Arc::clone(self.table.changes()))
    }
}

/// The resolver as the proxy asks it.
pub(crate) struct Names {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) dns: Arc<DnsHandler>,
}

impl Lookup for Names {
    fn charge(&self, subject: u64, name: &DnsName, rule: &RuleRef) -> bool {
        self.dns.charge(subject, name, rule)
    }

    fn addresses<'a>(
        &'a self,
        permit: &'a QueryPermit,
        families: Families,
    ) -> Pending<'a, Result<Found, LookupError>> {
        Box::pin(async move {
            let found = self.resolver.addresses(permit, families.v4, families.v6).await;
            found
                .map(|found| Found {
                    addresses: found.addresses,
                    chain: found.chain,
                })
                .map_err(|error| LookupError(error.to_string()))
        })
    }

    fn learn_ech<'a>(&'a self, permit: &'a QueryPermit, book: &'a Rulebook) -> Pending<'a, ()> {
        Box::pin(self.dns.learn_ech(permit, book))
    }
}

/// DNS over TCP towards foreign resolvers.
pub(crate) struct Streams(pub(crate) Arc<DnsHandler>);

impl StreamDns for Streams {
    fn serve(&self, stream: TcpStream, client: ClientAddr, original: OriginalDst) -> Pending<'static, ()> {
        let (dns, client) = (Arc::clone(&self.0), stream_client(client, original));
        Box::pin(async move {
            if let Err(error) = serve_stream(&dns, stream, &client).await {
                tracing::debug!(source = %client.source, %error, "a DNS connection ended");
            }
        })
    }

    fn relay(&self, stream: TcpStream, client: ClientAddr, original: OriginalDst) -> Pending<'static, ()> {
        let (dns, client) = (Arc::clone(&self.0), stream_client(client, original));
        Box::pin(async move {
            if let Err(error) = relay_stream(&dns, stream, &client).await {
                tracing::debug!(source = %client.source, %error, "a relayed DNS connection ended");
            }
        })
    }
}

fn stream_client(client: ClientAddr, original: OriginalDst) -> Client {
    Client {
        source: client.socket(),
        asked: original.socket(),
        transport: Transport::Tcp,
        spoofed: false,
    }
}

/// ICMP errors for refused datagrams, from the runner-facing address of the source's network.
pub(crate) struct Errors {
    pub(crate) refuser: Refuser,
    /// Each network's source ranges with the gateway's addresses there.
    pub(crate) networks: Vec<(Vec<IpNet>, NetworkPlan)>,
}

impl Errors {
    /// The gateway's address that a runner sees as its router.
    fn router(&self, client: IpAddr) -> Option<IpAddr> {
        let at_home =
            |(ranges, _): &&(Vec<IpNet>, NetworkPlan)| ranges.iter().any(|net| net.contains(&client));
        let (_, plan) = self.networks.iter().find(at_home)?;
        match client {
            IpAddr::V4(_) => plan.dns_v4.map(IpAddr::V4),
            IpAddr::V6(_) => plan.dns_v6.map(IpAddr::V6),
        }
    }
}

impl Unreachable for Errors {
    #[expect(
        clippy::disallowed_methods,
        reason = "the budget of sent errors counts in the system's time"
    )]
    fn refuse(&self, client: ClientAddr, original: OriginalDst, payload: &[u8]) {
        let Some(router) = self.router(client.ip()) else {
            return;
        };
        let datagram = RefusedDatagram {
            runner: client.socket(),
            destination: original.socket(),
            payload,
        };
        let outcome = self
            .refuser
            .refuse(router, datagram, crate::raw::Unreachable::Port, Instant::now());
        tracing::trace!(?outcome, "an ICMP error for a refused datagram");
    }
}
