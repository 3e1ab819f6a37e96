//! One flow while it is worked for: who asks, for what, and the record of its verdicts. Owns the flow's
//! place in the registry and the writing of its events; never touches a socket. Used by `flow`, `http` and
//! `udp`.

use std::sync::Arc;

use compact_str::CompactString;
use tidegate_policy::detection::{Detection, Ech, Hello, Prefix};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::{EventId, Kind, NameSource, NetworkEvent};
use tidegate_policy::judge::flow::{
    Evidence, Flow, FlowRuling, ProxyTarget, Route, judge_arrival, judge_flow,
};
use tidegate_policy::rulebook::Rulebook;
use tidegate_policy::subject::{Standing, Subject};
use tidegate_policy::verdict::{Judgement, Mode, Refusal};
use tidegate_policy::{DnsName, Moment};

use crate::Proxy;
use crate::address::{ClientAddr, OriginalDst, UpstreamAddr};
use crate::budget::Share;
use crate::explain::Explanation;
use crate::record::OpenRecord;
use crate::registry::{Admission, Closing, FlowHandle};
use crate::relay::Traffic;

/// One flow in work.
pub(crate) struct FlowContext {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) client: ClientAddr,
    pub(crate) original: OriginalDst,
    /// As the client chose it.
    pub(crate) flow: Flow,
    pub(crate) opened: Moment,
    handle: FlowHandle,
}

/// A ruling with the rulebook that gave it.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) ruling: FlowRuling,
    pub(crate) book: Arc<Rulebook>,
}

/// What an event says besides the judgement.
#[derive(Clone, Debug)]
pub(crate) struct Remarks {
    pub(crate) kind: Kind,
    /// The address that was dialled, where it isn't the client's choice.
    pub(crate) dialled: Option<UpstreamAddr>,
    pub(crate) ech_present: bool,
    pub(crate) ja4: Option<CompactString>,
    pub(crate) note: Option<String>,
    /// How many verdicts the event stands for.
    pub(crate) count: u64,
}

impl Remarks {
    /// About a flow of this kind, and nothing more.
    pub(crate) fn kind(kind: Kind) -> Self {
        Self {
            kind,
            dialled: None,
            ech_present: false,
            ja4: None,
            note: None,
            count: 1,
        }
    }

    /// What a detection says by itself.
    pub(crate) fn of(detection: &Detection, transport: Transport) -> Self {
        let mut remarks = Self::kind(kind_of(detection, transport));
        match detection {
            Detection::Tls(Hello { ech, .. }) | Detection::Quic(Hello { ech, .. }) => {
                remarks.ech_present = *ech != Ech::Absent;
            }
            Detection::Malformed { what, .. } => remarks.note = Some(format!("malformed: {what}")),
            Detection::Http(_) | Detection::Opaque(_) | Detection::Undecided { .. } => {}
        }
        remarks
    }

    /// Adds a note behind the one there is.
    pub(crate) fn noting(mut self, note: impl Into<String>) -> Self {
        let note = note.into();
        self.note = Some(
            self.note
                .map_or(note.clone(), |before| format!("{before}; {note}")),
        );
        self
    }
}

/// The kind of flow that a detection makes of it.
pub(crate) fn kind_of(detection: &Detection, transport: Transport) -> Kind {
    let prefix = match detection {
        Detection::Tls(_) => Prefix::Tls,
        Detection::Http(_) => Prefix::Http,
        Detection::Quic(_) => Prefix::Quic,
        Detection::Opaque(_) => Prefix::Nothing,
        Detection::Malformed { prefix, .. } | Detection::Undecided { prefix } => *prefix,
    };
    match (prefix, transport) {
        (Prefix::Tls, _) => Kind::Tls,
        (Prefix::Http, _) => Kind::Http,
        (Prefix::Quic, _) => Kind::Quic,
        (Prefix::Nothing, Transport::Tcp) => Kind::Tcp,
        (Prefix::Nothing, Transport::Udp | Transport::Quic) => Kind::Udp,
    }
}

/// The kind of a flow of which nothing is known.
const fn bare_kind(transport: Transport) -> Kind {
    match transport {
        Transport::Tcp => Kind::Tcp,
        Transport::Udp | Transport::Quic => Kind::Udp,
    }
}

