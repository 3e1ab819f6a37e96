//! What to run on a runner's machine: texts to copy. What people typed stands in them only where it can't be a command of
//! its own.

use std::fmt::Write as _;
use std::net::IpAddr;

use axum::http::StatusCode;

use crate::error::Problem;
use crate::text::Text;

/// Where a runner finds its gateway, and itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    v4: Option<String>,
    v6: Option<String>,
    runner: String,
}

/// A step with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snippet {
    /// Its anchor, too.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) why: &'static str,
    pub(super) text: String,
}

impl Place {
    /// By what was typed: an address, or two with a space or comma between; and a folder. What was not typed is written as
    /// a word to be replaced.
    pub(super) fn of(via: &str, runner: &str, ranges: &[Text]) -> Result<Self, Problem> {
        let wrong = |field: &str, detail: String| {
            let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
            problem.field = Some(field.into());
            problem
        };
        let mut place = Self {
            v4: None,
            v6: None,
            runner: "/opt/actions-runner".into(),
        };
        let separators = |c: char| c == ',' || c.is_whitespace();
        for text in via.split(separators).filter(|text| !text.is_empty()) {
            let address: IpAddr = text.parse().map_err(|_| {
                wrong(
                    "via",
                    format!("{text:?} is no address, such as 10.77.0.1 or fd77::1"),
                )
            })?;
            let known = match address {
                IpAddr::V4(_) => place.v4.replace(address.to_string()),
                IpAddr::V6(_) => place.v6.replace(address.to_string()),
            };
            if known.is_some() {
                return Err(wrong("via", "one IPv4 and one IPv6 address at most".into()));
            }
        }
        if place.v4.is_none() && place.v6.is_none() {
            let has = |mark: char| ranges.iter().any(|range| range.raw().contains(mark));
            place.v6 = has(':').then(|| "GATEWAY_IPV6".into());
            place.v4 = (has('.') || place.v6.is_none()).then(|| "GATEWAY_IPV4".into());
        }
        let runner = runner.trim();
        if !runner.is_empty() {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
            if !runner.starts_with('/') || !runner.chars().all(plain) {
                let detail =
                    "write the folder as /opt/actions-runner: letters, digits, `.`, `_`, `-` and `/`";
                return Err(wrong("runner", detail.into()));
            }
            runner.clone_into(&mut place.runner);
        }
        Ok(place)
    }

    fn addresses(&self) -> impl Iterator<Item = &String> {
        self.v4.iter().chain(&self.v6)
    }
}

/// Every step, in the order in which they are done.
pub(super) fn all(place: &Place) -> Vec<Snippet> {
    let runner = &place.runner;
    vec![
        Snippet {
            id: "route",
            title: "Default route",
            why: "Everything leaves through the gateway. Without it the runner reaches nothing, or goes around.",
            text: routes(place),
        },
        Snippet {
            id: "dns",
            title: "Resolver",
            why: "The gateway answers for names that the job's policy allows. Other resolvers are refused on the way.",
            text: resolvers(place),
        },
        Snippet {
            id: "ca",
            title: "CA of the runner API",
            why: "Copy the certificate that signs gateway.runner-api.tls to the machine; the hooks trust it and no other.",
            text: "install -D -m 0644 ca.pem /etc/tidegate/ca.pem\n\
                   curl --cacert /etc/tidegate/ca.pem https://tidegate.internal/v1/jobs/current\n"
                .into(),
        },
        Snippet {
            id: "token-file",
            title: "Runner token",
            why: "Paste the token's text, end with Ctrl-D. It lies in a file that only root reads.",
            text: "umask 077 && install -d /etc/tidegate && cat > /etc/tidegate/runner-token\n".into(),
        },
        Snippet {
            id: "hook",
            title: "Job hooks of the Actions runner",
            why: "They register each job when it starts, and end it with a summary of what was refused. Restart the runner after.",
            text: format!(
                "tidegate hook install --token-file /etc/tidegate/runner-token --ca /etc/tidegate/ca.pem \\\n  \
                 --runner-dir {runner}\n"
            ),
        },
        Snippet {
            id: "doctor",
            title: "Check it",
            why: "Finds what is wrong with route, resolver, CA and clock, and names the command that mends it.",
            text: "tidegate doctor --from-runner\ncurl http://tidegate.internal/why/github.com\n".into(),
        },
    ]
}

fn routes(place: &Place) -> String {
    let mut text = String::new();
    for (ip, via) in [("ip", &place.v4), ("ip -6", &place.v6)] {
        if let Some(via) = via {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{ip} route replace default via {via}");
        }
    }
    text
}

fn resolvers(place: &Place) -> String {
    // Often a link to a file that another program writes: the link goes, not that file.
    let mut text = "rm -f /etc/resolv.conf\ncat > /etc/resolv.conf <<'END'\n".to_owned();
    for via in place.addresses() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "nameserver {via}");
    }
    text.push_str("END\n");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn text(via: &str, runner: &str) -> String {
        let place = Place::of(via, runner, &["10.77.0.0/24".into()]).unwrap();
        all(&place).into_iter().map(|one| one.text).collect()
    }

    #[test]
    fn what_was_typed_stands_in_every_step_that_needs_it() {
        let both = text("10.77.0.1, fd77::1", "/srv/runner");
        for line in [
            "ip route replace default via 10.77.0.1\n",
            "ip -6 route replace default via fd77::1\n",
            "nameserver 10.77.0.1\nnameserver fd77::1\n",
            "--runner-dir /srv/runner\n",
        ] {
            assert!(both.contains(line), "{line}: {both}");
        }
        assert!(text("", "").contains("via GATEWAY_IPV4\n"));
    }

    #[test]
    fn no_command_gets_in() {
        for (via, runner) in [
            ("10.0.0.1;reboot", ""),
            ("$(reboot)", ""),
            ("10.0.0.1 10.0.0.2", ""),
            ("", "relative"),
            ("", "/x;reboot"),
            ("", "/x$(reboot)"),
            ("", "/x\nreboot"),
        ] {
            assert!(Place::of(via, runner, &[]).is_err(), "{via:?} {runner:?}");
        }
    }
}
