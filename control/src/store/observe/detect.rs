//! Detections in the making: of one batch, one a job and target, told from what the job has already.

use compact_str::CompactString;
use hashbrown::{HashMap, HashSet};
use jiff::Timestamp;
use tidegate_control_wire::id::new_id;
use tidegate_policy::job::Scope;

use super::batch::Group;
use super::observer::{Count, Counts, Fact, Rules};
use super::prior::target;
use crate::baseline::detection::{self, MAX_OF_JOB};
use crate::baseline::rule::Subject;
use crate::baseline::{DetectionType, Severity, Status, Target};
use crate::store::read::{get, to_json};
use crate::store::rollups::count;
use crate::store::sql::{Sql, lots};
use crate::store::{Micros, StoreError, Tx};

/// Jobs that are read at once.
const LOT: usize = 64;

/// A detection that may be new.
#[derive(Clone, Debug)]
struct Draft<'g, 'e> {
    id: String,
    kind: DetectionType,
    group: &'g Group<'e>,
    target: Target,
    severity: Severity,
    outside: Vec<Scope>,
}

impl Draft<'_, '_> {
    fn key(&self) -> (DetectionType, Target) {
        (self.kind, self.target.clone())
    }

    fn count(&self) -> Count {
        Count {
            times: self.group.calls,
            last: self.group.last,
        }
    }
}

/// What a batch detects.
#[derive(Debug, Default)]
pub(super) struct Drafts<'g, 'e> {
    new: Vec<Draft<'g, 'e>>,
    places: HashMap<(CompactString, DetectionType, Target), usize>,
    /// What was told of before, and happened again in another run.
    again: HashMap<String, Count>,
    /// Several scopes tell of the same: detection, and number of the group.
    counted: HashSet<(String, usize)>,
}

/// What a job has.
#[derive(Debug, Default)]
struct Held {
    ids: HashMap<(DetectionType, Target), (String, Status)>,
}

impl Held {
    fn insert(&mut self, key: (DetectionType, Target), id: &str, status: Status) {
        self.ids.insert(key, (id.to_owned(), status));
    }

    /// How many of a type.
    fn many(&self, kind: DetectionType) -> usize {
        self.ids.keys().filter(|(one, _)| *one == kind).count()
    }
}

impl<'g, 'e> Drafts<'g, 'e> {
    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.again.is_empty()
    }

    /// A job was kept from something.
    pub(super) fn refused(&mut self, group: &'g Group<'e>, severity: Severity) {
        self.draft(DetectionType::DomainBlocked, group, group.target(), severity);
    }

    /// A job reached beyond a scope's baseline; how its detection will be called.
    pub(super) fn outside(&mut self, group: &'g Group<'e>, target: &Target, scope: &Scope) -> Option<String> {
        let kind = DetectionType::NewOutboundNetworkCall;
        let draft = self.draft(kind, group, target.clone(), Severity::Low)?;
        draft.outside.push(scope.clone());
        draft.severity = detection::of_new_endpoint(group.event, group.trust(), &draft.outside);
        Some(draft.id.clone())
    }

    /// Something that an open detection tells of happened in another run.
    pub(super) fn again(&mut self, id: String, number: usize, group: &Group<'_>) {
        if !self.counted.insert((id.clone(), number)) {
            return;
        }
        let none = Count {
            times: 0,
            last: group.last,
        };
        let sum = self.again.entry(id).or_insert(none);
        sum.times = sum.times.saturating_add(group.calls);
        sum.last = sum.last.max(group.last);
    }

    /// A job without an id can't be told from others: nothing is detected of it.
    fn draft(
        &mut self,
        kind: DetectionType,
        group: &'g Group<'e>,
        target: Target,
        severity: Severity,
    ) -> Option<&mut Draft<'g, 'e>> {
        if group.job.id.is_empty() {
            return None;
        }
        let key = (group.job.id.clone(), kind, target.clone());
        let drafts = &mut self.new;
        let place = *self.places.entry(key).or_insert_with(|| {
            drafts.push(Draft {
                id: new_id("det"),
                kind,
                group,
                target,
                severity,
                outside: Vec::new(),
            });
            drafts.len() - 1
        });
        self.new.get_mut(place)
    }
}

/// What came of drafts: how those that have another name are called, and how they stand.
pub(super) type Settled = HashMap<String, (String, Status)>;

