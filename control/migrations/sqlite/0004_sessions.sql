-- Sessions: tokens of a kind of their own, made by showing a token (`parent`) or by a login at an issuer (`person`). They
-- end by themselves, with their parent, or when their person leaves; the list of tokens does not show them.

ALTER TABLE tokens ADD COLUMN kind TEXT NOT NULL DEFAULT 'token';
ALTER TABLE tokens ADD COLUMN parent TEXT;
ALTER TABLE tokens ADD COLUMN person TEXT;

CREATE INDEX tokens_by_parent ON tokens (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX tokens_by_person ON tokens (person, id) WHERE person IS NOT NULL;

-- The log is asked by who, what and which thing.
CREATE INDEX audit_log_by_subject ON audit_log (subject, seq);
CREATE INDEX audit_log_by_token ON audit_log (token_id, seq);
CREATE INDEX audit_log_by_action ON audit_log (action, seq);
CREATE INDEX audit_log_by_target ON audit_log (target, seq);
CREATE INDEX audit_log_by_time ON audit_log (at, seq);
