//! What was recorded of some scopes' jobs, for simulations: events piece by piece, and sums by days.
//!
//! Owns how much of the record one step reads. Events are walked from the newest back by time (by repository and time, when
//! all scopes lie in one), and what is nobody's of these scopes costs its row, not its text. It writes nothing.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use tidegate_control_wire::event::EventRecord;
use tidegate_policy::job::Scope;

use super::read::{get, most};
use super::rollups::day;
use super::sql::Sql;
use super::subjects::{key, read_event};
use super::{Micros, Store, StoreError};

/// Rows of one step.
const PIECE: usize = 5_000;
/// Scopes that are asked for by themselves; of more, their owners are.
const MAX_SCOPES: usize = 50;

/// Whose record, and of which time.
#[derive(Clone, Debug)]
pub struct RecordOf {
    scopes: Vec<Scope>,
    since: Micros,
    until: Micros,
}

/// Where the walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Further {
    at: i64,
    seq: i64,
}

/// One step back through the events.
#[derive(Debug, Default)]
pub struct RecordedEvents {
    /// Events, the newest first, with the time that they are filed under.
    pub events: Vec<(Timestamp, EventRecord)>,
    /// How many rows were looked at.
    pub looked: usize,
    /// Every event at this time or later was read by now.
    pub back_to: Option<Timestamp>,
    /// Where to go on; absent at the end.
    pub next: Option<Further>,
}

/// A sum of some days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedSum {
    /// Organization.
    pub owner: String,
    /// `owner/name`.
    pub repo: String,
    /// File name.
    pub workflow: String,
    /// The network's cluster.
    pub cluster: String,
    /// The name, else the address.
    pub endpoint: String,
    /// Port; 0 without ports.
    pub port: u16,
    /// What kind of traffic, as events spell it.
    pub kind: String,
    /// What was decided.
    pub verdict: String,
    /// Why not; empty for permits.
    pub reason: String,
    /// How often.
    pub verdicts: u64,
    /// When last.
    pub last: Timestamp,
}

impl RecordOf {
    /// Of the jobs in these scopes, in a span of time. A caller that must see only some owners' jobs names only theirs.
    pub fn new(scopes: &[Scope], since: Timestamp, until: Timestamp) -> Self {
        Self {
            scopes: reduced(scopes),
            since: since.into(),
            until: until.into(),
        }
    }

    /// Text that is true for rows of these scopes; at least one scope there is, else nothing is. Sums have a cluster, heads
    /// of events have it in their JSON.
    fn push_scopes(&self, sql: &mut Sql, has_cluster: bool) {
        sql.push("(1 = 0");
        for scope in &self.scopes {
            sql.push(" OR ");
            match scope {
                Scope::Workflow(path) => {
                    let (repo, file) = path.rsplit_once('/').unwrap_or((path, ""));
                    sql.push("(repo = ")
                        .text(repo)
                        .push(" AND workflow = ")
                        .text(file)
                        .push(")");
                }
                Scope::Repository(repo) => {
                    sql.push("repo = ").text(repo);
                }
                Scope::Organization(owner) => {
                    sql.push("owner = ").text(owner);
                }
                Scope::Cluster(cluster) if has_cluster => {
                    sql.push("cluster = ").text(cluster);
                }
                Scope::Cluster(cluster) => {
                    let key = format!("\"cluster\":{}", serde_json::json!(cluster.as_str()));
                    sql.push("replace(head, ").owned(key).push(", '') <> head");
                }
                Scope::Network(_) | Scope::Lease(_) => {
                    sql.push("1 = 0");
                }
            }
        }
        sql.push(")");
    }

    /// The repository that all scopes lie in, which an index serves.
    fn repo(&self) -> Option<&str> {
        let repos = self.scopes.iter().map(|scope| match scope {
            Scope::Workflow(path) => path.rsplit_once('/').map(|(repo, _)| repo),
            Scope::Repository(repo) => Some(repo.as_str()),
            Scope::Organization(_) | Scope::Cluster(_) | Scope::Network(_) | Scope::Lease(_) => None,
        });
        let first = repos.clone().next()??;
        let mut repos = repos;
        repos.all(|repo| repo == Some(first)).then_some(first)
    }
}

/// Scopes without those that lie in others of them; when there are many, the owners instead.
fn reduced(scopes: &[Scope]) -> Vec<Scope> {
    let owner = |text: &str| Scope::Organization(text.split('/').next().unwrap_or_default().into());
    let above = |scope: &Scope| match scope {
        Scope::Workflow(path) => {
            let repo = path.rsplit_once('/').map_or("", |(repo, _)| repo);
            vec![Scope::Repository(repo.into()), owner(path)]
        }
        Scope::Repository(repo) => vec![owner(repo)],
        Scope::Organization(_) | Scope::Cluster(_) | Scope::Network(_) | Scope::Lease(_) => Vec::new(),
    };
    let mut kept: Vec<Scope> = scopes
        .iter()
        .filter(|scope| !above(scope).iter().any(|above| scopes.contains(above)))
        .cloned()
        .collect();
    if kept.len() > MAX_SCOPES {
        kept = kept
            .iter()
            .map(|scope| above(scope).pop().unwrap_or_else(|| scope.clone()))
            .collect();
    }
    kept.sort();
    kept.dedup();
    kept
}

