"""What can be wrong with cold in a directory: rights, space, and file systems that cannot keep the promise."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from sessionmanager.model.finding import ROUND_TRIPS, Finding, bad, note, ok, round_trip

FREE_BYTES_MIN: Final = 1 << 30
SYNC_SLOW_MS: Final = 20.0


async def diagnose(url: str, **_: Any) -> AsyncIterator[Finding]:
    """Look at the directory of `file:///path`. Nothing is left there."""
    root = Path(unquote(urlsplit(url).path))
    for finding in await asyncio.to_thread(lambda: list(_look(root))):
        yield finding


def _look(root: Path) -> Iterator[Finding]:
    if not root.exists():
        yield note("reach", f"{root} is not there yet", "the first `sessionmanager serve` makes it")
        return
    if not root.is_dir() or not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield bad("reach", f"{root} is no directory that this user may read and write", "give it to the service's user")
        return
    yield ok("reach", f"{root} is there")
    if root.stat().st_mode & 0o077:
        yield note("rights", "others may look into the directory", f"chmod 700 {root}")
    free = shutil.disk_usage(root).free
    told = f"{free / (1 << 30):.1f} GiB are free"
    yield ok("space", told) if free >= FREE_BYTES_MIN else bad("space", told, "make room: uploads will be refused")
    yield from _links(root)


def _links(root: Path) -> Iterator[Finding]:
    """Whether a file can be put once: made, synced, and given a name that is refused the second time."""
    folder = root / "_temp"
    draft, name = folder / f"doctor-{secrets.token_hex(8)}", folder / f"doctor-{secrets.token_hex(8)}"
    seconds: list[float] = []
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, b"doctor")
                os.fsync(handle)
            finally:
                os.close(handle)
            seconds.append(time.perf_counter() - began)
        os.link(draft, name)
        try:
            os.link(draft, name)
        except FileExistsError:
            yield ok("put once", "a name that is taken is refused")
        else:
            yield bad("put once", "a name that is taken is given away again", "use another file system")
        yield round_trip(seconds, slow_ms=SYNC_SLOW_MS, mend="archiving waits for this disk; a faster one would help")
    except OSError as error:
        yield bad(
            "put once", f"a file cannot be kept ({error.strerror})", "use a file system with hard links and fsync"
        )
    finally:
        for path in (draft, name):
            path.unlink(missing_ok=True)