impl FlowContext {
    /// Enters a flow. What is refused whatever it will say (its address, or a bound) is refused here, with
    /// its event.
    pub(crate) fn enter(
        proxy: &Arc<Proxy>,
        client: ClientAddr,
        original: OriginalDst,
        transport: Transport,
    ) -> Result<Self, Refusal> {
        let now = proxy.clock.now();
        let subject = proxy.subjects.subject(client.ip(), now);
        if subject.standing == Standing::Unleased {
            proxy.metrics.unidentified.increment(1);
        }
        let flow = Flow {
            transport,
            address: original.ip(),
            port: original.port(),
        };
        let entered = judge_arrival(&subject.rulebook(), flow)
            .and_then(|()| proxy.registry.enter(Arc::clone(&subject), client));
        match entered {
            Ok(handle) => Ok(Self {
                proxy: Arc::clone(proxy),
                client,
                original,
                flow,
                opened: now,
                handle,
            }),
            Err(refusal) => {
                let about = About {
                    proxy,
                    subject: &subject,
                    client,
                    original,
                };
                about.refuse(Remarks::kind(bare_kind(transport)), refusal.clone());
                Err(refusal)
            }
        }
    }

    /// A further place in the registry, for a part of the flow that is re-judged and ended by itself.
    pub(crate) fn beside(&self) -> Result<Self, Refusal> {
        let handle = self.proxy.registry.enter(self.subject(), self.client)?;
        let proxy = Arc::clone(&self.proxy);
        let Self {
            client,
            original,
            flow,
            opened,
            ..
        } = *self;
        Ok(Self {
            proxy,
            client,
            original,
            flow,
            opened,
            handle,
        })
    }

    /// Mode of the policy at this moment.
    pub(crate) fn mode(&self) -> Mode {
        self.handle.subject().rulebook().mode()
    }

    /// The party that asks, at this moment.
    pub(crate) fn subject(&self) -> Arc<Subject> {
        self.handle.subject()
    }

    /// What passed so far.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        self.handle.traffic()
    }

    /// Judges the flow by a finding, with the policy and the tickets of this moment.
    pub(crate) fn judge(&self, detection: &Detection) -> Judged {
        self.judge_by(|book, flow, evidence| judge_flow(book, flow, detection, evidence))
    }

    /// The same by another row of the policy.
    pub(crate) fn judge_by(&self, judge: impl FnOnce(&Rulebook, Flow, Evidence<'_>) -> FlowRuling) -> Judged {
        let subject = self.handle.subject();
        let book = subject.rulebook();
        let evidence = Evidence {
            tickets: subject.tickets(),
            proven: None,
            now: self.proxy.clock.now(),
        };
        let ruling = judge(&book, self.flow, evidence);
        Judged { ruling, book }
    }

    /// The judged name, when this job holds a ticket for it at the flow's own address: what was permitted
    /// by an address endpoint alone is not proven thereby.
    pub(crate) fn ticketed(&self, ruling: &FlowRuling) -> Option<DnsName> {
        let subject = self.handle.subject();
        let now = self.proxy.clock.now();
        ruling
            .name
            .clone()
            .filter(|name| subject.tickets().holds(name, self.flow.address, now))
    }

    /// Makes the flow one that is re-judged by `detection` for as long as it lives.
    pub(crate) fn admit(
        &self,
        judged: &Judged,
        detection: &Detection,
        dialled: UpstreamAddr,
        proven: Option<DnsName>,
    ) {
        let flow = Flow {
            address: dialled.ip(),
            ..self.flow
        };
        self.handle.admit(
            Admission {
                flow,
                detection: detection.clone(),
                target: None,
                proven,
            },
            &judged.book,
        );
    }

    /// The same for what is asked of the forward proxy at the dialled address, or of `target` through it.
    pub(crate) fn admit_proxied(
        &self,
        judged: &Judged,
        detection: &Detection,
        target: &ProxyTarget,
        dialled: UpstreamAddr,
    ) {
        let flow = Flow {
            address: dialled.ip(),
            ..self.flow
        };
        let target = Some(target.clone());
        self.handle.admit(
            Admission {
                flow,
                detection: detection.clone(),
                target,
                proven: None,
            },
            &judged.book,
        );
    }

    /// Nothing is asked over the flow for now: it is not re-judged until it is admitted again.
    pub(crate) fn rest(&self) {
        self.handle.rest();
    }

    /// Emits the event of a refusal and returns its explanation.
    pub(crate) fn refuse(&self, ruling: &FlowRuling, remarks: Remarks) -> Explanation {
        let subject = self.handle.subject();
        self.about(&subject).refused(ruling, remarks)
    }

    /// Begins the event of a permit (or of a refusal that audit mode lets through); it is emitted when the
    /// returned record is dropped.
    pub(crate) fn permit(&self, ruling: &FlowRuling, remarks: Remarks) -> OpenRecord {
        let traffic = Arc::clone(self.handle.traffic());
        self.record(ruling, remarks, traffic, self.opened)
    }

    /// The same for a part of the flow that begins now and counts its bytes in `traffic`.
    pub(crate) fn permit_apart(
        &self,
        ruling: &FlowRuling,
        remarks: Remarks,
        traffic: Arc<Traffic>,
    ) -> OpenRecord {
        self.record(ruling, remarks, traffic, self.proxy.clock.now())
    }

    fn record(
        &self,
        ruling: &FlowRuling,
        remarks: Remarks,
        traffic: Arc<Traffic>,
        opened: Moment,
    ) -> OpenRecord {
        let subject = self.handle.subject();
        self.proxy.metrics.verdict(remarks.kind, &ruling.judgement);
        let event = self.about(&subject).event(ruling, remarks);
        OpenRecord::begin(event, Arc::clone(&self.proxy), traffic, opened)
    }

    /// Returns at once while the flow stands, and never when admitting it has ended it: its task is to notice
    /// that before it sends a byte. What a dial waited for takes long enough for a policy to change.
    pub(crate) async fn stands(&self) {
        if !self.is_standing() {
            std::future::pending::<()>().await;
        }
    }

    /// A share of the memory for detection, counted as the subject's.
    pub(crate) fn share(&self) -> Share {
        self.proxy.budget.share(self.handle.subject().id)
    }

    /// False when admitting the flow, or a change since, has ended it.
    pub(crate) fn is_standing(&self) -> bool {
        !self.handle.is_closing()
    }

    /// Returns when the registry ends the flow.
    pub(crate) async fn closed(&self) -> Closing {
        self.handle.closed().await
    }

    /// Emits the event of a flow that was ended by a change of policy or lease.
    pub(crate) fn terminated(&self, closing: Closing) {
        match closing {
            Closing::Drained => {}
            Closing::Refused {
                reason,
                ruling,
                admission,
            } => {
                let because = ruling
                    .judgement
                    .refusal()
                    .cloned()
                    .unwrap_or(Refusal::because(reason));
                let mut remarks = Remarks::kind(kind_of(&admission.detection, self.flow.transport))
                    .noting(format!("terminated by policy: {}", because.reason.as_str()));
                let port = admission.flow.port;
                remarks.dialled = Some(UpstreamAddr::new((admission.flow.address, port).into()));
                let judgement = Judgement::Refuse(Refusal { reason, ..because });
                self.refuse(
                    &FlowRuling {
                        judgement,
                        route: Route::Closed,
                        ..*ruling
                    },
                    remarks,
                );
            }
        }
    }

    fn about<'a>(&'a self, subject: &'a Arc<Subject>) -> About<'a> {
        About {
            proxy: &self.proxy,
            subject,
            client: self.client,
            original: self.original,
        }
    }
}

