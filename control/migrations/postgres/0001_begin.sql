-- The store's tables. Text and 64-bit integers only, so that one SQL text serves SQLite and PostgreSQL; times are
-- microseconds since 1970, lists and records are JSON text.
--
-- Texts compare by their bytes, as they do in SQLite, whatever the database's locale.

CREATE TABLE meta (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- What changed for gateways, in commit order. A row says *what* to look at again, not what it became.
CREATE TABLE changes (
    generation BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    -- gateways that need to hear of it; empty for all of them
    group_name TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX changes_by_group ON changes (group_name, generation);

CREATE TABLE policies (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    -- block, audit, or empty when the document leaves egress to the next scope
    mode TEXT COLLATE "C" NOT NULL,
    lockdown BIGINT NOT NULL,
    endpoints BIGINT NOT NULL,
    -- the parsed form, as the API shows it
    parsed TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT COLLATE "C" NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX policies_by_name ON policies (owner, name) WHERE deleted_at IS NULL;

CREATE TABLE policy_versions (
    policy_id TEXT COLLATE "C" NOT NULL REFERENCES policies (id),
    version BIGINT NOT NULL,
    -- now or next-job
    apply TEXT COLLATE "C" NOT NULL,
    -- jobs that began at this generation or later are governed by it
    since BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    -- last: SQLite reads what stands before it without the pages of a long text
    yaml TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (policy_id, version)
);

-- Endpoint sets that a living policy needs: named by a version that may still govern somebody.
CREATE TABLE policy_sets (
    policy_id TEXT COLLATE "C" NOT NULL REFERENCES policies (id),
    owner TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (policy_id, name)
);
CREATE INDEX policy_sets_by_set ON policy_sets (owner, name);

CREATE TABLE endpoint_sets (
    owner TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    yaml TEXT COLLATE "C" NOT NULL,
    endpoints BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (owner, name)
);

CREATE TABLE attachments (
    scope TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    policy_id TEXT COLLATE "C" NOT NULL REFERENCES policies (id),
    attached_at BIGINT NOT NULL,
    attached_by TEXT COLLATE "C" NOT NULL
);
CREATE INDEX attachments_by_policy ON attachments (policy_id);

-- History: a chain of hashes over everything that anybody changed.
CREATE TABLE audit_log (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    token_id TEXT COLLATE "C",
    via TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    policy_id TEXT COLLATE "C",
    detail TEXT COLLATE "C" NOT NULL,
    previous TEXT COLLATE "C" NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_log_by_policy ON audit_log (policy_id, seq);
CREATE INDEX audit_log_by_owner ON audit_log (owner, seq);
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_log_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();

CREATE TABLE tokens (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    digest TEXT COLLATE "C" NOT NULL UNIQUE,
    role TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    owners TEXT COLLATE "C" NOT NULL,
    repos TEXT COLLATE "C" NOT NULL,
    networks TEXT COLLATE "C" NOT NULL,
    cluster TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

CREATE TABLE gateways (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- gateways of one group share leases; a gateway without one is a group of its own
    group_name TEXT COLLATE "C" NOT NULL,
    networks TEXT COLLATE "C" NOT NULL,
    program TEXT COLLATE "C" NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);

CREATE TABLE issuers (
    issuer TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    audience TEXT COLLATE "C" NOT NULL,
    record TEXT COLLATE "C" NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Jobs and the leases that they hold or held. `id` is both.
CREATE TABLE jobs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    group_name TEXT COLLATE "C" NOT NULL,
    gateway TEXT COLLATE "C" NOT NULL,
    network TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    repo TEXT COLLATE "C" NOT NULL,
    workflow TEXT COLLATE "C" NOT NULL,
    job TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    assurance TEXT COLLATE "C" NOT NULL,
    -- the whole lease as gateways know it
    record TEXT COLLATE "C" NOT NULL,
    began BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    ended_by TEXT COLLATE "C",
    ending TEXT COLLATE "C"
);
CREATE INDEX jobs_by_repo ON jobs (owner, repo, started_at, id);
CREATE INDEX jobs_by_start ON jobs (started_at, id);
CREATE INDEX jobs_alive ON jobs (expires_at) WHERE ended_at IS NULL;
CREATE INDEX jobs_alive_in_group ON jobs (group_name, id) WHERE ended_at IS NULL;
CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;

-- Which living lease holds which source.
CREATE TABLE lease_sources (
    group_name TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (group_name, source)
);
CREATE INDEX lease_sources_by_source ON lease_sources (source);
CREATE INDEX lease_sources_by_job ON lease_sources (job_id);

-- Whose lease on which source ended last without anybody's word that its machine is gone: gateways may still have the
-- source in quarantine, and a provisioner that frees it names no job.
CREATE TABLE ended_sources (
    group_name TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (group_name, source)
);
CREATE INDEX ended_sources_by_job ON ended_sources (job_id);

-- Proofs that are good once.
CREATE TABLE proofs (
    issuer TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, key)
);
CREATE INDEX proofs_by_expiry ON proofs (expires_at);

-- The global block list. A removed entry stays until no gateway can need to hear of it.
CREATE TABLE block_entries (
    layer TEXT COLLATE "C" NOT NULL,
    pattern TEXT COLLATE "C" NOT NULL,
    -- empty for entries that are not the deployment's own
    id TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    -- the generation that added or removed it
    changed BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    PRIMARY KEY (layer, pattern)
);
CREATE INDEX block_entries_by_id ON block_entries (id) WHERE layer = 'deployment';
CREATE INDEX block_entries_by_change ON block_entries (changed);
CREATE INDEX block_entries_expiring ON block_entries (expires_at) WHERE expires_at IS NOT NULL;
