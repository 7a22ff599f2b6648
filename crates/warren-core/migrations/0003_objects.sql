-- Snapshots, templates, volumes and what else is kept for a project: one JSON document each, of a
-- form that its kind knows. All of it is in the server's memory, so nothing is searched for here.
CREATE TABLE objects (
    kind   TEXT NOT NULL,
    id     TEXT NOT NULL,
    owner  TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID, STRICT;