/// What every event of a flow says, before there is a [`FlowContext`].
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) proxy: &'a Arc<Proxy>,
    pub(crate) subject: &'a Arc<Subject>,
    pub(crate) client: ClientAddr,
    pub(crate) original: OriginalDst,
}

impl About<'_> {
    /// Emits a refusal that no finding of the flow led to.
    pub(crate) fn refuse(self, remarks: Remarks, refusal: Refusal) -> Explanation {
        let names = self
            .subject
            .tickets()
            .names_at(self.original.ip(), self.proxy.clock.now());
        let name = names.first().cloned();
        let name_source = if name.is_some() {
            NameSource::Ticket
        } else {
            NameSource::None
        };
        let judgement = Judgement::Refuse(refusal);
        self.refused(
            &FlowRuling {
                judgement,
                name,
                name_source,
                route: Route::Closed,
            },
            remarks,
        )
    }

    fn refused(self, ruling: &FlowRuling, remarks: Remarks) -> Explanation {
        self.proxy.metrics.verdict(remarks.kind, &ruling.judgement);
        let event = self.event(ruling, remarks);
        let explanation = Explanation::of(&event, &ruling.judgement, self.proxy.config.pages);
        self.proxy.sink.emit(event);
        explanation
    }

    fn event(self, ruling: &FlowRuling, remarks: Remarks) -> NetworkEvent {
        let id: EventId = self.proxy.sink.mint();
        let mut event = self.subject.event(id, remarks.kind, self.client.ip());
        event.judged(&ruling.judgement);
        event.source_port = self.client.port();
        event.name.clone_from(&ruling.name);
        event.name_source = ruling.name_source;
        let dialled = remarks.dialled.map_or(self.original.ip(), UpstreamAddr::ip);
        event.address = Some(dialled);
        event.original_address = (dialled != self.original.ip()).then(|| self.original.ip());
        event.port = self.original.port();
        event.ech_present = remarks.ech_present;
        event.ja4 = remarks.ja4;
        event.note = remarks.note.map(Into::into);
        event.count = remarks.count;
        event
    }
}
