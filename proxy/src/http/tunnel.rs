//! What an HTTP connection becomes when it stops to be one: an upgraded protocol, bytes that an address
//! endpoint permits, or a tunnel that a forward proxy opened, whose inside is detected and judged anew. Owns
//! these last parts of a flow; never decides. Driven by [`super::serve`].

use std::sync::Arc;

use tidegate_policy::detection::{Detection, OpaqueReason, Prefix};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::judge::flow::{ProxyTarget, Route, judge_tunnelled};
use tidegate_policy::verdict::{Reason, Refusal};
use tokio::time::{Instant, sleep_until};

use super::decide::Via;
use super::inlet::Inlet;
use super::ledger::Ledger;
use super::pool::{Pool, Server};
use super::session::{Over, Session};
use crate::context::{FlowContext, Judged, Remarks};
use crate::detect::{Detector, Step};
use crate::explain::{Explanation, PageFormat};
use crate::flow::{TlsWatch, at_end};
use crate::leg::Leg;
use crate::record::OpenRecord;
use crate::relay::{Direction, End, Inspect, Look, Relay, Traffic};

/// A client and a server with bytes between them.
pub(super) struct Pair<'a> {
    pub(super) context: &'a FlowContext,
    pub(super) client: &'a Leg,
    /// What the client said and nobody has read.
    pub(super) inlet: Inlet,
    pub(super) server: Server,
}

/// What the inside of a tunnel begins with.
struct Inside {
    detection: Detection,
    step: Option<Step>,
    bytes: Vec<u8>,
}

