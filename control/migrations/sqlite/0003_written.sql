-- Attachments as a client of the Harden-Runner wire wrote them: spelling and order, which scopes don't keep and which it
-- compares with what it reads. What is attached stands in `attachments` alone.

CREATE TABLE written_attachments (
    policy_id TEXT NOT NULL PRIMARY KEY REFERENCES policies (id),
    written TEXT NOT NULL
);
