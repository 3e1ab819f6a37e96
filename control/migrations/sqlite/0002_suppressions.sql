-- What is expected, so that nobody is told again. Rules are people's changes, so they stand beside the audit log.

CREATE TABLE detection_suppressions (
    id TEXT NOT NULL PRIMARY KEY,
    -- empty: every one
    type TEXT NOT NULL,
    owner TEXT NOT NULL,
    repo TEXT NOT NULL,
    workflow TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    process TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX detection_suppressions_by_owner ON detection_suppressions (owner, id);
