//! What is stored of some runs already: so that a run counts once in each of its scopes, wherever its jobs ran.

use compact_str::CompactString;
use hashbrown::HashMap;

use super::batch::Group;
use super::observer::Fact;
use crate::baseline::sighting::{Run, Transport};
use crate::baseline::{Target, Trust};
use crate::store::read::get;
use crate::store::sql::Sql;
use crate::store::{Micros, StoreError, Tx};

/// Endpoints of one run that are kept; what it reaches beyond is counted as dropped.
pub(super) const MAX_OF_RUN: usize = 2_000;
/// Runs that are read at once.
const LOT: usize = 64;

/// In which scopes a sighting is the first of its run. None of them: only its place is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// In the repository and the organization.
    pub(super) wide: bool,
    /// In the workflow.
    pub(super) workflow: bool,
    /// In the cluster.
    pub(super) cluster: bool,
}

/// What was seen of a run, and how far it is to be believed.
type Of = (Option<Target>, Trust);
/// Workflow and cluster.
type Place = (CompactString, CompactString);

/// What is stored of a run.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    places: HashMap<Of, Vec<Place>>,
    /// By trust: whoever claims to be a run takes no room from it.
    endpoints: HashMap<Trust, usize>,
}

impl Sightings {
    /// Notes a sighting; `None` when it is stored.
    pub(super) fn note(
        &mut self,
        of: Of,
        (workflow, cluster): (&CompactString, &CompactString),
    ) -> Option<First> {
        let (is_endpoint, trust) = (of.0.is_some(), of.1);
        let places = self.places.entry(of).or_default();
        if places.iter().any(|(w, c)| w == workflow && c == cluster) {
            return None;
        }
        let first = First {
            wide: places.is_empty(),
            workflow: places.iter().all(|(one, _)| one != workflow),
            cluster: places.iter().all(|(_, one)| one != cluster),
        };
        places.push((workflow.clone(), cluster.clone()));
        *self.endpoints.entry(trust).or_default() += usize::from(is_endpoint);
        Some(first)
    }

    /// Whether nothing more of the run is kept that is to be believed so far.
    pub(super) fn is_full(&self, trust: Trust) -> bool {
        self.endpoints.get(&trust).is_some_and(|many| *many >= MAX_OF_RUN)
    }
}

/// What is stored of runs.
pub(super) type Prior = HashMap<Run, Sightings>;

/// A row to be: that a run was seen, or reached something.
pub(super) type Row<'g, 'e> = (&'g Group<'e>, Option<Target>);

