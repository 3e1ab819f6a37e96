//! Whom a request asks for, and what the policy of this moment says of it. Owns the choice of the row that a
//! request is judged by: its own authority, or a forward proxy and its target. Never decides itself. Driven
//! by `session` for each request, by `h2c` for each stream, and by the audit observer.

use tidegate_policy::DnsName;
use tidegate_policy::detection::{Authority, Detection, HttpHost, OpaqueReason, Prefix};
use tidegate_policy::endpoint::Transport;
use tidegate_policy::event::NameSource;
use tidegate_policy::judge::flow::{ProxyTarget, Route, judge_proxied, judge_tunnelled};
use tidegate_policy::special;
use tidegate_policy::verdict::{Reason, Refusal};

use super::answer::Failure;
use super::ledger::Entered;
use super::pool::{Purpose, Server};
use super::servers::Unserved;
use crate::address::UpstreamAddr;
use crate::context::{FlowContext, Judged, Remarks};
use crate::http1::head::{RequestHead, TargetForm};
use crate::route::Unreached;

/// Octets of a header value that a note repeats.
const MOST_NOTED: usize = 64;

/// What the request is made through.
#[derive(Clone, Debug)]
pub(super) enum Via {
    /// The flow's own destination.
    Flow,
    /// A tunnel that a forward proxy opened to this target.
    Tunnel(ProxyTarget),
}

/// The form of a request's target, as far as it chooses the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A path: the server itself is meant.
    Path,
    /// A whole URL: perhaps a forward proxy is meant. With the default port of its scheme.
    Url(u16),
    /// CONNECT: a forward proxy is meant.
    Connect,
}

/// A request as it is judged.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) authority: Authority,
    form: Form,
    forwarded_host: Option<String>,
}

/// A judged request.
pub(super) struct Decision {
    pub(super) judged: Judged,
    /// What the flow is to be re-judged by while the request lasts.
    pub(super) detection: Detection,
    /// The target, for a request that is judged as made to a forward proxy or through one.
    pub(super) target: Option<ProxyTarget>,
    pub(super) purpose: Purpose,
    pub(super) remarks: Remarks,
    /// The status that explains a refusal by policy.
    status: u16,
}

impl Asked {
    /// What a strictly parsed head asks.
    pub(super) fn of(head: &RequestHead) -> Self {
        let form = match head.target_form {
            TargetForm::Origin | TargetForm::Asterisk => Form::Path,
            TargetForm::Authority => Form::Connect,
            TargetForm::Absolute => Form::Url(default_port(head.target())),
        };
        let forwarded_host = head.values("x-forwarded-host").next().map(readable);
        Self {
            authority: head.authority.clone(),
            form,
            forwarded_host,
        }
    }

    /// What a request asks whose authority is all that matters.
    pub(super) fn plain(authority: Option<Authority>, forwarded_host: Option<&[u8]>) -> Self {
        let authority = authority.unwrap_or(Authority {
            host: HttpHost::Absent,
            port: None,
        });
        Self {
            authority,
            form: Form::Path,
            forwarded_host: forwarded_host.map(readable),
        }
    }

    /// Judges the request with the policy and the tickets of this moment.
    pub(super) fn decide(&self, context: &FlowContext, via: &Via) -> Decision {
        match via {
            Via::Tunnel(target) => self.through(context, target),
            Via::Flow => self.direct(context),
        }
    }

    fn direct(&self, context: &FlowContext) -> Decision {
        let own = |context: &FlowContext| {
            let detection = Detection::Http(self.authority.clone());
            let judged = context.judge(&detection);
            Decision {
                judged,
                detection,
                target: None,
                purpose: Purpose::Origin(self.authority.host.clone()),
                remarks: self.remarks(context),
                status: 403,
            }
        };
        match self.form {
            Form::Path => own(context),
            Form::Connect => self.proxied(context, self.target(context.flow.port)),
            Form::Url(_) if self.is_at_home(context) => own(context),
            Form::Url(port) => {
                let proxied = self.proxied(context, self.target(port));
                // Not a permitted proxy: then the URL is but another spelling of Host.
                if refused_for(&proxied.judged) == Some(Reason::ProxyRequest) {
                    own(context)
                } else {
                    proxied
                }
            }
        }
    }

    fn proxied(&self, context: &FlowContext, target: ProxyTarget) -> Decision {
        let judged = context.judge_by(|book, flow, evidence| judge_proxied(book, flow, &target, evidence));
        let note = format!("to a forward proxy, for port {}", target.port);
        Decision {
            judged,
            detection: Detection::Opaque(OpaqueReason::UnknownProtocol),
            target: Some(target),
            purpose: Purpose::Proxy,
            remarks: self.remarks(context).noting(note),
            status: 405,
        }
    }

