//! A flow in audit mode: dialled at once, relayed untouched to the address that the client chose, and looked
//! at in passing. Owns the finding out of what audit records; never delays, holds back or changes a byte,
//! unless what it finds is refused in audit too (the global block list). Driven by [`super::serve`].
//!
//! The same [`Observer`] looks on in block mode where a flow was let through before its bytes said what
//! it is: there it holds a late finding to the policy.

use tidegate_policy::detection::{Authority, Detection, HttpHost, Prefix};
use tidegate_policy::judge::flow::{FlowRuling, Route};
use tidegate_policy::verdict::{Judgement, Mode, Reason, Refusal};

use super::enforce::{self, Finding, finish, refuse_late, relaying};
use super::first::{SERVER_FIRST, at_end};
use super::tls::TlsWatch;
use crate::address::UpstreamAddr;
use crate::budget::Share;
use crate::context::{FlowContext, Judged, Remarks};
use crate::detect::{Detector, Step};
use crate::dial::Greeting;
use crate::early::dial;
use crate::http::Onlooker;
use crate::leg::Leg;
use crate::record::OpenRecord;
use crate::relay::{Direction, End, Inspect, Look};
use crate::route::own_permit;

/// Serves a flow whose policy audits.
pub(super) async fn run(context: &FlowContext, client: &Leg) {
    client.acknowledge();
    let judged = context.judge(&SERVER_FIRST);
    let Some(permit) = own_permit(&judged.ruling.route).cloned() else {
        // What the job last asked for at this address is refused for everyone; another name there may
        // not be. The bytes say which, before any of them passes.
        return Box::pin(enforce::run(context, client)).await;
    };
    let upstream = match dial(context, permit, Greeting::None).await {
        Ok(upstream) => upstream,
        Err(error) => {
            let remarks = Remarks::of(&SERVER_FIRST, context.flow.transport);
            return enforce::unanswered(context, &judged, remarks, &error);
        }
    };
    // Before it says what it is, too, it lives only as long as some policy lets it.
    let proven = context.ticketed(&judged.ruling);
    context.admit(&judged, &SERVER_FIRST, upstream.address, proven);
    context.stands().await;
    client.guard();
    upstream.leg.guard();
    let mut observer = Observer::new(context, upstream.address);
    let end = relaying(context, client, &upstream.leg)
        .run(Vec::new(), &mut observer)
        .await;
    observer.finish(end, client, &upstream.leg).await;
}

/// Looks at a flow that is let through already.
pub(super) struct Observer<'a> {
    context: &'a FlowContext,
    dialled: UpstreamAddr,
    detector: Detector,
    share: Share,
    prefix: Prefix,
    sight: Sight<'a>,
    record: Option<OpenRecord>,
}

/// How far an observer sees.
enum Sight<'a> {
    /// The bytes don't say yet what the flow is.
    Looking,
    /// They do, and it is TLS: up to its final hello.
    Tls(TlsWatch, Judged),
    /// They do, and it is HTTP: each request has its own verdict and event.
    Http(Box<Onlooker<'a>>),
    /// They do, and some exact name may yet prove to have the address.
    Unconfirmed(Judged, Remarks),
    /// They do, and it is refused.
    Refused(Box<Finding>, Judged),
    /// They do.
    Done,
}

impl<'a> Observer<'a> {
    /// Begins with the client's first byte.
    pub(super) fn new(context: &'a FlowContext, dialled: UpstreamAddr) -> Self {
        Self {
            context,
            dialled,
            detector: Detector::new(),
            share: context.share(),
            prefix: Prefix::Nothing,
            sight: Sight::Looking,
            record: None,
        }
    }

    /// Goes on where waiting ended without a finding.
    pub(super) fn late(
        context: &'a FlowContext,
        dialled: UpstreamAddr,
        waited: Finding,
        record: OpenRecord,
    ) -> Self {
        let Finding {
            detection,
            detector,
            share,
            ..
        } = waited;
        let mut observer = Self::new(context, dialled);
        observer.prefix = match detection {
            Detection::Undecided { prefix } => prefix,
            Detection::Tls(_)
            | Detection::Quic(_)
            | Detection::Http(_)
            | Detection::Opaque(_)
            | Detection::Malformed { .. } => Prefix::Nothing,
        };
        (observer.detector, observer.share, observer.record) = (detector, share, Some(record));
        observer
    }

