//! A flow in block mode: nothing passes before the verdict. Owns the carrying out of verdicts on first
//! bytes, explanations included; never decides. Driven by [`super::serve`] and, for cleartext HTTP that is
//! judged as a whole, by `http`.

use tidegate_policy::detection::{Detection, Ech, Hello, HttpHost, OpaqueReason, Prefix};
use tidegate_policy::judge::flow::Route;
use tidegate_policy::verdict::{Judgement, Mode, Reason, Refusal};

use super::first::{self, SERVER_FIRST, What};
use super::observe::Observer;
use super::passing::{Hellos, Passing, SecondHello};
use super::tls::TlsWatch;
use crate::budget::Share;
use crate::context::{FlowContext, Judged, Remarks};
use crate::detect::tls::ClientHello;
use crate::detect::{Detector, Step};
use crate::dial::{DialError, Greeting};
use crate::explain::{Explanation, PageFormat};
use crate::http::{self, Cleartext};
use crate::leg::Leg;
use crate::record::OpenRecord;
use crate::relay::way::Broken;
use crate::relay::{Direction, End, Inspect, Look, Relay};
use crate::route::{Early, Reached, Unreached};

/// Octets of a hello up to the end of its version: what an alert needs to answer in kind.
pub(super) const VERSION_SEEN: usize = 11;

/// What the first bytes of a flow said.
pub(crate) struct Finding {
    /// In the words of the verdict.
    pub(crate) detection: Detection,
    /// In the detector's, where bytes said it.
    pub(crate) step: Option<Step>,
    /// Every byte of the client so far.
    pub(crate) detector: Detector,
    /// What they hold of the budget.
    pub(crate) share: Share,
}

impl Finding {
    fn hello(&self) -> Option<&ClientHello> {
        match &self.step {
            Some(Step::Tls(hello)) => Some(hello),
            Some(
                Step::NeedMore(_)
                | Step::Http(_)
                | Step::H2c
                | Step::Opaque
                | Step::Malformed { .. }
                | Step::BadRequest(_)
                | Step::TooLarge(_),
            )
            | None => None,
        }
    }

    pub(super) fn remarks(&self, context: &FlowContext) -> Remarks {
        let mut remarks = Remarks::of(&self.detection, context.flow.transport);
        remarks.ja4 = self.hello().map(|hello| hello.ja4().into());
        if let Detection::Http(authority) = &self.detection
            && let Some(port) = authority.port.filter(|port| *port != context.flow.port)
        {
            remarks = remarks.noting(match authority.host {
                HttpHost::Name(_) | HttpHost::Address(_) => format!("Host names port {port}"),
                HttpHost::Absent => format!("the request names port {port}"),
            });
        }
        remarks
    }

    /// What the client is told of a refusal; nothing where its protocol has no words for it.
    fn words(&self, explanation: &Explanation) -> Option<Vec<u8>> {
        let page = |status, format, head| Some(explanation.page(status, format, head));
        match (&self.step, &self.detection) {
            (Some(Step::Http(head)), _) => page(
                403,
                PageFormat::by_accept(head.values("accept")),
                head.method() == b"HEAD",
            ),
            (Some(Step::BadRequest(error)), _) => page(error.status, PageFormat::Plain, false),
            (
                _,
                Detection::Tls(_)
                | Detection::Malformed {
                    prefix: Prefix::Tls, ..
                }
                | Detection::Undecided { prefix: Prefix::Tls },
            ) => Some(explanation.alert(self.detector.bytes()).to_vec()),
            (
                _,
                Detection::Http(_)
                | Detection::Malformed {
                    prefix: Prefix::Http, ..
                }
                | Detection::Undecided { prefix: Prefix::Http },
            ) => page(403, PageFormat::Plain, false),
            (
                _,
                Detection::Quic(_)
                | Detection::Opaque(_)
                | Detection::Malformed {
                    prefix: Prefix::Nothing | Prefix::Quic,
                    ..
                }
                | Detection::Undecided {
                    prefix: Prefix::Nothing | Prefix::Quic,
                },
            ) => None,
        }
    }
}

/// Serves a flow of which nothing may pass before its verdict.
pub(super) async fn run(context: &FlowContext, client: &Leg) {
    // What finding out takes is given back before the long part begins.
    let passing = Box::pin(open(context, client)).await;
    if let Some(passing) = passing {
        passing.run(context, client).await;
    }
}

