-- The record of what jobs reached: a database of its own (with SQLite a file of its own), so that a flood of events
-- never stands before a registration or a policy change. Text and 64-bit integers only; times are microseconds since
-- 1970; days are days since 1970, UTC; absent text is empty.

-- Up to where each gateway's spools are stored: what makes "at least once" on the wire "once" here.
CREATE TABLE event_sources (
    gateway TEXT NOT NULL,
    spool TEXT NOT NULL,
    lane TEXT NOT NULL,
    -- everything of the lane up to this number is stored
    stored BIGINT NOT NULL,
    -- verdicts that the gateway dropped, as it last said
    dropped BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (gateway, spool, lane)
);

-- What is missing from the record: verdicts that gateways dropped, by the day on which they said so.
CREATE TABLE event_losses (
    day BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    lane TEXT NOT NULL,
    dropped BIGINT NOT NULL,
    PRIMARY KEY (day, gateway, lane)
);

-- What many events of a day have in common, apart from them; the same may be there twice.
CREATE TABLE event_subjects (
    number INTEGER PRIMARY KEY,
    day BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    owner TEXT NOT NULL,
    repo TEXT NOT NULL,
    workflow TEXT NOT NULL,
    job_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    -- this part of the events as JSON
    head TEXT NOT NULL
);
CREATE INDEX event_subjects_by_day ON event_subjects (day);

-- Raw events, in the order of storing. No column is ever null; not said, because a constraint that can fail makes SQLite
-- copy every page that a statement of many rows changes, before it does.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at BIGINT,
    -- whose it is: its row of event_subjects, and the keys of its job and its repository
    subject BIGINT,
    job BIGINT,
    repo BIGINT,
    -- the name, else the address, that it is about
    endpoint TEXT,
    -- what is its own, as JSON
    body TEXT
);
CREATE INDEX events_by_job ON events (job, at);
CREATE INDEX events_by_repo ON events (repo, at);
CREATE INDEX events_by_time ON events (at);

-- What agents on runners reported of processes, joined to events of the same job by name, or by address and port.
CREATE TABLE process_reports (
    job_id TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    port BIGINT NOT NULL,
    process TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    parent TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (job_id, name, address, port, process, sha256)
);
CREATE INDEX process_reports_by_time ON process_reports (at);

-- Verdicts by day, kept long after their events.
CREATE TABLE rollups (
    day BIGINT NOT NULL,
    cluster TEXT NOT NULL,
    owner TEXT NOT NULL,
    repo TEXT NOT NULL,
    workflow TEXT NOT NULL,
    -- the name, else the address
    endpoint TEXT NOT NULL,
    port BIGINT NOT NULL,
    kind TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    verdicts BIGINT NOT NULL,
    bytes_up BIGINT NOT NULL,
    bytes_down BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (repo, workflow, day, endpoint, port, kind, verdict, reason, owner, cluster)
);
CREATE INDEX rollups_by_day ON rollups (day);
