//! How the gateway is: the page behind `tidegate status` and `tidegate explain --job`, over a Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use thiserror::Error;
use tidegate_dns::subjects::Subjects as _;
use tidegate_policy::explain::{Explanation, Target, explain as explain_target};
use tidegate_policy::subject::Subject;
use tokio::net::UnixListener;
use tokio::sync::watch::Receiver;

use crate::core::Core;
use crate::events::Depth;
use crate::http::{self, Page};
use crate::intercept::InterceptState;

/// The socket's name in the state directory.
const SOCKET: &str = "status.sock";
/// Leases and sources shown at most.
const MAX_SHOWN: usize = 1_000;

/// A gateway that could not be asked.
#[derive(Debug, Error)]
pub enum StatusError {
    /// Nobody listens, or the connection broke.
    #[error("no gateway answers on {socket}; is it running, and is this its configuration?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It answered with an error.
    #[error("the gateway says: {0}")]
    Refused(String),
    /// It answered nonsense: another version, say.
    #[error("the gateway's answer can't be read; is it of another version?")]
    Unreadable(#[from] serde_json::Error),
}

/// Asks the gateway with this state directory how it is.
pub async fn fetch(state_dir: &Path) -> Result<Value, StatusError> {
    Ok(serde_json::from_str(&get(state_dir, "/status").await?)?)
}

/// Asks it what the job (a lease id or a source address) may reach.
pub async fn explain(
    state_dir: &Path,
    job: &str,
    targets: &[String],
) -> Result<Vec<Explanation>, StatusError> {
    let mut query = format!("/explain?{}", escape(job));
    for target in targets {
        query.push('&');
        query.push_str(&escape(target));
    }
    Ok(serde_json::from_str(&get(state_dir, &query).await?)?)
}

async fn get(state_dir: &Path, path: &str) -> Result<String, StatusError> {
    let socket = state_dir.join(SOCKET);
    let (status, text) = http::get(&socket, path)
        .await
        .map_err(|source| StatusError::Unreachable { socket, source })?;
    if status == StatusCode::OK {
        Ok(text)
    } else {
        Err(StatusError::Refused(text.trim().to_owned()))
    }
}

/// Percent-encodes everything that is not plain in a query.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':' => {
                char::from(byte).to_string()
            }
            odd => format!("%{odd:02X}"),
        })
        .collect()
}

pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let (b'%', Some(byte)) = (first, code) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens the socket in the state directory, in place of a dead predecessor's. Only root and the gateway's own
/// user may ask.
pub(crate) fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(state_dir)?;
    // Closed to others before it has its name, so that there is no moment in which they could connect.
    let (socket, fresh) = (state_dir.join(SOCKET), state_dir.join("status.sock.new"));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, &socket)?;
    Ok(listener)
}

/// The handler of the socket's pages.
pub(crate) fn pages(core: Arc<Core>, interception: Receiver<InterceptState>) -> http::Handler {
    Arc::new(move |path, query| match path {
        "/status" => Page::json(&report(&core, &interception.borrow())),
        "/explain" => explain_page(&core, query),
        _ => Page::error(StatusCode::NOT_FOUND, "there are /status and /explain"),
    })
}

