-- What the first pages of lists are read from: indexes that hold all that is counted and searched, and how many entries
-- each layer of the block list has, so that a million of them need not be counted.

CREATE INDEX policies_by_mode ON policies (owner, mode, id) WHERE deleted_at IS NULL;
CREATE INDEX policies_listed ON policies (owner, name, mode, id) WHERE deleted_at IS NULL;
CREATE INDEX policies_deleted ON policies (owner, deleted_at, id) WHERE deleted_at IS NOT NULL;

INSERT INTO meta (key, value)
SELECT 'block-count:' || layer, CAST(COUNT(*) AS TEXT) FROM block_entries WHERE removed = 0 GROUP BY layer;
INSERT INTO meta (key, value)
SELECT 'block-updated:' || layer, CAST(MAX(created_at) AS TEXT) FROM block_entries GROUP BY layer;
