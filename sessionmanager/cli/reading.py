"""Reading a log to its end, or for as long as somebody watches: what `tail` and `export` do."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeVar

import click
import msgspec

from sessionmanager.cli.failures import Gone
from sessionmanager.client.client import PlainClient, one_line
from sessionmanager.client.problems import NotOurs
from sessionmanager.errors import SessionManagerError

T = TypeVar("T")
PAGE: Final = 200
PATIENCE_SECONDS: Final = 60.0
"""How long a service that was there may be away before a reader gives up."""
PAUSE_SECONDS_MAX: Final = 5.0
PROGRESS_SECONDS: Final = 0.5


class _Seq(msgspec.Struct):
    seq: int


class _Count(msgspec.Struct):
    entry_count: int
    version: int


def _decode(line: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(line, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NotOurs("the answer is not an entry or a session") from None


def _seq(line: bytes) -> int:
    return _decode(line, _Seq).seq


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the service says to wait or cannot be reached, for at most `PATIENCE_SECONDS`."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    told = False
    while True:
        try:
            return await call()
        except SessionManagerError as error:
            pause = min(error.retry_after_seconds or 1.0, PAUSE_SECONDS_MAX)
            if error.remedy != "wait" or time.monotonic() + pause > give_up_at:
                raise
            if not told:
                click.echo(f"{error.type}: waiting", err=True)
                told = True
            await asyncio.sleep(pause)


async def follow_entries(
    client: PlainClient, id: str, *, newest: int, interval_seconds: float | None, write: Callable[[bytes], None]
) -> None:
    """Write the newest entries, oldest of them first, then each that comes. interval_seconds: None = no more then.

    No entry is left out or written twice: what comes next is asked for by the last seq that was written.
    """
    first = await client.entries(id, order="desc", limit=max(newest, 1))
    lines = first.lines[::-1]
    after = _seq(lines[-1]) if lines else 0
    for line in lines if newest else ():
        write(line)
    while interval_seconds is not None:
        page = await patiently(partial(client.entries, id, after=after, limit=PAGE))
        for line in page.lines:
            write(line)
            after = _seq(line)
        if len(page.items) < PAGE:
            await asyncio.sleep(interval_seconds)


async def export_session(client: PlainClient, id: str, file: IO[bytes]) -> None:
    """The head on one line, then every entry it counts, each on one: what comes meanwhile is left out."""
    head = (await client.get_raw(id, entries=0)).body
    count = _decode(head, _Count)
    file.write(one_line(head) + b"\n")
    after, written, shown_at = 0, 0, 0.0
    while after < count.entry_count:
        end = count.entry_count + 1
        page = await patiently(partial(client.entries, id, after=after, before=end, limit=PAGE))
        lines = page.lines
        if not lines or _seq(lines[-1]) <= after:
            raise Gone(f"the log ends at {after} of {count.entry_count} entries", "export it again")
        file.writelines(line + b"\n" for line in lines)
        after = _seq(lines[-1])
        written += len(lines)
        if time.monotonic() - shown_at > PROGRESS_SECONDS:
            shown_at = time.monotonic()
            _progress(written, count.entry_count)
    _progress(written, count.entry_count, last=True)


def _progress(written: int, of: int, *, last: bool = False) -> None:
    """Rewritten in place on a terminal; elsewhere only the last line is of use."""
    text = f"{written:,} of {of:,} entries"
    if sys.stderr.isatty():
        click.echo(f"\r{text}", err=True, nl=last)
    elif last:
        click.echo(text, err=True)


@contextmanager
def open_export(path: Path | None) -> Generator[IO[bytes]]:
    """stdout, or a file that takes its name only when everything is in it and on the disk."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