/// Serves it up to its verdict; what is left to be relayed is returned.
async fn open(context: &FlowContext, client: &Leg) -> Option<Box<Passing>> {
    let opening = first::wait(context, client).await;
    let remarks = || Remarks::of(&SERVER_FIRST, context.flow.transport);
    let (detector, early, share) = (opening.detector, opening.early, opening.share);
    let (detection, step) = match opening.what {
        What::Said(first @ (Step::Http(_) | Step::H2c)) if context.mode() == Mode::Block => {
            let cleartext = Cleartext {
                first,
                detector,
                share,
                early,
            };
            Box::pin(http::serve(context, client, cleartext)).await;
            return None;
        }
        What::Said(step) => {
            // Only the HTTP/2 preface says nothing by itself; here nobody is to read what follows it.
            let unread = Detection::Opaque(OpaqueReason::UnknownProtocol);
            (step.detection().unwrap_or(unread), Some(step))
        }
        What::Known(detection) => (detection, None),
        What::Unanswered(judged, error) => {
            unanswered(context, &judged, remarks(), &error);
            return None;
        }
        What::NoMemory => {
            let judged = context
                .judge(&SERVER_FIRST)
                .refused(Refusal::because(Reason::Limit));
            context.refuse(&judged.ruling, remarks());
            return None;
        }
    };
    let finding = Finding {
        detection,
        step,
        detector,
        share,
    };
    carry_out(context, client, finding, early).await
}

/// Judges a finding and carries the verdict out, up to what is left to be relayed.
async fn carry_out(
    context: &FlowContext,
    client: &Leg,
    finding: Finding,
    early: Option<Early>,
) -> Option<Box<Passing>> {
    let learned = match &finding.detection {
        Detection::Tls(
            hello @ Hello {
                ech: Ech::Outer { .. },
                ..
            },
        ) => Box::pin(context.learn_ech(hello)).await,
        Detection::Tls(_)
        | Detection::Quic(_)
        | Detection::Http(_)
        | Detection::Opaque(_)
        | Detection::Malformed { .. }
        | Detection::Undecided { .. } => Ok(()),
    };
    let mut judged = context.judge(&finding.detection);
    if let Err(refusal) = learned
        && context.mode() == Mode::Block
    {
        judged = judged.refused(refusal);
    }
    let remarks = finding.remarks(context);
    let took = context.proxy.clock.now().since(context.opened);
    context.proxy.metrics.detected(remarks.kind, took);
    let greeting = if finding.detector.bytes().is_empty() {
        Greeting::None
    } else {
        Greeting::Held
    };
    match context.reach(judged, early, greeting).await {
        Ok(reached) => {
            let passage = Passage {
                context,
                client,
                reached,
                remarks,
            };
            passage.begin(finding).await
        }
        Err(Unreached::Refused(judged)) => {
            let explanation = context.refuse(&judged.ruling, remarks);
            Box::pin(say(context, client, finding.words(&explanation))).await;
            None
        }
        Err(Unreached::Failed(judged, error)) => {
            unanswered(context, &judged, remarks, &error);
            None
        }
    }
}

/// A permitted flow that nobody answered: its verdict is a permit, and its client is reset.
pub(super) fn unanswered(context: &FlowContext, judged: &Judged, mut remarks: Remarks, error: &DialError) {
    remarks.dialled = Some(error.address);
    let note = format!("dial failed: {}", error.cause.as_str());
    drop(context.permit(&judged.ruling, remarks.noting(note)));
}

pub(super) async fn say(context: &FlowContext, client: &Leg, words: Option<Vec<u8>>) {
    if let Some(words) = words {
        client
            .farewell(&words, context.proxy.config.timeouts.farewell)
            .await;
    }
}

/// A permitted flow with its connection.
struct Passage<'a> {
    context: &'a FlowContext,
    client: &'a Leg,
    reached: Reached,
    remarks: Remarks,
}

