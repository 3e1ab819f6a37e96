-- Sums that pages are made of, filled with the events (store/sums.rs), so that none of them walks through the record.
-- Days are days since 1970, UTC; hours are hours since 1970; absent text is empty.

-- The id of an event that is no permit; empty for permits, which the indexes of refusals leave out. An older program that
-- still runs beside this one does not know it: what it stores from here on has none (NULL) until it is filled in. First of
-- all, for nobody stores an event from here until the sums and marks below are made of what is there.
ALTER TABLE events ADD COLUMN refused_id TEXT COLLATE "C" DEFAULT '';
ALTER TABLE events ALTER COLUMN refused_id DROP DEFAULT;

-- What a gateway's nonsense made of sums: no more than can be added up by the million.
UPDATE rollups SET verdicts = 1099511627776 WHERE verdicts > 1099511627776;
UPDATE event_losses SET dropped = 1099511627776 WHERE dropped > 1099511627776;

-- Verdicts by hour; an event without a job is nobody's (owner empty).
CREATE TABLE verdict_hours (
    owner TEXT COLLATE "C" NOT NULL,
    hour BIGINT NOT NULL,
    verdict TEXT COLLATE "C" NOT NULL,
    verdicts BIGINT NOT NULL,
    PRIMARY KEY (owner, hour, verdict)
);
CREATE INDEX verdict_hours_by_hour ON verdict_hours (hour);

-- Verdicts by workflow and day. Search suffixes are among the refusals and counted again.
CREATE TABLE workflow_days (
    repo TEXT COLLATE "C" NOT NULL,
    workflow TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    cluster TEXT COLLATE "C" NOT NULL,
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
    CAST(LEAST(SUM(CASE WHEN verdict = 'permit' THEN LEAST(verdicts, 1099511627776) ELSE 0 END), 9007199254740992) AS BIGINT),
    CAST(LEAST(SUM(CASE WHEN verdict = 'refuse' THEN LEAST(verdicts, 1099511627776) ELSE 0 END), 9007199254740992) AS BIGINT),
    CAST(LEAST(SUM(CASE WHEN verdict = 'would-refuse' THEN LEAST(verdicts, 1099511627776) ELSE 0 END), 9007199254740992) AS BIGINT),
    CAST(LEAST(SUM(CASE WHEN reason = 'search-suffix' THEN LEAST(verdicts, 1099511627776) ELSE 0 END), 9007199254740992) AS BIGINT),
    MAX(last_at)
FROM rollups
WHERE owner <> '' AND day >= CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) / 86400 - 30
GROUP BY repo, workflow, day, owner, cluster;

-- Verdicts and bytes by job. `day` is that of the first event: it never changes, so its index costs nothing later.
CREATE TABLE job_sums (
    job_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
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
    policy TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
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
    gateway TEXT COLLATE "C" NOT NULL,
    network TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    endpoint TEXT COLLATE "C" NOT NULL,
    port BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    verdict TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    verdicts BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (day, gateway, network, source, endpoint, port, kind, verdict, reason)
);

-- Single numbers of this half: since when sums are complete (0: since ever), and the last event whose `refused_id` may
-- still have to be filled in (0: none).
CREATE TABLE event_marks (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO event_marks (name, value) SELECT 'sums-since',
    CASE WHEN EXISTS (SELECT 1 FROM rollups) THEN CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) * 1000000 ELSE 0 END;
INSERT INTO event_marks (name, value) SELECT 'refused-unfilled', COALESCE(MAX(seq), 0) FROM events;

CREATE INDEX events_refused ON events (at) WHERE refused_id <> '';
CREATE INDEX events_refused_by_id ON events (refused_id, at) WHERE refused_id <> '';
CREATE INDEX events_refused_of_repo ON events (repo, at) WHERE refused_id <> '';
CREATE INDEX events_unfilled ON events (seq) WHERE refused_id IS NULL;

CREATE INDEX rollups_refused ON rollups (day, owner, endpoint) WHERE verdict <> 'permit';
-- Which endpoints an organization reached first, the newest last.
CREATE INDEX baseline_endpoints_by_first ON baseline_endpoints (first_at, scope) WHERE substr(scope, 1, 4) = 'org:';
CREATE INDEX detections_by_state ON detections (status, severity, owner);