    /// A request within a tunnel: the tunnel's end must be permitted on, and what is asked there too.
    fn through(&self, context: &FlowContext, target: &ProxyTarget) -> Decision {
        let detection = match self.form {
            Form::Path | Form::Url(_) => Detection::Http(self.authority.clone()),
            Form::Connect => Detection::Malformed {
                prefix: Prefix::Http,
                what: "CONNECT through a tunnel",
            },
        };
        let judged = context
            .judge_by(|book, flow, evidence| judge_tunnelled(book, flow, target, &detection, evidence));
        let note = format!("through a forward proxy's tunnel to port {}", target.port);
        Decision {
            judged,
            status: if self.form == Form::Connect { 405 } else { 403 },
            detection,
            target: Some(target.clone()),
            purpose: Purpose::Proxy,
            remarks: self.remarks(context).noting(note),
        }
    }

    /// The target that a proxy is asked for; `default` is the port where none is written.
    fn target(&self, default: u16) -> ProxyTarget {
        ProxyTarget {
            host: self.authority.host.clone(),
            port: self.authority.port.unwrap_or(default),
        }
    }

    /// True when the flow's own address is the one that the request names: it is made to an origin.
    fn is_at_home(&self, context: &FlowContext) -> bool {
        match &self.authority.host {
            HttpHost::Name(name) => {
                let subject = context.subject();
                subject
                    .tickets()
                    .holds(name, context.flow.address, context.proxy.clock.now())
            }
            HttpHost::Address(address) => {
                special::canonical(*address) == special::canonical(context.flow.address)
            }
            HttpHost::Absent => true,
        }
    }

    fn remarks(&self, context: &FlowContext) -> Remarks {
        let mut remarks = Remarks::of(&Detection::Http(self.authority.clone()), Transport::Tcp);
        if let Some(port) = self
            .authority
            .port
            .filter(|port| self.form == Form::Path && *port != context.flow.port)
        {
            remarks = remarks.noting(format!("Host names port {port}"));
        }
        if let Some(host) = &self.forwarded_host {
            remarks = remarks.noting(format!("X-Forwarded-Host names {host}"));
        }
        remarks
    }
}

impl Decision {
    /// The request as it goes into its event.
    pub(super) fn entered<'a>(&'a self, asked: &'a Asked) -> Entered<'a> {
        Entered {
            authority: &asked.authority,
            target_port: self.target.as_ref().map(|target| target.port),
            ruling: &self.judged.ruling,
            remarks: self.remarks.clone(),
        }
    }

    /// The status that explains the refusal.
    pub(super) fn status(&self) -> u16 {
        if refused_for(&self.judged) == Some(Reason::ResolveFailed) {
            502
        } else {
            self.status
        }
    }

    /// Refuses what no policy decides about.
    pub(super) fn refuse(&mut self, refusal: Refusal, status: u16, note: String) {
        self.judged = self.judged.clone().refused(refusal);
        self.remarks = self.remarks.clone().noting(note);
        self.status = status;
    }

    /// Completes the decision by what became of its route.
    pub(super) fn unreached(&mut self, unreached: Unreached) -> Unserved {
        match unreached {
            Unreached::Refused(judged) => {
                self.judged = judged;
                Unserved::Refused
            }
            Unreached::Failed(judged, error) => {
                self.judged = judged;
                self.remarks.dialled = Some(error.address);
                let note = format!("dial failed: {}", error.cause.as_str());
                self.remarks = self.remarks.clone().noting(note);
                Unserved::Failed(Failure::dial(&error))
            }
        }
    }

    /// Makes the flow one that is re-judged by this request until it rests.
    pub(super) fn admit(&self, context: &FlowContext, server: &Server) {
        self.admit_with(context, server.upstream.address, server.proven.clone());
    }

    /// The same for a flow that goes to its own address.
    pub(super) fn admit_at(&self, context: &FlowContext, dialled: UpstreamAddr) {
        self.admit_with(context, dialled, context.ticketed(&self.judged.ruling));
    }

    fn admit_with(&self, context: &FlowContext, dialled: UpstreamAddr, proven: Option<DnsName>) {
        match &self.target {
            Some(target) => context.admit_proxied(&self.judged, &self.detection, target, dialled),
            None => context.admit(&self.judged, &self.detection, dialled, proven),
        }
    }

    /// The name for which the address of a kept connection is proven, when it is used for this request.
    pub(super) fn proven(&self, context: &FlowContext) -> Option<DnsName> {
        let ruling = &self.judged.ruling;
        match (&ruling.route, ruling.name_source) {
            (Route::Resolve(_), NameSource::Host) => ruling.name.clone(),
            (Route::Dial(_) | Route::Resolve(_) | Route::Confirm { .. } | Route::Closed, _) => {
                context.ticketed(ruling)
            }
        }
    }
}

fn refused_for(judged: &Judged) -> Option<Reason> {
    judged.ruling.judgement.refusal().map(|refusal| refusal.reason)
}

fn default_port(target: &[u8]) -> u16 {
    let https = target
        .get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https:"));
    if https { 443 } else { 80 }
}

/// A header value for people, short and printable.
fn readable(value: &[u8]) -> String {
    value
        .iter()
        .take(MOST_NOTED)
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect()
}