    /// What the client said so far.
    pub(super) fn said(&self) -> &[u8] {
        self.detector.bytes()
    }

    fn client_says(&mut self, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        if !self
            .share
            .grow_to(2 * (self.detector.bytes().len() + bytes.len()))
        {
            return self.found(Detection::Undecided { prefix: self.prefix }, None, pass);
        }
        let step = self.detector.push(bytes);
        if let Step::NeedMore(prefix) = step {
            self.prefix = prefix;
            return Look::More;
        }
        // The preface alone names nobody; its requests do.
        let h2c = || {
            Detection::Http(Authority {
                host: HttpHost::Absent,
                port: None,
            })
        };
        self.found(step.detection().unwrap_or_else(h2c), Some(step), pass)
    }

    /// Judges a finding; the flow goes on unless it is refused. `pass` ends with the bytes that led to it.
    fn found(&mut self, detection: Detection, step: Option<Step>, pass: &mut Vec<u8>) -> Look {
        let share = self.context.share();
        let finding = Finding {
            detection,
            step,
            detector: std::mem::take(&mut self.detector),
            share: std::mem::replace(&mut self.share, share),
        };
        let judged = self.context.judge(&finding.detection);
        let mut remarks = finding.remarks(self.context);
        remarks.dialled = Some(self.dialled);
        if own_permit(&judged.ruling.route).is_none() {
            self.sight = Sight::Refused(Box::new(finding), judged);
            return Look::Stop;
        }
        let took = self.context.proxy.clock.now().since(self.context.opened);
        self.context.proxy.metrics.detected(remarks.kind, took);
        let proven = self.context.ticketed(&judged.ruling);
        self.context
            .admit(&judged, &finding.detection, self.dialled, proven);
        if matches!(judged.ruling.route, Route::Confirm { .. }) {
            self.sight = Sight::Unconfirmed(judged, remarks);
            return Look::Enough;
        }
        let onlooker = match &finding.step {
            Some(Step::Http(_)) => Some(Onlooker::new(self.context, self.dialled)),
            Some(Step::H2c) => Some(Onlooker::of_http2(self.context, self.dialled)),
            Some(
                Step::NeedMore(_)
                | Step::Tls(_)
                | Step::Opaque
                | Step::Malformed { .. }
                | Step::BadRequest(_)
                | Step::TooLarge(_),
            )
            | None => None,
        };
        if let Some(mut onlooker) = onlooker {
            let look = onlooker.client_says(finding.detector.bytes());
            self.sight = Sight::Http(Box::new(onlooker));
            return look;
        }
        // A record made before the finding says less than this one.
        self.record = Some(self.context.permit(&judged.ruling, remarks));
        let Some(Step::Tls(hello)) = &finding.step else {
            self.sight = Sight::Done;
            return Look::Enough;
        };
        let mut watch = TlsWatch::new(hello, judged.book.mode() == Mode::Block);
        let behind = finding.detector.bytes().get(hello.consumed..).unwrap_or_default();
        pass.truncate(pass.len().saturating_sub(behind.len()));
        let look = watch.look(Direction::Up, behind, pass);
        self.sight = Sight::Tls(watch, judged);
        look
    }

    /// After the relay: the last finding, confirmation, and explanation where the flow was stopped.
    pub(super) async fn finish(mut self, end: End, client: &Leg, upstream: &Leg) {
        if matches!(self.sight, Sight::Looking) {
            let detection = at_end(self.detector.bytes(), self.prefix);
            self.found(detection, None, &mut Vec::new());
        }
        match std::mem::replace(&mut self.sight, Sight::Done) {
            Sight::Looking | Sight::Done => {}
            Sight::Refused(finding, judged) => {
                drop(self.record.take());
                return refuse_late(self.context, client, &finding, judged).await;
            }
            Sight::Unconfirmed(judged, remarks) => {
                if matches!(end, End::Finished) {
                    // Not to wait for what only the event will say.
                    client.end_writes();
                    upstream.end_writes();
                }
                let ruling = self.confirmed(judged).await;
                self.record = Some(self.context.permit(&ruling, remarks));
            }
            Sight::Tls(watch, judged) => self.second_hello(watch.differs(), judged),
            Sight::Http(mut onlooker) => {
                if let Some(note) = enforce::orderly(&end, client, upstream) {
                    onlooker.note(note);
                }
            }
        }
        if let Some(record) = &mut self.record {
            finish(&end, client, upstream, record);
        }
    }