impl Tx<'_> {
    /// Reads what is stored of runs, and remembers all of it.
    pub(super) async fn prior(
        &mut self,
        runs: impl IntoIterator<Item = Run>,
        facts: &mut Vec<Fact>,
    ) -> Result<Prior, StoreError> {
        let mut prior: Prior = runs.into_iter().map(|run| (run, Sightings::default())).collect();
        let all: Vec<Run> = prior.keys().cloned().collect();
        for lot in all.chunks(LOT) {
            let mut sql = Sql::new(
                // Whoever plans is told to begin with the few: SQLite would walk through the table for an IN of pairs.
                "SELECT o.repo, o.run, o.endpoint, o.port, o.transport, o.trust, o.workflow, o.cluster FROM (VALUES ",
            )
            .once();
            for (at, run) in lot.iter().enumerate() {
                sql.push(if at == 0 { "(" } else { ", (" }).text(&run.repo);
                sql.push(", ").text(&run.run).push(")");
            }
            sql.push(") AS w CROSS JOIN observations AS o WHERE o.repo = w.column1 AND o.run = w.column2");
            for row in sql.fetch_all(self.connection()).await? {
                let run = Run {
                    repo: get::<&str>(&row, "repo")?.into(),
                    run: get::<&str>(&row, "run")?.into(),
                };
                let trust = Trust::parse(get(&row, "trust")?);
                let trust = trust.ok_or_else(|| StoreError::Unreadable("a sighting's trust".into()))?;
                let target = target(&row)?;
                let workflow = CompactString::from(get::<&str>(&row, "workflow")?);
                let cluster = CompactString::from(get::<&str>(&row, "cluster")?);
                let Some(sightings) = prior.get_mut(&run) else {
                    continue;
                };
                sightings.note((target.clone(), trust), (&workflow, &cluster));
                facts.push(Fact::Sighting {
                    run,
                    workflow,
                    cluster,
                    trust,
                    target,
                });
            }
        }
        Ok(prior)
    }

    /// Keeps sightings.
    pub(super) async fn insert_observations(&mut self, rows: &[Row<'_, '_>]) -> Result<(), StoreError> {
        let mut rows = rows.iter();
        for lot in crate::store::sql::lots(rows.len()) {
            let mut sql = Sql::new(
                "INSERT INTO observations (repo, run, endpoint, port, transport, trust, workflow, cluster, owner, \
                 job, event, ref, head_repo, assurance, at) VALUES ",
            )
            .many(self.backend());
            for (at, (group, target)) in rows.by_ref().take(lot).enumerate() {
                let job = group.job;
                let run = Run::of(job);
                let run = run.as_ref().map_or("", |run| &run.run);
                sql.push(if at == 0 { "(" } else { ", (" }).text(&job.repo);
                sql.push(", ").text(run).push(", ");
                sql.text(target.as_ref().map_or("", |target| &target.endpoint))
                    .push(", ");
                sql.number(target.as_ref().map_or(0, |target| i64::from(target.port)));
                let transport = target.as_ref().map_or(Transport::Ip, |target| target.transport);
                for text in [
                    transport.as_str(),
                    group.trust().as_str(),
                    &job.workflow,
                    &job.cluster,
                    &job.owner,
                    &job.job,
                    &job.event,
                    &job.git_ref,
                    &job.head_repo,
                    job.assurance.as_str(),
                ] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").number(Micros::from(group.first).0).push(")");
            }
            // Only a job without a name of its own comes twice; once is enough.
            sql.push(
                " ON CONFLICT (repo, run, endpoint, port, transport, trust, workflow, cluster) DO NOTHING",
            );
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }
}

/// The target of a row; a row without an endpoint says that the run was seen.
pub(in crate::store) fn target(row: &sqlx::any::AnyRow) -> Result<Option<Target>, StoreError> {
    let endpoint: &str = get(row, "endpoint")?;
    if endpoint.is_empty() {
        return Ok(None);
    }
    let transport: &str = get(row, "transport")?;
    let port: i64 = get(row, "port")?;
    Ok(Some(Target {
        endpoint: endpoint.into(),
        port: u16::try_from(port).map_err(|_| StoreError::Unreadable(format!("port {port}")))?,
        transport: Transport::parse(transport)
            .ok_or_else(|| StoreError::Unreadable(format!("transport {transport:?}")))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_new_once_in_each_of_its_scopes() {
        let mut run = Sightings::default();
        let of = || (None, Trust::Trusted);
        let note = |run: &mut Sightings, workflow: &str, cluster: &str| {
            run.note(of(), (&workflow.into(), &cluster.into()))
                .map(|first| (first.wide, first.workflow, first.cluster))
        };
        assert_eq!(note(&mut run, "ci.yml", "a"), Some((true, true, true)));
        assert_eq!(note(&mut run, "ci.yml", "a"), None);
        assert_eq!(note(&mut run, "ci.yml", "b"), Some((false, false, true)));
        assert_eq!(note(&mut run, "cd.yml", "b"), Some((false, true, false)));
        assert_eq!(note(&mut run, "cd.yml", "a"), Some((false, false, false)));
        let fork = run.note((None, Trust::Fork), (&"ci.yml".into(), &"a".into()));
        assert!(fork.is_some_and(|first| first.wide), "trust is counted apart");
        assert!(!run.is_full(Trust::Trusted));
    }

    /// Anybody can claim to be anybody's run, and reach for thousands of things.
    #[test]
    fn who_claims_to_be_a_run_takes_no_room_from_it() {
        let mut run = Sightings::default();
        for at in 0..MAX_OF_RUN {
            let target = Target {
                endpoint: compact_str::format_compact!("n{at}.test"),
                port: 443,
                transport: Transport::Tcp,
            };
            run.note((Some(target), Trust::Claimed), (&"".into(), &"".into()));
        }
        assert!(run.is_full(Trust::Claimed));
        assert!(!run.is_full(Trust::Trusted) && !run.is_full(Trust::Fork));
    }
}
