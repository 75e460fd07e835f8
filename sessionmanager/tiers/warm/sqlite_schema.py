"""The tables of the embedded warm tier, how they are made and migrated, and how a connection is set up.

Positions: rows that belong to one session or one tenant lie side by side under one integer key, so that a commit
touches one leaf and a range is one seek: `entries` under `no << 32 | seq`, `parts` under `no << 3 | part`, `trail`
under `tenant << 40 | n`. A row of such a table may fill its page; WITHOUT ROWID would spill it at a quarter.

The audit trail is also the memory of commit ids: the lines of a session form a chain from `sessions.last` on, so that
finding a commit needs no index, and an append dirties no page for one (`sqlite_trail`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from sessionmanager.errors import TierUnavailable
from sessionmanager.model.head import PARTS

APPLICATION_ID: Final = 0x53455353  # "SESS": another program's database is refused, not migrated
CHECKPOINT_PAGES: Final = 4_000
"""Pages of log (16 MiB) after which the writer copies them into the database: rare, as each copy costs two syncs."""
LOG_BYTES_MAX: Final = 64 * 1024 * 1024
"""The log file is cut back to this after a checkpoint."""
BUSY_MS: Final = 100
"""How long the writer waits for a lock that only a program beside the service can hold. It waits on the event loop."""
CACHE_KIB: Final = 32 * 1024
STATEMENTS_MAX: Final = 256

ROW_PARTS: Final = ("pulse", "work")
"""Parts that lie in the row of the session, as nearly every commit rewrites them."""
FAR_PARTS: Final = {name: at for at, name in enumerate(p for p in PARTS if p not in ROW_PARTS)}
"""The other parts: name → place in `parts`. The numbers are stored; a new part goes to the end."""
FAR_NAMES: Final = tuple(FAR_PARTS)
assert FAR_NAMES == ("profile", "detail", "context", "index", "keys", "attachments"), "places are part of the format"

SEQ_BITS: Final = 32
PART_BITS: Final = 4
TRAIL_BITS: Final = 40

_TABLES: Final = (
    "CREATE TABLE tenants (no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE sessions (
        no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, rev INTEGER NOT NULL,
        version INTEGER NOT NULL, placement TEXT NOT NULL, last INTEGER, due_at TEXT, hash TEXT, tombstone BLOB,
        pulse BLOB, work BLOB)""",
    "CREATE UNIQUE INDEX sessions_by_id ON sessions (tenant, id)",
    "CREATE INDEX sessions_due ON sessions (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX sessions_erased ON sessions (tenant, hash) WHERE hash IS NOT NULL",
    "CREATE TABLE parts (pos INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE entries (pos INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE trail (pos INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE words (no INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE)",
    """CREATE TABLE trail_named (
        tenant INTEGER NOT NULL, named TEXT NOT NULL, pos INTEGER NOT NULL, PRIMARY KEY (tenant, named, pos))
        WITHOUT ROWID""",
    """CREATE TABLE listings (
        no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL,
        placement TEXT NOT NULL, created_at TEXT NOT NULL, last_activity TEXT NOT NULL, terms TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX listings_created ON listings (tenant, created_at, id)",
    "CREATE UNIQUE INDEX listings_active ON listings (tenant, last_activity, id)",
    """CREATE TABLE terms (
        tenant INTEGER NOT NULL, term TEXT NOT NULL, created_at TEXT NOT NULL, id TEXT NOT NULL, no INTEGER NOT NULL,
        PRIMARY KEY (tenant, term, created_at, id)) WITHOUT ROWID""",
    """CREATE TABLE tallies (
        tenant INTEGER NOT NULL, status TEXT NOT NULL, placement TEXT NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (tenant, status, placement)) WITHOUT ROWID""",
    """CREATE TABLE keys (
        no INTEGER PRIMARY KEY, session INTEGER NOT NULL, scope BLOB NOT NULL, request BLOB NOT NULL,
        version INTEGER NOT NULL, answer BLOB NOT NULL, expires_at TEXT NOT NULL)""",
    "CREATE UNIQUE INDEX keys_by_scope ON keys (session, scope)",
    "CREATE INDEX keys_expiry ON keys (expires_at)",
    """CREATE TABLE entry_ids (
        no INTEGER NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (no, hash)) WITHOUT ROWID""",
    """CREATE TABLE bodies (
        no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, session TEXT NOT NULL, id TEXT NOT NULL,
        data BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX bodies_by_id ON bodies (tenant, session, id)",
    """CREATE TABLE records (
        no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, rev INTEGER NOT NULL,
        data BLOB NOT NULL, expires_at TEXT)""",
    "CREATE UNIQUE INDEX records_by_id ON records (tenant, kind, id)",
    "CREATE INDEX records_expiry ON records (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE TABLE state (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
)
_CALLS: Final = (
    """CREATE TABLE calls (
        no INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, session TEXT NOT NULL,
        version INTEGER NOT NULL DEFAULT 0, state TEXT, gateway TEXT, direction TEXT, caller TEXT, callee TEXT,
        started_at TEXT, settled_at TEXT, data BLOB)""",
    "CREATE UNIQUE INDEX calls_by_id ON calls (tenant, id)",
    "CREATE INDEX calls_by_session ON calls (tenant, session, started_at, id)",
    "CREATE INDEX calls_by_caller ON calls (tenant, caller, started_at, id) WHERE caller IS NOT NULL",
    "CREATE INDEX calls_by_callee ON calls (tenant, callee, started_at, id) WHERE callee IS NOT NULL",
    "CREATE INDEX calls_by_start ON calls (tenant, started_at, id) WHERE started_at IS NOT NULL",
    "CREATE INDEX calls_by_end ON calls (tenant, settled_at, id) WHERE settled_at IS NOT NULL",
    "CREATE INDEX calls_live ON calls (tenant, started_at, id) WHERE settled_at IS NULL AND started_at IS NOT NULL",
)
"""A call that was claimed has no more than its id and session; a session's commits fill the rest (decision 0033)."""
FORMAT: Final = 3
MIGRATIONS: Final[Mapping[int, tuple[int, Sequence[str]]]] = {0: (3, (*_TABLES, *_CALLS)), 2: (3, _CALLS)}
"""Forward only: from a format (`user_version`; 0 = an empty file) to the next, and how. Format 1 was never released."""


