-- One row per sandbox that exists or ended and was not deleted yet.
-- What is searched for has a column; the rest is one JSON document, `record`.
CREATE TABLE sandboxes (
    id         TEXT    NOT NULL PRIMARY KEY,
    owner      TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    record     TEXT    NOT NULL
) WITHOUT ROWID, STRICT;

-- What happened, append-only. `seq` is given by the one writer, in the order of commits.
CREATE TABLE events (
    seq        INTEGER NOT NULL PRIMARY KEY,
    time       INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    sandbox_id TEXT    NOT NULL,
    detail     TEXT    NOT NULL
) STRICT;

-- Which sandbox a key's first request made. Keys go after a day.
CREATE TABLE idempotency_keys (
    owner       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint INTEGER NOT NULL,
    sandbox_id  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID, STRICT;
