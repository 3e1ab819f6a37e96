-- The store's tables. Text and 64-bit integers only, so that one SQL text serves SQLite and PostgreSQL; times are
-- microseconds since 1970, lists and records are JSON text.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- What changed for gateways, in commit order. A row says *what* to look at again, not what it became.
CREATE TABLE changes (
    generation INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    -- gateways that need to hear of it; empty for all of them
    group_name TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX changes_by_group ON changes (group_name, generation);

CREATE TABLE policies (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- block, audit, or empty when the document leaves egress to the next scope
    mode TEXT NOT NULL,
    lockdown BIGINT NOT NULL,
    endpoints BIGINT NOT NULL,
    -- the parsed form, as the API shows it
    parsed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX policies_by_name ON policies (owner, name) WHERE deleted_at IS NULL;

CREATE TABLE policy_versions (
    policy_id TEXT NOT NULL REFERENCES policies (id),
    version BIGINT NOT NULL,
    -- now or next-job
    apply TEXT NOT NULL,
    -- jobs that began at this generation or later are governed by it
    since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    -- last: SQLite reads what stands before it without the pages of a long text
    yaml TEXT NOT NULL,
    PRIMARY KEY (policy_id, version)
);

-- Endpoint sets that a living policy needs: named by a version that may still govern somebody.
CREATE TABLE policy_sets (
    policy_id TEXT NOT NULL REFERENCES policies (id),
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (policy_id, name)
);
CREATE INDEX policy_sets_by_set ON policy_sets (owner, name);

CREATE TABLE endpoint_sets (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    yaml TEXT NOT NULL,
    endpoints BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (owner, name)
);

CREATE TABLE attachments (
    scope TEXT NOT NULL PRIMARY KEY,
    policy_id TEXT NOT NULL REFERENCES policies (id),
    attached_at BIGINT NOT NULL,
    attached_by TEXT NOT NULL
);
CREATE INDEX attachments_by_policy ON attachments (policy_id);

-- History: a chain of hashes over everything that anybody changed.
CREATE TABLE audit_log (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    subject TEXT NOT NULL,
    token_id TEXT,
    via TEXT NOT NULL,
    action TEXT NOT NULL,
    owner TEXT NOT NULL,
    target TEXT NOT NULL,
    policy_id TEXT,
    detail TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_log_by_policy ON audit_log (policy_id, seq);
CREATE INDEX audit_log_by_owner ON audit_log (owner, seq);
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_grows BEFORE DELETE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
-- INSERT OR REPLACE deletes without the trigger above.
CREATE TRIGGER audit_log_follows BEFORE INSERT ON audit_log
WHEN NEW.seq <> (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit_log)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    owners TEXT NOT NULL,
    repos TEXT NOT NULL,
    networks TEXT NOT NULL,
    cluster TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

CREATE TABLE gateways (
    name TEXT NOT NULL PRIMARY KEY,
    -- gateways of one group share leases; a gateway without one is a group of its own
    group_name TEXT NOT NULL,
    networks TEXT NOT NULL,
    program TEXT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);

CREATE TABLE issuers (
    issuer TEXT NOT NULL PRIMARY KEY,
    audience TEXT NOT NULL,
    record TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Jobs and the leases that they hold or held. `id` is both.
CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    group_name TEXT NOT NULL,
    gateway TEXT NOT NULL,
    network TEXT NOT NULL,
    owner TEXT NOT NULL,
    repo TEXT NOT NULL,
    workflow TEXT NOT NULL,
    job TEXT NOT NULL,
    run_id TEXT NOT NULL,
    assurance TEXT NOT NULL,
    -- the whole lease as gateways know it
    record TEXT NOT NULL,
    began BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    ended_by TEXT,
    ending TEXT
);
CREATE INDEX jobs_by_repo ON jobs (owner, repo, started_at, id);
CREATE INDEX jobs_by_start ON jobs (started_at, id);
CREATE INDEX jobs_alive ON jobs (expires_at) WHERE ended_at IS NULL;
CREATE INDEX jobs_alive_in_group ON jobs (group_name, id) WHERE ended_at IS NULL;
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;

-- Which living lease holds which source.
CREATE TABLE lease_sources (
    group_name TEXT NOT NULL,
    source TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (group_name, source)
);
CREATE INDEX lease_sources_by_source ON lease_sources (source);
CREATE INDEX lease_sources_by_job ON lease_sources (job_id);

-- Whose lease on which source ended last without anybody's word that its machine is gone: gateways may still have the
-- source in quarantine, and a provisioner that frees it names no job.
CREATE TABLE ended_sources (
    group_name TEXT NOT NULL,
    source TEXT NOT NULL,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (group_name, source)
);
CREATE INDEX ended_sources_by_job ON ended_sources (job_id);

-- Proofs that are good once.
CREATE TABLE proofs (
    issuer TEXT NOT NULL,
    key TEXT NOT NULL,
    job_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, key)
);
CREATE INDEX proofs_by_expiry ON proofs (expires_at);

-- The global block list. A removed entry stays until no gateway can need to hear of it.
CREATE TABLE block_entries (
    layer TEXT NOT NULL,
    pattern TEXT NOT NULL,
    -- empty for entries that are not the deployment's own
    id TEXT NOT NULL,
    reason TEXT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    -- the generation that added or removed it
    changed BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    PRIMARY KEY (layer, pattern)
);
CREATE INDEX block_entries_by_id ON block_entries (id) WHERE layer = 'deployment';
CREATE INDEX block_entries_by_change ON block_entries (changed);
CREATE INDEX block_entries_expiring ON block_entries (expires_at) WHERE expires_at IS NOT NULL;