impl Store {
    /// Events of the wanted scopes, from the newest back, one step.
    pub async fn recorded_events(
        &self,
        wanted: &RecordOf,
        from: Option<Further>,
    ) -> Result<RecordedEvents, StoreError> {
        let rows = walk(wanted, from).fetch_all(self.events.read()).await?;
        let last = match rows.last() {
            Some(row) => Some(Further {
                at: get(row, "at")?,
                seq: get(row, "seq")?,
            }),
            None => None,
        };
        let next = last.filter(|_| rows.len() == PIECE);
        let mut piece = RecordedEvents {
            looked: rows.len(),
            // Of the oldest time that was read there may be more.
            back_to: next.map(|next| Micros(next.at.saturating_add(1)).timestamp()),
            next,
            ..RecordedEvents::default()
        };
        for row in &rows {
            let body: &str = get(row, "body")?;
            if !body.is_empty() {
                let at = Micros(get(row, "at")?).timestamp();
                piece.events.push((at, read_event(row)?.0));
            }
        }
        Ok(piece)
    }

    /// Sums of the wanted scopes over whole days before `until`, at most so many, what was seen last first; whether there
    /// are more.
    pub async fn recorded_sums(
        &self,
        wanted: &RecordOf,
        until: Timestamp,
        limit: usize,
    ) -> Result<(Vec<RecordedSum>, bool), StoreError> {
        let mut sql = Sql::new(
            "SELECT owner, repo, workflow, cluster, endpoint, port, kind, verdict, reason, \
             CAST(SUM(verdicts) AS BIGINT) AS verdicts, MAX(last_at) AS last_at FROM rollups WHERE day >= ",
        )
        .once();
        sql.number(day(wanted.since));
        sql.push(" AND day < ").number(day(until.into()));
        if let Some(repo) = wanted.repo() {
            sql.push(" AND repo = ").text(repo);
        }
        sql.push(" AND ");
        wanted.push_scopes(&mut sql, true);
        sql.push(
            " GROUP BY owner, repo, workflow, cluster, endpoint, port, kind, verdict, reason \
             ORDER BY MAX(last_at) DESC, repo, workflow, endpoint, port, kind, verdict, reason LIMIT ",
        );
        sql.number(most(limit).saturating_add(1));
        let rows = sql.fetch_all(self.events.read()).await?;
        let more = rows.len() > limit;
        let sums = rows.iter().take(limit).map(sum).collect::<Result<_, _>>()?;
        Ok((sums, more))
    }

    /// Verdicts that gateways said they dropped, in the days of a span.
    pub async fn recorded_losses(&self, since: Timestamp, until: Timestamp) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(dropped), 0) AS BIGINT) AS dropped FROM event_losses WHERE day >= $1 AND day <= $2",
        )
        .bind(day(since.into()))
        .bind(day(until.into()))
        .fetch_one(self.events.read())
        .await?;
        Ok(get::<i64>(&row, "dropped")?.unsigned_abs())
    }
}

/// The statement of one step.
fn walk(wanted: &RecordOf, from: Option<Further>) -> Sql {
    let mut sql =
        Sql::new("SELECT at, seq, (SELECT head FROM event_subjects WHERE number = subject AND ").once();
    wanted.push_scopes(&mut sql, false);
    sql.push(") AS head, CASE WHEN EXISTS (SELECT 1 FROM event_subjects WHERE number = subject AND ");
    wanted.push_scopes(&mut sql, false);
    sql.push(") THEN body ELSE '' END AS body FROM events WHERE at >= ")
        .number(wanted.since.0);
    sql.push(" AND at < ").number(wanted.until.0);
    if let Some(repo) = wanted.repo() {
        sql.push(" AND repo = ").number(key(repo));
    }
    if let Some(Further { at, seq }) = from {
        sql.push(" AND at <= ").number(at);
        sql.push(" AND (at < ").number(at);
        sql.push(" OR seq < ").number(seq).push(")");
    }
    sql.push(" ORDER BY at DESC, seq DESC LIMIT ").number(most(PIECE));
    sql
}

fn sum(row: &AnyRow) -> Result<RecordedSum, StoreError> {
    let text = |column| get::<String>(row, column);
    Ok(RecordedSum {
        owner: text("owner")?,
        repo: text("repo")?,
        workflow: text("workflow")?,
        cluster: text("cluster")?,
        endpoint: text("endpoint")?,
        port: u16::try_from(get::<i64>(row, "port")?).unwrap_or_default(),
        kind: text("kind")?,
        verdict: text("verdict")?,
        reason: text("reason")?,
        verdicts: get::<i64>(row, "verdicts")?.unsigned_abs(),
        last: Micros(get(row, "last_at")?).timestamp(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn scopes(texts: &[&str]) -> Vec<Scope> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn scopes_that_lie_in_others_are_not_asked_for_twice() {
        let all = scopes(&[
            "org:acme",
            "repo:acme/web",
            "workflow:acme/web/ci.yml",
            "repo:other/x",
            "cluster:prod",
        ]);
        assert_eq!(
            reduced(&all),
            scopes(&["repo:other/x", "org:acme", "cluster:prod"])
        );
        let many: Vec<Scope> = (0..60)
            .map(|n| format!("repo:acme/r{n}").parse().unwrap())
            .collect();
        assert_eq!(reduced(&many), scopes(&["org:acme"]));
    }

    #[test]
    fn one_repository_is_found_by_its_index() {
        let repo = |texts: &[&str]| {
            let now = Timestamp::UNIX_EPOCH;
            RecordOf::new(&scopes(texts), now, now).repo().map(str::to_owned)
        };
        assert_eq!(repo(&["repo:acme/web"]).as_deref(), Some("acme/web"));
        assert_eq!(
            repo(&["workflow:acme/web/a.yml", "workflow:acme/web/b.yml"]).as_deref(),
            Some("acme/web")
        );
        assert_eq!(repo(&["repo:acme/web", "repo:acme/api"]), None);
        assert_eq!(repo(&["org:acme"]), None);
    }
}