impl Passage<'_> {
    /// Admits the flow; what is left to be relayed is returned.
    async fn begin(mut self, mut finding: Finding) -> Option<Box<Passing>> {
        let Reached {
            upstream,
            judged,
            proven,
        } = &self.reached;
        self.remarks.dialled = Some(upstream.address);
        self.context
            .admit(judged, &finding.detection, upstream.address, proven.clone());
        self.context.stands().await;
        if judged.book.mode() == Mode::Audit && matches!(finding.step, Some(Step::Http(_) | Step::H2c)) {
            Box::pin(self.look_on(finding)).await;
            return None;
        }
        let ja4 = self.remarks.ja4.take();
        let remarks = Remarks {
            ja4,
            ..self.remarks.clone()
        };
        let record = self.context.permit(&judged.ruling, remarks);
        if let Some(hello) = finding.hello() {
            let watch = TlsWatch::new(hello, judged.book.mode() == Mode::Block);
            let hello = hello.consumed;
            let (context, client) = (self.context, self.client);
            let detector = std::mem::take(&mut finding.detector);
            let mut passing = Box::new(self.begin_tls(detector, hello, watch, record));
            if passing.look_behind() == Look::Stop {
                finish(&End::Stopped, client, &passing.upstream.leg, &mut passing.record);
                Box::pin(passing.stopped(context, client)).await;
                return None;
            }
            return Some(passing);
        }
        // Whether these bytes are whole nobody can see in them.
        self.client.guard();
        upstream.leg.guard();
        if matches!(finding.detection, Detection::Undecided { .. }) {
            // Permitted at this address whatever it says, unless that is refused for everyone: what comes
            // late is judged.
            Box::pin(self.go_on(finding, record)).await;
            return None;
        }
        Some(Box::new(Passing {
            upstream: self.reached.upstream,
            hello: 0,
            first: finding.detector.into_bytes(),
            record,
            hellos: Hellos(None),
        }))
    }

    /// The same with an eye on what the client will say.
    async fn go_on(self, finding: Finding, record: OpenRecord) {
        let upstream = &self.reached.upstream;
        let mut observer = Observer::late(self.context, upstream.address, finding, record);
        let first = observer.said().to_vec();
        let relay = relaying(self.context, self.client, &upstream.leg);
        let end = relay.run(first, &mut observer).await;
        observer.finish(end, self.client, &upstream.leg).await;
    }

    /// The same with an eye on every request, for audit: the first one says nothing of those behind it.
    async fn look_on(self, finding: Finding) {
        let upstream = &self.reached.upstream;
        self.client.guard();
        upstream.leg.guard();
        let mut observer = Observer::new(self.context, upstream.address);
        let (said, mut first) = (finding.detector.into_bytes(), Vec::new());
        drop(finding.share);
        let end = if observer.look(Direction::Up, &said, &mut first) == Look::Stop {
            End::Stopped
        } else {
            relaying(self.context, self.client, &upstream.leg)
                .run(first, &mut observer)
                .await
        };
        observer.finish(end, self.client, &upstream.leg).await;
    }

    /// The same with an eye on a second hello behind the first, which takes `hello` octets.
    fn begin_tls(self, detector: Detector, hello: usize, watch: TlsWatch, record: OpenRecord) -> Passing {
        let Reached { upstream, judged, .. } = self.reached;
        let first = detector.into_bytes();
        let mut version = [0; VERSION_SEEN];
        let seen = first.len().min(VERSION_SEEN);
        version[..seen].copy_from_slice(&first[..seen]);
        let second = SecondHello {
            watch,
            judged,
            remarks: self.remarks,
            version,
        };
        Passing {
            upstream,
            first,
            hello,
            record,
            hellos: Hellos(Some(Box::new(second))),
        }
    }
}

/// A relay with what every flow of this proxy shares.
pub(super) fn relaying<'a>(context: &'a FlowContext, client: &'a Leg, upstream: &'a Leg) -> Relay<'a> {
    Relay {
        client,
        upstream,
        means: &context.proxy.means,
        traffic: context.traffic(),
        idle: context.proxy.config.timeouts.idle,
    }
}

/// Writes the end of a relay into its event, and lets orderly ends be orderly.
pub(super) fn finish(end: &End, client: &Leg, upstream: &Leg, record: &mut OpenRecord) {
    if let Some(note) = orderly(end, client, upstream) {
        record.note(note);
    }
}

/// Lets an orderly end be orderly; any other is to be noted.
pub(super) fn orderly(end: &End, client: &Leg, upstream: &Leg) -> Option<&'static str> {
    match end {
        End::Finished => {
            client.orderly();
            upstream.orderly();
            None
        }
        End::Idle => Some("closed after the idle timeout"),
        End::Broken(Broken::Source(_) | Broken::Sink(_)) => Some("reset"),
        End::Stopped => None,
    }
}

/// A finding that a policy refuses while its flow is open already: explained in the client's protocol.
pub(super) async fn refuse_late(context: &FlowContext, client: &Leg, finding: &Finding, judged: Judged) {
    debug_assert!(
        matches!(judged.ruling.route, Route::Closed),
        "only refusals are explained"
    );
    debug_assert!(
        matches!(judged.ruling.judgement, Judgement::Refuse(_)),
        "only refusals are explained"
    );
    let explanation = context.refuse(&judged.ruling, finding.remarks(context));
    say(context, client, finding.words(&explanation)).await;
}
