-- What is normal, and what is not: who reached what first, baselines by scope, detections.

-- That a run was seen (endpoint empty), and what it reached: one row each, with the job that did it first. Attempts of a
-- run are one run; a job without a run is one by the id of its lease.
CREATE TABLE observations (
    repo TEXT NOT NULL,
    run TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    port BIGINT NOT NULL,
    transport TEXT NOT NULL,
    -- trusted, fork, claimed
    trust TEXT NOT NULL,
    workflow TEXT NOT NULL,
    cluster TEXT NOT NULL,
    owner TEXT NOT NULL,
    job TEXT NOT NULL,
    event TEXT NOT NULL,
    ref TEXT NOT NULL,
    head_repo TEXT NOT NULL,
    assurance TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (repo, run, endpoint, port, transport, trust, workflow, cluster)
);
CREATE INDEX observations_by_owner ON observations (owner, at);
CREATE INDEX observations_by_time ON observations (at);

-- Where each scope's baseline stands.
CREATE TABLE baselines (
    scope TEXT NOT NULL PRIMARY KEY,
    -- trusted runs, and those of them after the last change
    runs BIGINT NOT NULL,
    quiet BIGINT NOT NULL,
    -- 0 before there was one
    changed_at BIGINT NOT NULL,
    stable_at BIGINT NOT NULL,
    unsettled BIGINT NOT NULL,
    -- rows of baseline_endpoints that a trusted run reached, those that only strangers did, and what found no room
    endpoints BIGINT NOT NULL,
    strangers BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
CREATE INDEX baselines_by_time ON baselines (last_at);

-- What the jobs of a scope reached.
CREATE TABLE baseline_endpoints (
    scope TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    port BIGINT NOT NULL,
    transport TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    -- of trusted jobs, of forks' pull requests, of claimed identities
    runs BIGINT NOT NULL,
    fork_runs BIGINT NOT NULL,
    claimed_runs BIGINT NOT NULL,
    -- first reached by a trusted run after the baseline was stable once
    late BIGINT NOT NULL,
    -- somebody said that it is expected
    accepted BIGINT NOT NULL,
    -- the detection that told of it; empty
    detection TEXT NOT NULL,
    PRIMARY KEY (scope, endpoint, port, transport)
);
CREATE INDEX baseline_endpoints_by_detection ON baseline_endpoints (detection) WHERE detection <> '';
CREATE INDEX baseline_endpoints_by_time ON baseline_endpoints (last_at);

-- Names that resolvers made of allowed ones by appending a search suffix.
CREATE TABLE suffix_names (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (scope, name)
);
CREATE INDEX suffix_names_by_time ON suffix_names (at);

-- What somebody should look at.
CREATE TABLE detections (
    id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    severity TEXT NOT NULL,
    status TEXT NOT NULL,
    owner TEXT NOT NULL,
    repo TEXT NOT NULL,
    workflow TEXT NOT NULL,
    job_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    port BIGINT NOT NULL,
    transport TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    -- verdicts of the same job that found no room
    further BIGINT NOT NULL,
    -- JSON: the job as events carry it, and what is known
    job TEXT NOT NULL,
    evidence TEXT NOT NULL,
    -- the rule that suppressed it; empty
    suppression TEXT NOT NULL,
    expected BIGINT NOT NULL,
    note TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    UNIQUE (job_id, type, endpoint, port, transport)
);
CREATE INDEX detections_by_owner ON detections (owner, id);
CREATE INDEX detections_by_repo ON detections (repo, id);
CREATE INDEX detections_by_status ON detections (status, id);
CREATE INDEX detections_by_time ON detections (last_at);
