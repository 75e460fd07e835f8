"""What an error of SQLite means to a caller, and whether the process may go on after it."""

from __future__ import annotations

import sqlite3
from typing import Final

from sessionmanager.errors import DataCorrupt, SessionManagerError, TierUnavailable

_REFUSED: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the database cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened",
    sqlite3.SQLITE_PERM: "the database may not be opened",
    sqlite3.SQLITE_BUSY: "another program holds the database locked",
    sqlite3.SQLITE_LOCKED: "another program holds the database locked",
    sqlite3.SQLITE_NOMEM: "there is no memory left for SQLite",
    sqlite3.SQLITE_INTERRUPT: "the tier is closing",
}
"""Primary result codes after which the same call may succeed later; nothing of it was written."""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT})
"""A row where the head says there is none is a sign of damage, too."""
_SHM_FULL: Final = sqlite3.SQLITE_IOERR_SHMSIZE
"""The shared index could not grow: how a full disk shows where SQLite has no better word for it."""


def code_of(error: sqlite3.Error) -> int:
    """The extended result code; 0 for errors that Python's module raises by itself."""
    return getattr(error, "sqlite_errorcode", 0)


def is_fatal(error: BaseException) -> bool:
    """Whether bytes thought to be on disk may not be: after a failed read, write or sync nothing can be trusted until
    a fresh process has looked at the files (reliability notes, correction 9)."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = code_of(error)
    return code & 0xFF == sqlite3.SQLITE_IOERR and code != _SHM_FULL


def is_refusal(error: BaseException) -> bool:
    """Whether the whole transaction failed for want of space, of a lock or of rights: its members may be sent again."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = code_of(error)
    return code & 0xFF in _REFUSED or code == _SHM_FULL


def translated(error: sqlite3.Error) -> SessionManagerError:
    """Our error for it: DataCorrupt, or TierUnavailable where nothing was written. Names no value and no path."""
    code = code_of(error)
    if code & 0xFF in _CORRUPT:
        return DataCorrupt("the database does not check")
    if code == _SHM_FULL:
        return TierUnavailable("warm", _REFUSED[sqlite3.SQLITE_FULL])
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return TierUnavailable("warm", _REFUSED.get(code & 0xFF, f"SQLite failed: {name}"))
