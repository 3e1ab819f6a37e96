-- Sums that pages are made of, filled with the events (store/sums.rs), so that none of them walks through the record.
-- Days are days since 1970, UTC; hours are hours since 1970; absent text is empty.

-- What a gateway's nonsense made of sums: no more than can be added up by the million.
UPDATE rollups SET verdicts = 1099511627776 WHERE verdicts > 1099511627776;
UPDATE event_losses SET dropped = 1099511627776 WHERE dropped > 1099511627776;

-- Verdicts by hour; an event without a job is nobody's (owner empty).
CREATE TABLE verdict_hours (
    owner TEXT NOT NULL,
    hour BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    verdicts BIGINT NOT NULL,
    PRIMARY KEY (owner, hour, verdict)
);
CREATE INDEX verdict_hours_by_hour ON verdict_hours (hour);

-- Verdicts by workflow and day. Search suffixes are among the refusals and counted again.
CREATE TABLE workflow_days (
    repo TEXT NOT NULL,
    workflow TEXT NOT NULL,
    day BIGINT NOT NULL,
    owner TEXT NOT NULL,
    cluster TEXT NOT NULL,
    permits BIGINT NOT NULL,
    refusals BIGINT NOT NULL,
    would_refuse BIGINT NOT NULL,
    suffixes BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (repo, workflow, day, owner, cluster)
);
CREATE INDEX workflow_days_by_owner ON workflow_days (owner, day);
CREATE INDEX workflow_days_by_day ON workflow_days (day);

-- Coverage asks for the last thirty days: what an older program summed of them is there from the start. A row counts
-- for 2^40 at most, so that nothing overflows.
INSERT INTO workflow_days (repo, workflow, day, owner, cluster, permits, refusals, would_refuse, suffixes, last_at)
SELECT repo, workflow, day, owner, cluster,
    MIN(SUM(CASE WHEN verdict = 'permit' THEN MIN(verdicts, 1099511627776) ELSE 0 END), 9007199254740992),
    MIN(SUM(CASE WHEN verdict = 'refuse' THEN MIN(verdicts, 1099511627776) ELSE 0 END), 9007199254740992),
    MIN(SUM(CASE WHEN verdict = 'would-refuse' THEN MIN(verdicts, 1099511627776) ELSE 0 END), 9007199254740992),
    MIN(SUM(CASE WHEN reason = 'search-suffix' THEN MIN(verdicts, 1099511627776) ELSE 0 END), 9007199254740992),
    MAX(last_at)
FROM rollups
WHERE owner <> '' AND day >= CAST(strftime('%s', 'now') AS INTEGER) / 86400 - 30
GROUP BY repo, workflow, day, owner, cluster;

-- Verdicts and bytes by job. `day` is that of the first event: it never changes, so its index costs nothing later.
CREATE TABLE job_sums (
    job_id TEXT NOT NULL PRIMARY KEY,
    day BIGINT NOT NULL,
    permits BIGINT NOT NULL,
    refusals BIGINT NOT NULL,
    would_refuse BIGINT NOT NULL,
    bytes_up BIGINT NOT NULL,
    bytes_down BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE INDEX job_sums_by_day ON job_sums (day);

-- Verdicts by policy (its name), the scope that it came from, its version and day.
CREATE TABLE policy_days (
    policy TEXT NOT NULL,
    scope TEXT NOT NULL,
    version BIGINT NOT NULL,
    day BIGINT NOT NULL,
    permits BIGINT NOT NULL,
    refusals BIGINT NOT NULL,
    would_refuse BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (policy, scope, version, day)
);
CREATE INDEX policy_days_by_day ON policy_days (day, policy, scope);

-- What sources without a lease tried. Bounded: what finds no room is summed under an empty endpoint, then source.
CREATE TABLE stranger_days (
    day BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    network TEXT NOT NULL,
    source TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    port BIGINT NOT NULL,
    kind TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    verdicts BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (day, gateway, network, source, endpoint, port, kind, verdict, reason)
);

-- Single numbers of this half: since when sums are complete (0: since ever), and the last event whose `refused_id` may
-- still have to be filled in (0: none).
CREATE TABLE event_marks (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO event_marks (name, value) SELECT 'sums-since',
    CASE WHEN EXISTS (SELECT 1 FROM rollups) THEN CAST(strftime('%s', 'now') AS INTEGER) * 1000000 ELSE 0 END;
INSERT INTO event_marks (name, value) SELECT 'refused-unfilled', COALESCE(MAX(seq), 0) FROM events;

-- The id of an event that is no permit; empty for permits, which these indexes leave out. No older program stores events
-- from here on: a file is of one process.
ALTER TABLE events ADD COLUMN refused_id TEXT DEFAULT '';
CREATE INDEX events_refused ON events (at) WHERE refused_id <> '';
CREATE INDEX events_refused_by_id ON events (refused_id, at) WHERE refused_id <> '';
CREATE INDEX events_refused_of_repo ON events (repo, at) WHERE refused_id <> '';

CREATE INDEX rollups_refused ON rollups (day, owner, endpoint) WHERE verdict <> 'permit';
-- Which endpoints an organization reached first, the newest last.
CREATE INDEX baseline_endpoints_by_first ON baseline_endpoints (first_at, scope) WHERE substr(scope, 1, 4) = 'org:';
CREATE INDEX detections_by_state ON detections (status, severity, owner);
