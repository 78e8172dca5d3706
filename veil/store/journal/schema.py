"""The journal's tables, as the steps by which older files become today's. A step that was released is never edited."""

MIGRATIONS = (
    """
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE rounds (
        round BLOB PRIMARY KEY, epoch INTEGER NOT NULL, owner TEXT NOT NULL, object_id BLOB NOT NULL, replica INTEGER NOT NULL,
        circuit TEXT NOT NULL, members BLOB NOT NULL, evaluation BLOB NOT NULL, at_s INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX rounds_by_epoch ON rounds (epoch, owner);
    CREATE TABLE bindings (
        object_id BLOB, generation INTEGER, replica INTEGER, state TEXT NOT NULL, bound BLOB NOT NULL, leaf BLOB NOT NULL,
        resources BLOB NOT NULL, template BLOB NOT NULL, expires_s INTEGER NOT NULL, workload TEXT NOT NULL,
        namespace TEXT NOT NULL, PRIMARY KEY (object_id, generation, replica)) WITHOUT ROWID;
    CREATE TABLE restarts (
        instance TEXT, container TEXT, count INTEGER NOT NULL, last_s REAL NOT NULL, backoff_s REAL NOT NULL,
        PRIMARY KEY (instance, container)) WITHOUT ROWID;
    CREATE TABLE shares (epoch INTEGER PRIMARY KEY, share BLOB NOT NULL);
    CREATE TABLE pending (id TEXT PRIMARY KEY, description TEXT NOT NULL, raw BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE appends (
        shard INTEGER, sequence INTEGER, batch BLOB NOT NULL, PRIMARY KEY (shard, sequence)) WITHOUT ROWID;
    """,
    "CREATE TABLE identity (id BLOB NOT NULL);",
    """
    DROP TABLE appends;
    ALTER TABLE rounds RENAME COLUMN replica TO replicas;
    ALTER TABLE rounds ADD COLUMN asked INTEGER NOT NULL DEFAULT 1;
    """,
    # Of the rounds before this step nobody knows the candidates: they count for everybody (the candidate of no bytes).
    """
    CREATE TABLE decisions (
        epoch INTEGER, candidate BLOB, count INTEGER NOT NULL, PRIMARY KEY (epoch, candidate)) WITHOUT ROWID;
    INSERT INTO decisions SELECT epoch, x'', count(*) FROM rounds GROUP BY epoch;
    """,
    """
    CREATE TABLE telemetry (digest BLOB PRIMARY KEY, candidate BLOB NOT NULL, round BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE namespace_rounds (
        epoch INTEGER, namespace BLOB, count INTEGER NOT NULL, PRIMARY KEY (epoch, namespace)) WITHOUT ROWID;
    INSERT INTO namespace_rounds SELECT epoch, substr(object_id, 1, 16), count(*) FROM rounds GROUP BY 1, 2;
    """,
)