fn explain_page(core: &Core, query: &str) -> Page {
    let mut words = query.split('&').map(unescape);
    let job = words.next().unwrap_or_default();
    let Some(subject) = subject_of(core, &job) else {
        return Page::error(
            StatusCode::NOT_FOUND,
            &format!("no lease has the id or the source {job:?}"),
        );
    };
    let book = subject.rulebook();
    let explained: Result<Vec<Explanation>, _> = words
        .map(|text| Target::parse(&text).map(|target| explain_target(&book, &target)))
        .collect();
    match explained {
        Ok(explanations) => Page::json(&json!(explanations)),
        Err(error) => Page::error(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// The subject behind a lease id or a source address.
fn subject_of(core: &Core, job: &str) -> Option<Arc<Subject>> {
    if let Ok(source) = job.parse() {
        return Some(core.sources.subject(source, core.clock.now()));
    }
    core.leases
        .subjects()
        .into_iter()
        .find(|subject| subject.job().is_some_and(|known| known.id == job))
}

fn report(core: &Core, interception: &InterceptState) -> Value {
    let config = core.config.load();
    let files = core.files.lock().report();
    let upstreams = core.resolver.upstreams();
    let mut degraded: Vec<String> = files
        .iter()
        .filter_map(|file| {
            Some(format!(
                "{}: {}",
                file.file.display(),
                first_line(file.problem.as_deref()?)
            ))
        })
        .collect();
    if let Some(error) = core.refused_config.lock().as_deref() {
        degraded.push(format!(
            "the configuration in the file is refused, an older one is in force: {}",
            first_line(error)
        ));
    }
    let (state, restored) = match interception {
        InterceptState::Up => ("up", 0),
        InterceptState::Restored { count, .. } => ("up", *count),
        InterceptState::Down { error } => {
            degraded.push(format!("interception is down: {error}"));
            ("down", 0)
        }
    };
    degraded.extend(core.control.degraded());
    degraded.extend(core.jobs.keeper().problems());
    let spool = core.events.spool().map(|spool| spool.depth());
    degraded.extend(spool.as_ref().and_then(Depth::degraded));
    if !upstreams.is_empty() && upstreams.iter().all(|one| !one.healthy) {
        degraded.push("no upstream resolver answers".into());
    }
    json!({
        "name": config.name,
        "version": env!("CARGO_PKG_VERSION"),
        "interception": {"state": state, "restored": restored},
        "networks": config.networks.iter().map(|one| json!({"name": one.name, "interface": one.interface})).collect::<Vec<_>>(),
        "upstreams": upstreams.iter().map(|one| json!({
            "upstream": one.upstream, "state": if one.healthy { "healthy" } else { "failing" }
        })).collect::<Vec<_>>(),
        "leases": leases(core),
        "unbound_sources": unbound(core),
        "quarantined_sources": quarantined(core),
        "runner_api": runner_api(core),
        "outbox": core.jobs.outbox().depth(),
        "policy_generation": core.generation.load(Ordering::Relaxed),
        "control": core.control.report(),
        "files": files,
        "flows_open": core.proxy.registry().len(),
        "events_queued": core.events.backlog(),
        "spool": spool.map(|depth| depth.report(Timestamp::now())),
        "degraded": degraded,
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Sources that are refused everything though their machine may hold a lease, with their machines.
fn unbound(core: &Core) -> Vec<Value> {
    let sources = core.leases.unbound_sources();
    let shown = sources.iter().take(MAX_SHOWN);
    shown
        .map(|one| json!({"source": one.address, "mac": one.mac.map(|mac| mac.to_string())}))
        .collect()
}

/// Sources that are refused everything because their job has ended and their machine has not changed.
fn quarantined(core: &Core) -> Vec<Value> {
    let (sources, now) = (core.leases.quarantined_sources(), core.now());
    let shown = sources.iter().take(MAX_SHOWN);
    shown
        .map(|one| {
            json!({
                "source": one.address,
                "mac": one.mac.map(|mac| mac.to_string()),
                "since": now.wall_of(one.since).round(Unit::Second).ok(),
            })
        })
        .collect()
}

/// Where runners ask, and how much they did; `null` where the configuration serves none.
fn runner_api(core: &Core) -> Option<Value> {
    let config = core.config.load();
    let api = config.runner_api.as_ref()?;
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    Some(json!({
        "listen": api.listen,
        "requests": count(&core.asked.requests),
        "refused": count(&core.asked.refused),
        "failed_proofs": count(&core.asked.failed_proofs),
    }))
}

fn leases(core: &Core) -> Vec<Value> {
    let views = core.leases.leases();
    views
        .iter()
        .take(MAX_SHOWN)
        .map(|view| {
            let (lease, book) = (&view.lease, view.lease.subject.rulebook());
            let policy = book.policy();
            json!({
                "id": lease.id,
                "network": lease.network,
                "sources": view.sources.iter().map(|source| source.address).collect::<Vec<_>>(),
                "repo": lease.job.identity.repo,
                "job": lease.job.identity.job,
                "policy": policy.map(|(policy, _)| policy.meta.name.clone()),
                "scope": policy.map(|(_, scope)| scope.to_string()),
                "mode": book.mode().as_str(),
                "tickets": lease.subject.tickets().len(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{escape, unescape};

    #[test]
    fn targets_survive_the_query_string() {
        for text in [
            "github.com:443",
            "[2001:db8::1]:8443",
            "ntp.example:123/udp",
            "a&b=c%d",
            "bücher.example",
        ] {
            assert_eq!(unescape(&escape(text)), text);
            assert!(!escape(text).contains('&'));
        }
        assert_eq!(unescape("%zz%4"), "%zz%4");
    }
}
