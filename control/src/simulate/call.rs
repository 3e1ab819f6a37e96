//! A recorded call: what of an event, or of a day's sum, a policy is asked about.

use std::net::IpAddr;

use compact_str::CompactString;
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::DnsName;
use tidegate_policy::event::{Kind, NameSource};
use tidegate_policy::job::{Assurance, JobIdentity};
use tidegate_policy::verdict::{Mode, Reason, Verdict};

const KINDS: [Kind; 8] = [
    Kind::Dns,
    Kind::Tls,
    Kind::Http,
    Kind::Quic,
    Kind::Tcp,
    Kind::Udp,
    Kind::Icmp,
    Kind::Ip,
];
const VERDICTS: [Verdict; 3] = [Verdict::Permit, Verdict::Refuse, Verdict::WouldRefuse];

/// What only an event tells of a call; a sum by days does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detail {
    /// Where the name comes from.
    pub name_source: NameSource,
    /// The address that was dialled, or would have been.
    pub address: Option<IpAddr>,
    /// The address that the client chose, where it was another.
    pub original: Option<IpAddr>,
    /// DNS: the asked type.
    pub qtype: Option<CompactString>,
    /// Mode of the policy that judged it.
    pub mode: Mode,
    /// A network's `always-allow` list let it through.
    pub by_host: bool,
    /// No rule let it through.
    pub by_no_rule: bool,
}

/// A call, as often as it was recorded alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Whose: what chooses a policy.
    pub owner: CompactString,
    /// `owner/name`.
    pub repo: CompactString,
    /// File name.
    pub workflow: CompactString,
    /// The network's cluster.
    pub cluster: CompactString,
    /// What kind of traffic.
    pub kind: Kind,
    /// The name, else the address, that it is about.
    pub endpoint: CompactString,
    /// Whether `endpoint` is a name; a sum does not say it, but by its spelling.
    pub named: bool,
    /// Port; 0 without ports.
    pub port: u16,
    /// What was decided.
    pub verdict: Verdict,
    /// Why not.
    pub reason: Option<Reason>,
    /// What only an event tells.
    pub detail: Option<Detail>,
}

impl Call {
    /// Of an event; `None` when no policy is asked about it: no job's, a job that is only claimed, one whose lease names
    /// its own policy, or no verdict but later bytes of one.
    pub fn of(event: &EventRecord) -> Option<Self> {
        let job = event.job.as_ref().filter(|_| event.count > 0)?;
        let pinned = event
            .scope
            .as_ref()
            .is_some_and(|scope| scope.starts_with("lease:"));
        if pinned || job.assurance == Assurance::Claimed {
            return None;
        }
        let reason = event.reason.as_deref().and_then(reason);
        Some(Self {
            owner: job.owner.clone(),
            repo: job.repo.clone(),
            workflow: job.workflow.clone(),
            cluster: job.cluster.clone(),
            kind: event.kind,
            endpoint: event.endpoint(),
            named: event.name.is_some(),
            port: event.port,
            verdict: event.verdict,
            reason,
            detail: Some(Detail {
                name_source: event.name_source,
                address: event.address,
                original: event.original_address,
                qtype: event.qtype.clone(),
                mode: event.mode,
                by_host: event.verdict == Verdict::Permit && event.rule_source.as_deref() == Some("host"),
                by_no_rule: event.verdict == Verdict::Permit && event.rule.is_none(),
            }),
        })
    }

    /// Of a sum by days: whose (owner, repository, workflow, cluster), where to (name or address, port), and what (kind,
    /// verdict, reason) as events spell it. `None` for words that this program does not know.
    pub fn of_sum(whose: [&str; 4], (endpoint, port): (&str, u16), what: [&str; 3]) -> Option<Self> {
        let [owner, repo, workflow, cluster] = whose.map(CompactString::from);
        let [kind, verdict, why] = what;
        let kind = KINDS.into_iter().find(|known| known.as_str() == kind)?;
        let verdict = VERDICTS.into_iter().find(|known| known.as_str() == verdict)?;
        // A day's sum of what is nobody's job.
        (!owner.is_empty() || !cluster.is_empty()).then_some(())?;
        Some(Self {
            owner,
            repo,
            workflow,
            cluster,
            kind,
            endpoint: endpoint.into(),
            named: !endpoint.is_empty() && endpoint.parse::<IpAddr>().is_err(),
            port,
            verdict,
            reason: reason(why),
            detail: None,
        })
    }

    /// The job that it is of, as far as a policy is chosen by it.
    pub fn identity(&self) -> JobIdentity {
        JobIdentity {
            owner: self.owner.clone(),
            repo: self.repo.clone(),
            workflow: self.workflow.clone(),
            cluster: self.cluster.clone(),
            job: CompactString::default(),
            run_id: CompactString::default(),
            run_attempt: 0,
            runner_name: CompactString::default(),
            event: CompactString::default(),
            git_ref: CompactString::default(),
            actor: CompactString::default(),
            head_repo: CompactString::default(),
            assurance: Assurance::Static,
        }
    }

    /// The name that it is about, when it has one that can be read.
    pub fn name(&self) -> Option<DnsName> {
        self.named.then(|| DnsName::parse(&self.endpoint).ok())?
    }

    /// The address that it is about, or went to.
    pub fn address(&self) -> Option<IpAddr> {
        let told = self.detail.as_ref().and_then(|detail| detail.address);
        let spelt = || (!self.named).then(|| self.endpoint.parse().ok())?;
        told.or_else(spelt)
    }

    /// Whether it went through.
    pub fn passed(&self) -> bool {
        self.verdict != Verdict::Refuse
    }
}

/// A reason by its spelling; none for one of a newer gateway.
pub(crate) fn reason(text: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == text)
}