    async fn confirmed(&self, judged: Judged) -> FlowRuling {
        let Route::Confirm { permit, otherwise } = &judged.ruling.route else {
            return judged.ruling;
        };
        match self.context.confirm(permit).await {
            Some((_, name)) => judged.clone().confirmed(permit, &name).ruling,
            None => (**otherwise).clone(),
        }
    }

    /// A second hello for another host: in audit only said.
    fn second_hello(&self, differs: Option<&'static str>, judged: Judged) {
        let Some(what) = differs else { return };
        let mode = judged.book.mode();
        let mut judged = judged.refused(Refusal::because(Reason::SecondHello));
        if mode == Mode::Audit {
            judged.ruling.judgement = Judgement::WouldRefuse(Refusal::because(Reason::SecondHello));
        }
        let remarks = Remarks::kind(tidegate_policy::event::Kind::Tls).noting(what);
        self.context.refuse(&judged.ruling, remarks);
    }
}

impl Inspect for Observer<'_> {
    fn look(&mut self, direction: Direction, bytes: &[u8], pass: &mut Vec<u8>) -> Look {
        if let Sight::Tls(watch, _) = &mut self.sight {
            return watch.look(direction, bytes, pass);
        }
        pass.extend_from_slice(bytes);
        if let Sight::Http(onlooker) = &mut self.sight {
            return match direction {
                Direction::Up => onlooker.client_says(bytes),
                Direction::Down => onlooker.server_says(bytes),
            };
        }
        match (&self.sight, direction) {
            (Sight::Looking, Direction::Up) => self.client_says(bytes, pass),
            // A server that speaks before its client has said anything makes the flow opaque.
            (Sight::Looking, Direction::Down) if self.prefix == Prefix::Nothing => {
                self.found(SERVER_FIRST, None, pass)
            }
            (Sight::Looking, Direction::Down) => Look::More,
            (
                Sight::Tls(..) | Sight::Http(_) | Sight::Unconfirmed(..) | Sight::Refused(..) | Sight::Done,
                _,
            ) => Look::Enough,
        }
    }

    fn ended(&mut self, direction: Direction) -> Look {
        if direction == Direction::Up && matches!(self.sight, Sight::Looking) {
            let detection = at_end(self.detector.bytes(), self.prefix);
            return self.found(detection, None, &mut Vec::new());
        }
        Look::More
    }

    fn release(&mut self, direction: Direction) -> Vec<u8> {
        match &mut self.sight {
            Sight::Tls(watch, _) => watch.release(direction),
            Sight::Looking | Sight::Http(_) | Sight::Unconfirmed(..) | Sight::Refused(..) | Sight::Done => {
                Vec::new()
            }
        }
    }
}

/// A flow whose end nobody saw (its task was dropped) is recorded by what was known.
impl Drop for Observer<'_> {
    fn drop(&mut self) {
        let (ruling, remarks) = match std::mem::replace(&mut self.sight, Sight::Done) {
            Sight::Unconfirmed(judged, remarks) => match judged.ruling.route {
                Route::Confirm { otherwise, .. } => (*otherwise, remarks),
                Route::Dial(_) | Route::Closed | Route::Resolve(_) => return,
            },
            Sight::Looking if self.record.is_none() => {
                let detection = Detection::Undecided { prefix: self.prefix };
                let remarks = Remarks::of(&detection, self.context.flow.transport);
                (self.context.judge(&detection).ruling, remarks)
            }
            Sight::Looking | Sight::Tls(..) | Sight::Http(_) | Sight::Refused(..) | Sight::Done => return,
        };
        drop(self.context.permit(&ruling, remarks));
    }
}
