"""The files of the embedded warm tier: where its URL points, and the lock that makes it one process's own."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sessionmanager.errors import TierUnavailable


def path_of(url: str) -> Path:
    """The file of `sqlite:///relative.db` or `sqlite:////absolute.db`. Raises ValueError saying what is wrong."""
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.scheme != "sqlite" or parts.netloc or not path or path == ":memory:" or path.endswith("/"):
        raise ValueError("a SQLite URL names a file: sqlite:///relative.db or sqlite:////absolute.db")
    if parts.query or parts.fragment or "\0" in path:
        raise ValueError("a SQLite URL takes no options: sqlite:///relative.db or sqlite:////absolute.db")
    return Path(path)


def prepare(path: Path) -> int:
    """Make directory and file, readable by their owner only, and take the lock; answers the lock's file descriptor.

    The lock file stays when the lock goes: were it deleted, two processes could each hold a lock of that name.
    Raises TierUnavailable if another process has it, or if the directory cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise TierUnavailable("warm", f"the directory of the database cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        _sync_directory(path.parent)
    except BlockingIOError as error:
        os.close(lock)
        raise TierUnavailable(
            "warm",
            "another process has this data directory open, and only one may: talk to the running "
            "`sessionmanager serve` over HTTP, or stop it first",
        ) from error
    except OSError as error:
        os.close(lock)
        raise TierUnavailable("warm", f"the database cannot be opened: {error.strerror}") from error
    return lock


def _sync_directory(path: Path) -> None:
    """A new file is durable only once its directory is."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
