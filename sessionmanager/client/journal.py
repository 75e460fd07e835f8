"""Where an outbox keeps what is not sent yet: in a file that outlives the process, or nowhere but in memory.

The file is lines, each with its checksum: `put` (what to send), `sent`, `dead`. A line counts when it is whole, so a
process killed at any byte leaves its last line as if it had never been begun, and nobody was told that it is kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol, TypeVar, TypeVarTuple
from zlib import crc32

import msgspec
from msgspec import Raw, Struct

from sessionmanager.errors import SessionManagerError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
COMPACT_BYTES: Final = 1024 * 1024
"""A file under this is never rewritten, however little of it still counts."""
CHECKSUM_CHARS: Final = 8


class OutboxInUse(SessionManagerError):
    """Another process has the file: two would send the same lines in two orders."""

    type = "outbox-in-use"
    title = "Another process has this outbox"
    remedy = "fix"


class NotKept(SessionManagerError):
    """The disk did not take it: it is full, or fails. Nothing is kept and nothing will be sent."""

    type = "not-kept"
    title = "The outbox could not keep it"
    remedy = "wait"


class Record(Struct, frozen=True, omit_defaults=True):
    """One line. n: which append it is about, growing. body: of its request. type, detail: why it is dead."""

    op: Literal["put", "sent", "dead"]
    n: int
    session: str = ""
    key: str = ""
    body: Raw = Raw(b"")
    type: str = ""
    detail: str = ""


class Found(NamedTuple):
    """What a journal held. puts: not sent yet, in order. dead: those of them that were refused, and why."""

    puts: tuple[Record, ...]
    dead: dict[int, Record]
    next_n: int
    damaged: int


class Journal(Protocol):
    """Keeps lines."""

    async def open(self) -> Found:
        """What is there. Raises OutboxInUse."""
        ...

    async def add(self, record: Record, *, durable: bool) -> None:
        """Add a line. durable: it is on the disk on return. Raises NotKept."""
        ...

    async def close(self) -> None: ...


class MemoryJournal:
    """Keeps nothing beyond the process."""

    async def open(self) -> Found:
        return Found((), {}, 1, 0)

    async def add(self, record: Record, *, durable: bool) -> None:
        pass

    async def close(self) -> None:
        pass


_encoder: Final = msgspec.json.Encoder()
_records: Final = msgspec.json.Decoder(Record)


def line_of(record: Record) -> bytes:
    text = _encoder.encode(record)
    return b"%08x %b\n" % (crc32(text), text)


def record_of(line: bytes) -> Record | None:
    """A line without its end; None for one that does not check."""
    checksum, text = line[:CHECKSUM_CHARS], line[CHECKSUM_CHARS + 1 :]
    if checksum != b"%08x" % crc32(text):
        return None
    try:
        return _records.decode(text)
    except msgspec.MsgspecError:
        return None


def read_lines(data: bytes) -> tuple[Found, int, list[bytes]]:
    """What a file's bytes hold, how many of them are whole lines, and the lines that do not check."""
    end = data.rfind(b"\n") + 1
    puts: dict[int, Record] = {}
    dead: dict[int, Record] = {}
    damaged: list[bytes] = []
    next_n = 1
    for line in data[:end].split(b"\n")[:-1]:
        record = record_of(line)
        if record is None:
            damaged.append(line)
            continue
        next_n = max(next_n, record.n + 1)
        if record.op == "put":
            puts[record.n] = record
            dead.pop(record.n, None)
        elif record.op == "sent":
            puts.pop(record.n, None)
            dead.pop(record.n, None)
        elif record.n in puts:
            dead[record.n] = record
    ordered = tuple(puts[n] for n in sorted(puts))
    return Found(ordered, dead, next_n, len(damaged)), end, damaged


class FileJournal:
    """A file for one process at a time; `<name>.lock` beside it says which. All its work is done by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._file = -1
        self._lock = -1
        self._bytes = 0
        self._broken = False
        self._live: dict[int, list[bytes]] = {}
        self._waiting: list[tuple[Record, bool, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def open(self) -> Found:
        try:
            return await self._do(self._open)
        except BaseException as error:
            self._thread.shutdown(wait=False)
            if isinstance(error, OSError):
                raise NotKept(f"the file of the outbox cannot be used: {error.strerror}") from None
            raise

    async def add(self, record: Record, *, durable: bool) -> None:
        """All lines that wait are written, and synced, together."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, durable, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await asyncio.shield(done)

    async def close(self) -> None:
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        await self._do(self._close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _flush(self) -> None:
        """The one place that sends work to the file, so that what is live is what has been written."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            lines = [line_of(record) for record, _, _ in batch]
            try:
                await self._do(self._append, b"".join(lines), any(durable for _, durable, _ in batch))
                for (record, _, _), line in zip(batch, lines, strict=True):
                    self._note(record, line)
                await self._shrink()
            except OSError as error:
                for _, _, done in batch:
                    done.set_exception(NotKept(f"the disk did not take it: {error.strerror}"))
                    done.exception()  # whoever waited may have been cancelled
            else:
                for _, _, done in batch:
                    done.set_result(None)

    def _note(self, record: Record, line: bytes) -> None:
        if record.op == "sent":
            self._live.pop(record.n, None)
        elif record.op == "put":
            self._live[record.n] = [line]
        elif record.n in self._live:
            self._live[record.n].append(line)

    async def _shrink(self) -> None:
        """Write what still counts into a new file, where most of the old one does not. Failing at it costs room."""
        live = b"".join(line for lines in self._live.values() for line in lines)
        if self._bytes > max(COMPACT_BYTES if live else 0, 2 * len(live)):
            with suppress(OSError):
                await self._do(self._rewrite, live)

    # -- in the thread

    def _open(self) -> Found:
        self._lock = self._take_lock()
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            data = self._path.read_bytes()
            found, self._bytes, damaged = read_lines(data)
            if damaged:
                _append_to(self._path.with_name(f"{self._path.name}.damaged"), b"".join(d + b"\n" for d in damaged))
            os.ftruncate(self._file, self._bytes)
            os.fsync(self._file)
            _sync_folder(self._path.parent)
        except BaseException:
            self._close()
            raise
        for record in found.puts:
            self._note(record, line_of(record))
        for record in found.dead.values():
            self._note(record, line_of(record))
        return found

    def _take_lock(self) -> int:
        import fcntl  # not on every system; an outbox in memory needs none

        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise OutboxInUse(f"another process has {self._path.name}: give each its own file") from None
        return lock

    def _append(self, data: bytes, durable: bool) -> None:
        if self._broken:
            raise OSError(0, "the file has failed before: open the outbox anew")
        try:
            _write_all(self._file, data, self._bytes)
        except OSError:
            # What got there of it must not become the beginning of the next line.
            with suppress(OSError):
                os.ftruncate(self._file, self._bytes)
            raise
        self._bytes += len(data)
        if durable:
            try:
                os.fsync(self._file)
            except OSError:
                self._broken = True  # what a failed sync has dropped, a second one does not bring back
                raise

    def _rewrite(self, live: bytes) -> None:
        aside = self._path.with_name(f"{self._path.name}.new")
        new = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(new, live, 0)
            os.fsync(new)
            # Crash here: the old file is whole; the new one is overwritten next time.
            aside.replace(self._path)
        except BaseException:
            os.close(new)
            raise
        os.close(self._file)
        self._file, self._bytes = new, len(live)
        _sync_folder(self._path.parent)

    def _close(self) -> None:
        for handle in (self._file, self._lock):
            if handle >= 0:
                os.close(handle)
        self._file = self._lock = -1


def _write_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _append_to(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "ab") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