def connect(path: str, factory: type[sqlite3.Connection], *, writer: bool) -> sqlite3.Connection:
    """A connection whose durability was set and read back. Only the writer may write or checkpoint.

    Raises TierUnavailable if the library does not keep the settings that acknowledged commits depend on.
    """
    connection = sqlite3.connect(
        path,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time, but not always the same: see `Writer`
        cached_statements=STATEMENTS_MAX,
        factory=factory,
    )
    try:
        _set_up(connection, writer=writer)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, *, writer: bool) -> None:
    wanted: list[tuple[str, object, object]] = [("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2)]
    if writer:
        wanted += [("secure_delete", "ON", 1), ("wal_autocheckpoint", CHECKPOINT_PAGES, CHECKPOINT_PAGES)]
        wanted += [("journal_size_limit", LOG_BYTES_MAX, LOG_BYTES_MAX)]
    else:
        wanted += [("wal_autocheckpoint", 0, 0), ("query_only", "ON", 1)]
    for name, value, expected in wanted:
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        (kept,) = connection.execute(f"PRAGMA {name}").fetchone()
        if kept != expected:
            raise TierUnavailable("warm", f"SQLite keeps {name} at {kept!r} where {expected!r} is needed")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA trusted_schema = OFF")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this version, each step in one transaction.

    Raises TierUnavailable for a database of a newer version or of another program; it is not touched then.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise TierUnavailable("warm", "the file is the database of another program; give another path")
    if version > FORMAT:
        raise TierUnavailable(
            "warm", f"the database has format {version}, this release knows {FORMAT}; use a newer release"
        )
    while version != FORMAT:
        if version not in MIGRATIONS:
            raise TierUnavailable("warm", f"the database has format {version}, which no release had; give another path")
        version, statements = MIGRATIONS[version]
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
