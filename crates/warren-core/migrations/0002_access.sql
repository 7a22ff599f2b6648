-- Whose sandboxes are: every sandbox belongs to a project. A limit that is NULL is none.
CREATE TABLE projects (
    name         TEXT    NOT NULL PRIMARY KEY,
    created_at   INTEGER NOT NULL,
    sandboxes    INTEGER,
    memory_bytes INTEGER
) WITHOUT ROWID, STRICT;

-- What proves to be somebody from afar: of each key its hash, never the key.
-- `project` is NULL for a key that reads metrics and nothing else.
CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL,
    project      TEXT    REFERENCES projects (name),
    hash         BLOB    NOT NULL UNIQUE,
    prefix       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) WITHOUT ROWID, STRICT;

-- The project that the local socket works in; what it made before there were projects is its.
INSERT INTO projects (name, created_at) VALUES ('default', CAST(unixepoch('subsec') * 1000 AS INTEGER));
UPDATE sandboxes SET owner = 'default' WHERE owner = 'local';
UPDATE events SET owner = 'default' WHERE owner = 'local';
UPDATE OR REPLACE idempotency_keys SET owner = 'default' WHERE owner = 'local';