impl Tx<'_> {
    /// Stores detections: new ones up to the bound of their job, else counted where they belong.
    pub(super) async fn write_detections(
        &mut self,
        drafts: &Drafts<'_, '_>,
        rules: &Rules,
        facts: &mut Vec<Fact>,
    ) -> Result<Settled, StoreError> {
        let mut held = self.held(drafts).await?;
        let (mut settled, mut counts) = (Settled::new(), Counts::default());
        let mut new = Vec::new();
        let now = self.now().timestamp();
        for draft in &drafts.new {
            let job = &draft.group.job.id;
            let of_job = held.entry(job.clone()).or_default();
            facts.push(Fact::Detected(job.clone(), draft.kind, draft.target.clone()));
            if let Some(known) = of_job.ids.get(&draft.key()) {
                settled.insert(draft.id.clone(), known.clone());
                counts.hit((job.clone(), draft.kind, draft.target.clone()), draft.count());
            } else if of_job.many(draft.kind) >= MAX_OF_JOB {
                // No other detection stands for it: which one is the last is the job's to choose, and whoever, or whatever
                // rule, accepts that one says nothing of this. The next run is told of.
                settled.insert(draft.id.clone(), (String::new(), Status::New));
                counts.further(job.clone(), draft.group.calls);
                facts.pop();
                if draft.kind == DetectionType::DomainBlocked {
                    facts.push(Fact::JobFull(job.clone()));
                }
            } else {
                let covered = self.covering(draft, rules, now).await?;
                let status = covered.as_ref().map_or(Status::New, |_| Status::Suppressed);
                of_job.insert(draft.key(), &draft.id, status);
                settled.insert(draft.id.clone(), (draft.id.clone(), status));
                new.push((draft, covered));
            }
        }
        self.insert_detections(&new).await?;
        self.add_counts(&counts).await?;
        self.add_again(&drafts.again).await?;
        Ok(settled)
    }

    /// What the jobs of drafts have.
    async fn held(&mut self, drafts: &Drafts<'_, '_>) -> Result<HashMap<CompactString, Held>, StoreError> {
        let jobs: HashSet<&str> = drafts
            .new
            .iter()
            .map(|draft| draft.group.job.id.as_str())
            .collect();
        let jobs: Vec<&str> = jobs.into_iter().collect();
        let mut held: HashMap<CompactString, Held> = HashMap::new();
        for lot in jobs.chunks(LOT) {
            let mut sql = Sql::new(
                "SELECT id, job_id, type, status, endpoint, port, transport FROM detections WHERE job_id IN ",
            )
            .once();
            sql.texts(lot.iter().copied());
            for row in sql.fetch_all(self.connection()).await? {
                let kind = DetectionType::parse(get(&row, "type")?);
                let status = Status::parse(get(&row, "status")?).unwrap_or(Status::New);
                // Of a newer program: it has its own numbers.
                let (Some(kind), Some(target)) = (kind, target(&row)?) else {
                    continue;
                };
                held.entry(get::<&str>(&row, "job_id")?.into())
                    .or_default()
                    .insert((kind, target), get(&row, "id")?, status);
            }
        }
        Ok(held)
    }

    /// The rule that covers a draft.
    async fn covering(
        &mut self,
        draft: &Draft<'_, '_>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let job = draft.group.job;
        let process = if rules.ask_processes() {
            self.process(draft).await?
        } else {
            None
        };
        let subject = Subject {
            kind: draft.kind,
            owner: &job.owner,
            repo: &job.repo,
            workflow: &job.workflow,
            target: &draft.target,
            process: process.as_deref(),
        };
        Ok(rules.covering(&subject, now).map(|rule| rule.text().id.clone()))
    }

    /// The process that an agent reported for it, when there is exactly one.
    async fn process(&mut self, draft: &Draft<'_, '_>) -> Result<Option<String>, StoreError> {
        let event = draft.group.event;
        if let Some(process) = &event.process {
            return Ok(Some(process.name.to_string()));
        }
        let address = event.address.map(|address| address.to_string());
        let rows = sqlx::query(
            "SELECT DISTINCT process FROM process_reports WHERE job_id = $1 AND \
             ((name <> '' AND name = $2) OR (address <> '' AND address = $3 AND port = $4)) LIMIT 2",
        )
        .bind(draft.group.job.id.as_str())
        .bind(event.name.as_deref().unwrap_or_default())
        .bind(address.unwrap_or_default())
        .bind(i64::from(draft.target.port))
        .fetch_all(self.connection())
        .await?;
        match rows.as_slice() {
            [one] => get(one, "process").map(Some),
            _ => Ok(None),
        }
    }

    async fn insert_detections(
        &mut self,
        new: &[(&Draft<'_, '_>, Option<String>)],
    ) -> Result<(), StoreError> {
        let mut rows = new.iter();
        for lot in lots(new.len()) {
            let mut sql = Sql::new(
                "INSERT INTO detections (id, type, severity, status, owner, repo, workflow, job_id, run_id, \
                 endpoint, transport, suppression, job, evidence, port, first_at, last_at, count, expected, \
                 further, changed_at, note, changed_by) VALUES ",
            )
            .many(self.backend());
            for (at, (draft, rule)) in rows.by_ref().take(lot).enumerate() {
                let (group, job) = (draft.group, draft.group.job);
                let status = rule.as_ref().map_or(Status::New, |_| Status::Suppressed);
                let evidence = detection::evidence(group.event, &draft.target, group.trust(), &draft.outside);
                sql.push(if at == 0 { "(" } else { ", (" }).text(&draft.id);
                for text in [
                    draft.kind.as_str(),
                    draft.severity.as_str(),
                    status.as_str(),
                    &job.owner,
                    &job.repo,
                    &job.workflow,
                    &job.id,
                    &job.run_id,
                    &draft.target.endpoint,
                    draft.target.transport.as_str(),
                    rule.as_deref().unwrap_or_default(),
                ] {
                    sql.push(", ").text(text);
                }
                sql.push(", ").owned(to_json(job)?);
                sql.push(", ").owned(to_json(&evidence)?);
                for number in [
                    i64::from(draft.target.port),
                    Micros::from(group.first).0,
                    Micros::from(group.last).0,
                    count(group.calls),
                    i64::from(rule.is_some()),
                ] {
                    sql.push(", ").number(number);
                }
                sql.push(", 0, 0, '', '')");
            }
            // Each was looked for; a surprise must not be why events are not stored.
            sql.push(" ON CONFLICT (job_id, type, endpoint, port, transport) DO NOTHING");
            sql.execute(self.connection()).await?;
        }
        Ok(())
    }

    /// Adds to detections by their ids.
    async fn add_again(&mut self, again: &HashMap<String, Count>) -> Result<(), StoreError> {
        for (id, sum) in again {
            sqlx::query(
                "UPDATE detections SET count = CASE WHEN count + $2 > 9007199254740992 THEN 9007199254740992 \
                 ELSE count + $2 END, \
                 last_at = CASE WHEN last_at < $3 THEN $3 ELSE last_at END WHERE id = $1",
            )
            .bind(id)
            .bind(count(sum.times))
            .bind(Micros::from(sum.last).0)
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}
