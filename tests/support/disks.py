"""Disks that fill up or only read: a small one of their own where this machine lets us mount one, else by injection."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from sessionmanager.tiers.cold import directory
from sessionmanager.tiers.warm import sqlite
from tests.support.sqlite_faults import Faults, an_error

SIZE_BYTES: Final = 16 * 2**20
COMMAND_SECONDS: Final = 30
_FILLER: Final = "filler"


class Disk(Protocol):
    """Where a service keeps its data. `fill` leaves no byte free, `free` gives the space back."""

    folder: Path

    def fill(self) -> None: ...

    def free(self) -> None: ...


@cache
def can_mount() -> bool:
    """Whether this process may mount a file system: it tries."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as name:
        if not _ran("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", name):
            return False
        return _ran("umount", name)


def _ran(*command: str) -> bool:
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False).returncode == 0
    return False


class SmallDisk:
    """A tmpfs of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        file = os.open(self.folder / _FILLER, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for size in (2**20, 4096):
                with suppress(OSError):
                    while os.write(file, b"\0" * size) == size:
                        pass
        finally:
            os.close(file)

    def free(self) -> None:
        (self.folder / _FILLER).unlink()

    def only_read(self) -> None:
        """Whoever opens a file for writing from now on is refused. Only while nobody has one open."""
        assert _ran("mount", "-o", "remount,ro", str(self.folder)), "a disk that nobody uses can be made read-only"

    def write_again(self) -> None:
        assert _ran("mount", "-o", "remount,rw", str(self.folder))


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """A small disk mounted at `folder`."""
    folder.mkdir(exist_ok=True)
    assert _ran("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        assert _ran("umount", str(folder)), "nobody holds a file of it open any more"


class InjectedDisk:
    """An ordinary disk, and an SQLite and a directory tier that are told that it is full, or that it only reads."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, only_reads: bool = False) -> None:
        self.folder = folder
        self._broken = False
        self._faults = Faults()
        self._faults.before = self._before
        self._code = (
            (sqlite3.SQLITE_READONLY, "SQLITE_READONLY") if only_reads else (sqlite3.SQLITE_FULL, "SQLITE_FULL")
        )
        self._errno = errno.EROFS if only_reads else errno.ENOSPC
        opens = partial(sqlite.open_sqlite, factory=self._faults.factory())
        monkeypatch.setattr(sqlite, "open_sqlite", opens)
        real = os.write

        def write(file: int, data: Any) -> int:
            if self._broken:
                raise OSError(self._errno, os.strerror(self._errno))
            return real(file, data)

        monkeypatch.setattr(directory.os, "write", write)

    def _before(self, sql: str) -> None:
        if self._broken and sql.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            raise an_error(*self._code)

    def fill(self) -> None:
        self._broken = True

    def free(self) -> None:
        self._broken = False
