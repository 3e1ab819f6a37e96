-- Every workflow that ever registered a job, kept long after the job: what coverage, pickers and overviews are made of.
-- Jobs whose identity has a text of more than 255 bytes are not noted here: texts of events are cut there, and four
-- longer ones fit no index. Such a job is seen by its events.

CREATE TABLE workflows_seen (
    owner TEXT COLLATE "C" NOT NULL,
    -- owner/name; empty when the job named none
    repo TEXT COLLATE "C" NOT NULL,
    workflow TEXT COLLATE "C" NOT NULL,
    cluster TEXT COLLATE "C" NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    jobs BIGINT NOT NULL,
    -- of the job that began last; empty where only events told of it
    last_job TEXT COLLATE "C" NOT NULL,
    assurance TEXT COLLATE "C" NOT NULL,
    network TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (owner, repo, workflow, cluster)
);
CREATE INDEX workflows_seen_by_time ON workflows_seen (last_at);

INSERT INTO workflows_seen (owner, repo, workflow, cluster, first_at, last_at, jobs, last_job, assurance, network)
SELECT owner, repo, workflow, cluster, first_at, started_at, jobs, id, assurance, network FROM (
    SELECT known.*,
        MIN(started_at) OVER same AS first_at,
        COUNT(*) OVER same AS jobs,
        ROW_NUMBER() OVER (PARTITION BY owner, repo, workflow, cluster ORDER BY started_at DESC, id DESC) AS place
    FROM (
        SELECT owner, repo, workflow, started_at, id, assurance, network,
            -- jsonb takes no NUL, which a wrong gateway could have sent in a field that was not looked at
            CASE WHEN position('\u0000' IN record) > 0 THEN ''
                ELSE COALESCE(record::jsonb -> 'identity' ->> 'cluster', '') END AS cluster
        FROM jobs
    ) AS known
    WHERE octet_length(owner) <= 255 AND octet_length(repo) <= 255 AND octet_length(workflow) <= 255
        AND octet_length(cluster) <= 255
    WINDOW same AS (PARTITION BY owner, repo, workflow, cluster)
) AS newest WHERE place = 1;

-- Who held a source last, whichever group it was in.
CREATE INDEX ended_sources_by_source ON ended_sources (source);

-- Jobs that run, newest first; how many of an owner's run; an owner's, newest first; those of a run, newest first.
CREATE INDEX jobs_alive_by_start ON jobs (started_at, id) WHERE ended_at IS NULL;
CREATE INDEX jobs_alive_by_owner ON jobs (owner) WHERE ended_at IS NULL;
CREATE INDEX jobs_by_owner ON jobs (owner, started_at, id);
CREATE INDEX jobs_by_run ON jobs (repo, run_id, started_at, id);

-- Texts of the default policies of a gateway's networks, by network: only what jobs would fall back to asks for them.
ALTER TABLE gateways ADD COLUMN defaults TEXT NOT NULL DEFAULT '{}';