impl Pair<'_> {
    /// Relays to the end of both sides; the bytes are counted in `event`.
    pub(super) async fn relay(mut self, event: &Traffic, watch: &mut (dyn Inspect + '_)) -> End {
        let first = self.inlet.take_all();
        self.relay_behind(&first, event, watch).await
    }

    async fn relay_behind(mut self, first: &[u8], event: &Traffic, watch: &mut (dyn Inspect + '_)) -> End {
        let (context, leg) = (self.context, &self.server.upstream.leg);
        let idle = context.proxy.config.timeouts.idle;
        let said = self.server.inlet.take_all();
        // A client that does not read what its server said first is as silent as one that says nothing.
        if !matches!(
            tokio::time::timeout(idle, self.client.write_all(&said)).await,
            Ok(Ok(()))
        ) {
            return End::Idle;
        }
        context.proxy.means.count(event, Direction::Down, said.len());
        let relay = Relay {
            client: self.client,
            upstream: leg,
            means: &context.proxy.means,
            traffic: event,
            idle,
        };
        let end = relay.run(first.to_vec(), watch).await;
        if matches!(end, End::Finished) {
            self.client.orderly();
            leg.orderly();
        }
        end
    }

    /// Serves the inside of a tunnel to `target`.
    pub(super) async fn inside(mut self, target: ProxyTarget) {
        let context = self.context;
        let inside = tokio::select! {
            inside = self.first_bytes() => inside,
            () = context.traffic().silence(context.proxy.config.timeouts.idle) => return,
        };
        let judged = self.context.judge_by(|book, flow, evidence| {
            judge_tunnelled(book, flow, &target, &inside.detection, evidence)
        });
        let note = format!("through a forward proxy's tunnel to port {}", target.port);
        let mut remarks = Remarks::of(&inside.detection, Transport::Tcp).noting(note);
        remarks.dialled = Some(self.server.upstream.address);
        if matches!(judged.ruling.route, Route::Closed) {
            let told = self.context.refuse(&judged.ruling, remarks).for_port(target.port);
            let words = inside.words(&told);
            return self
                .client
                .farewell(&words, self.context.proxy.config.timeouts.farewell)
                .await;
        }
        self.context
            .admit_proxied(&judged, &inside.detection, &target, self.server.upstream.address);
        self.context.stands().await;
        match inside.step {
            Some(Step::Http(head)) => {
                let mut bytes = inside.bytes;
                bytes.drain(..head.consumed);
                self.requests(bytes, head, target).await;
            }
            Some(Step::Tls(hello)) => {
                let mut watch = TlsWatch::new(&hello, true);
                remarks.ja4 = Some(hello.ja4().into());
                let (hello_bytes, behind) = inside.bytes.split_at(hello.consumed);
                let mut first = hello_bytes.to_vec();
                let (context, client) = (self.context, self.client);
                if watch.look(Direction::Up, behind, &mut first) != Look::Stop {
                    self.bytes(&judged, remarks.clone(), &first, &mut watch).await;
                }
                if let Some(what) = watch.differs() {
                    let judged = judged.refused(Refusal::because(Reason::SecondHello));
                    let told = context.refuse(&judged.ruling, remarks.noting(what));
                    let patience = context.proxy.config.timeouts.farewell;
                    client.farewell(&told.alert(hello_bytes), patience).await;
                }
            }
            Some(_) | None => self.bytes(&judged, remarks, &inside.bytes, &mut ()).await,
        }
    }

    /// Relays the inside of a tunnel, with an event of its own.
    async fn bytes(self, judged: &Judged, remarks: Remarks, first: &[u8], watch: &mut (dyn Inspect + '_)) {
        let event: Arc<Traffic> = Arc::default();
        let mut record: OpenRecord = self
            .context
            .permit_apart(&judged.ruling, remarks, Arc::clone(&event));
        if !matches!(self.relay_behind(first, &event, watch).await, End::Finished) {
            record.note("reset");
        }
    }

    /// Serves requests inside of a tunnel, each judged by its own authority too.
    async fn requests(self, held: Vec<u8>, head: Box<crate::http1::head::RequestHead>, target: ProxyTarget) {
        let Self {
            context,
            client,
            server,
            ..
        } = self;
        let mut pool = Pool::default();
        pool.put(server);
        let mut session = Session {
            context,
            client,
            inlet: Inlet::new(held),
            via: Via::Tunnel(target),
            pool,
            ledger: Ledger::new(context),
            early: None,
        };
        let over = tokio::select! {
            over = session.run(Some(head)) => over,
            () = context.traffic().silence(context.proxy.config.timeouts.idle) => return,
        };
        match over {
            // CONNECT within a tunnel is refused.
            Over::Done | Over::Tunnel(..) => {}
            Over::Opaque(server, event) => {
                let inlet = std::mem::take(&mut session.inlet);
                Pair {
                    context,
                    client,
                    inlet,
                    server: *server,
                }
                .relay(&event, &mut ())
                .await;
            }
        }
    }

    /// Waits for the first bytes of either side. What the client says counts whenever it comes; a server
    /// that speaks before makes the inside opaque.
    async fn first_bytes(&mut self) -> Inside {
        let mut detector = Detector::new();
        let mut share = self.context.share();
        let (mut prefix, mut deadline) = (Prefix::Nothing, None);
        loop {
            let held = self.inlet.take_all();
            if !held.is_empty() {
                deadline.get_or_insert_with(|| Instant::now() + self.context.proxy.config.timeouts.detect);
                if !share.grow_to(2 * (detector.bytes().len() + held.len())) {
                    return Inside::undecided(prefix, detector);
                }
                let step = detector.push(&held);
                let Step::NeedMore(begun) = step else {
                    return Inside::said(step, detector);
                };
                prefix = begun;
            }
            let spoken = prefix == Prefix::Nothing;
            if spoken && !self.server.inlet.held().is_empty() {
                return Inside::known(Detection::Opaque(OpaqueReason::ServerFirst), detector);
            }
            if self.inlet.ended() {
                return Inside::known(at_end(detector.bytes(), prefix), detector);
            }
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                read = self.inlet.fill(self.client) => {
                    if read.is_err() {
                        return Inside::known(at_end(detector.bytes(), prefix), detector);
                    }
                }
                said = self.server.inlet.fill(&self.server.upstream.leg), if spoken => {
                    if !matches!(said, Ok(1..)) {
                        return Inside::known(Detection::Opaque(OpaqueReason::ServerFirst), detector);
                    }
                }
                () = late => return Inside::undecided(prefix, detector),
            }
        }
    }
}

impl Inside {
    fn said(step: Step, detector: Detector) -> Self {
        let h2c = Detection::Malformed {
            prefix: Prefix::Http,
            what: "HTTP/2 in a forward proxy's tunnel",
        };
        let detection = step.detection().unwrap_or(h2c);
        Self {
            detection,
            step: Some(step),
            bytes: detector.into_bytes(),
        }
    }

    fn known(detection: Detection, detector: Detector) -> Self {
        Self {
            detection,
            step: None,
            bytes: detector.into_bytes(),
        }
    }

    fn undecided(prefix: Prefix, detector: Detector) -> Self {
        Self::known(Detection::Undecided { prefix }, detector)
    }

    /// What a client whose tunnel is refused is told, in the words of what it speaks inside.
    fn words(&self, told: &Explanation) -> Vec<u8> {
        match (&self.step, &self.detection) {
            (Some(Step::Http(head)), _) => told.page(
                403,
                PageFormat::by_accept(head.values("accept")),
                head.method() == b"HEAD",
            ),
            (Some(Step::BadRequest(error)), _) => told.page(error.status, PageFormat::Plain, false),
            (
                _,
                Detection::Tls(_)
                | Detection::Malformed {
                    prefix: Prefix::Tls, ..
                },
            ) => told.alert(&self.bytes).to_vec(),
            _ => Vec::new(),
        }
    }
}
