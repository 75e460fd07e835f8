"""Cold in a directory: one file an object, published by a hard link, never overwritten.

An object is written to a file of its own under `_temp`, made durable, and only then linked to its name, which fails if
the name is taken; so a crash at any point leaves the whole object or nothing (reliability notes, correction 7g).
No symbolic link below the root is followed: every step is opened by itself, relative to the one before.

    root/_temp/<random>                    being written; its writer holds a lock on it
    root/tenant/session/segment-1_         the object `tenant/session/segment-1`

A file's name ends in `_` and a step over `PIECE_CHARACTERS` is cut into folders that end in `+`, characters that no
object's name has: so `a` and `a/b` both fit, and a name of 512 characters fits a file system that allows 255 a step.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid
from asyncio import Future, get_running_loop
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from sessionmanager.errors import AlreadyExists, NotFound, OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.cold.names import check_name, check_prefix, in_pieces
from sessionmanager.tiers.cold.protocol import Cold

FOLDERS_KNOWN_MAX: Final = 10_000
READ_BYTES: Final = 1 << 20
_TEMP: Final = "_temp"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a pipe that somebody put there would hold the thread for ever.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

T = TypeVar("T")


@asynccontextmanager
async def open_directory(url: str, *, threads: int = 4, calls_max: int = 64) -> AsyncGenerator[Cold]:
    """A `Cold` in the directory of a `file:///path`, which is made if it is not there (0700, files 0600).

    Args: threads: how many calls work at once. calls_max: how many may work or wait; more are refused at once.
    Raises: ValueError for another URL. TierUnavailable("cold"): the directory cannot be made or opened.
    Several processes may share it; whether a file system shared between machines keeps `link` atomic is its own affair.
    """
    parts = urlsplit(url)
    root = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or not root.is_absolute():
        raise ValueError("the directory cold tier is file:///path, with an absolute path and nothing more")
    pool = ThreadPoolExecutor(threads, thread_name_prefix="cold")
    loop = get_running_loop()
    try:
        tree = await loop.run_in_executor(pool, _Tree, root)
        cold = DirectoryCold(tree, pool, calls_max)
        try:
            yield cold
        finally:
            cold.closed = True
            await loop.run_in_executor(None, pool.shutdown)  # waits for the calls that have begun
            tree.close()
    finally:
        pool.shutdown(wait=False)


class DirectoryCold:
    """See `open_directory`. A cancelled call that has begun is finished by its thread: nothing is half done."""

    def __init__(self, tree: _Tree, pool: ThreadPoolExecutor, calls_max: int) -> None:
        self.closed = False
        self._tree = tree
        self._pool = pool
        self._calls_max = calls_max
        self._calls = 0

    async def put_once(self, name: str, data: bytes) -> None:
        await self._run(self._tree.put, _path(check_name(name)), data)

    async def get(self, name: str) -> bytes:
        return await self._run(self._tree.get, _path(check_name(name)))

    async def list(self, prefix: str) -> list[str]:
        return await self._run(self._tree.names, _folders(check_prefix(prefix)), prefix)

    async def remove(self, name: str) -> None:
        await self._run(self._tree.remove, _path(check_name(name)))

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        if self.closed or self._calls >= self._calls_max:
            raise TierUnavailable("cold", "the cold tier is closed" if self.closed else "the cold tier is busy")
        self._calls += 1
        future = get_running_loop().run_in_executor(self._pool, work, *args)
        future.add_done_callback(self._left)
        return await future

    def _left(self, _: Future[Any]) -> None:
        self._calls -= 1


class _Tree:
    """The same, blocking: the thread pool's side. Paths are lists of checked pieces; the last one is a file."""

    def __init__(self, root: Path) -> None:
        with _refusing():
            _make_durable(root)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Held while a name is linked, and while a folder is made or taken away: an object is never linked into a
        # folder that is going, nor acknowledged in one whose own entry is not yet durable.
        self._structure = Lock()
        self._known: set[tuple[str, ...]] = set()  # folders whose entry this process has made durable
        self._sweep()

    def close(self) -> None:
        os.close(self._root)

    def put(self, path: list[str], data: bytes) -> None:
        with ExitStack() as stack:
            with _refusing():
                temp_folder, temp = stack.enter_context(self._temporary(data))
                with self._structure:
                    folder = stack.enter_context(self._walk(path[:-1], make=True))[-1]
                    linked = _link(temp_folder, temp, folder, path[-1])
                if not linked and not _same(folder, path[-1], data):
                    raise AlreadyExists("another object has this name")
            # From here on the object can be seen; also one that was there may have come a moment ago.
            with _not_knowing():
                os.fsync(folder)

    def get(self, path: list[str]) -> bytes:
        with _refusing():
            try:
                with self._walk(path[:-1]) as folders, _open_file(folders[-1], path[-1]) as file:
                    return file.read()
            except FileNotFoundError:
                raise NotFound("no object has this name") from None

    def names(self, folders: list[str], prefix: str) -> list[str]:
        found: list[str] = []
        with _refusing(), suppress(FileNotFoundError), self._walk(folders) as opened:
            _collect(opened[-1], prefix, found)
        return sorted(found)

    def remove(self, path: list[str]) -> None:
        with _refusing(), suppress(FileNotFoundError), self._walk(path[:-1]) as folders:
            with suppress(FileNotFoundError):
                os.unlink(path[-1], dir_fd=folders[-1])
            # Also when it was gone already: whoever unlinked it may have died before this line.
            with _not_knowing():
                os.fsync(folders[-1])
            self._tidy(path[:-1], folders)

    def _tidy(self, names: list[str], folders: list[int]) -> None:
        """Take away the folders that hold nothing any more, innermost first. One that comes back is only litter."""
        with self._structure:
            for depth in range(len(names), 0, -1):
                try:
                    os.rmdir(names[depth - 1], dir_fd=folders[depth - 1])
                except OSError:
                    return
                self._known.discard(tuple(names[:depth]))

    @contextmanager
    def _walk(self, names: list[str], *, make: bool = False) -> Generator[list[int]]:
        """The root and the folders below it, opened one through the other. Raises FileNotFoundError unless `make`."""
        folders = [self._root]
        try:
            for depth, name in enumerate(names, 1):
                parent = folders[-1]
                if make:
                    self._make(tuple(names[:depth]), parent)
                folders.append(os.open(name, _FOLDER, dir_fd=parent))
            yield folders
        finally:
            for folder in folders[1:]:
                os.close(folder)

    def _make(self, names: tuple[str, ...], parent: int) -> None:
        """Make a folder if it is not there, and its entry durable if this process has not done so before."""
        try:
            os.mkdir(names[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            if names in self._known:
                return
        os.fsync(parent)
        if len(self._known) >= FOLDERS_KNOWN_MAX:
            self._known.clear()
        self._known.add(names)

    @contextmanager
    def _temporary(self, data: bytes) -> Generator[tuple[int, str]]:
        """A file with these bytes, durable, in the folder for such; gone afterwards, whatever happens."""
        with suppress(FileExistsError):
            os.mkdir(_TEMP, 0o700, dir_fd=self._root)
        folder = os.open(_TEMP, _FOLDER, dir_fd=self._root)
        try:
            name = uuid.uuid4().hex
            file = os.open(name, _NEW, 0o600, dir_fd=folder)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.fsync(file)
                # Crash here: a file without a name of its own; the next opening sweeps it.
                yield folder, name
                # Crash here: the object stands, the file under `_temp` is swept.
            finally:
                # After the object is linked a failure to tidy must not call it unwritten; the sweep does it.
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                os.close(file)
        finally:
            os.close(folder)

    def _sweep(self) -> None:
        """Remove what writers that died have left under `_temp`; a living one holds the lock of its file."""
        with suppress(OSError):  # no such folder yet, or a file system that only reads: reads go on
            folder = os.open(_TEMP, _FOLDER, dir_fd=self._root)
            try:
                for name in os.listdir(folder):
                    with suppress(OSError):
                        file = os.open(name, _FILE, dir_fd=folder)
                        try:
                            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                            os.unlink(name, dir_fd=folder)
                        finally:
                            os.close(file)
            finally:
                os.close(folder)


@contextmanager
def _refusing() -> Generator[None]:
    """Errors of the file system before anything was changed: TierUnavailable."""
    try:
        yield
    except OSError as error:
        raise TierUnavailable("cold", f"the cold tier is unavailable ({_symbol(error)})") from error


@contextmanager
def _not_knowing() -> Generator[None]:
    """Errors of the file system after the change could be seen, but before it was durable: OutcomeUnknown."""
    try:
        yield
    except OSError as error:
        raise OutcomeUnknown(f"the cold tier may not have kept it ({_symbol(error)})") from error


def _symbol(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")


def _path(steps: list[str]) -> list[str]:
    pieces = _folders(steps)
    pieces[-1] += "_"
    return pieces


def _folders(steps: list[str]) -> list[str]:
    return in_pieces(steps, "+")


def _collect(folder: int, prefix: str, names: list[str]) -> None:
    """Add the names of all objects in an open folder and below it. What vanishes meanwhile is passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith("_"):
                if entry.is_file(follow_symlinks=False):
                    names.append(prefix + entry.name[:-1])
            elif entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    inner = os.open(entry.name, _FOLDER, dir_fd=folder)
                    try:
                        step = entry.name
                        _collect(inner, prefix + (step[:-1] if step.endswith("+") else f"{step}/"), names)
                    finally:
                        os.close(inner)


def _link(temp_folder: int, temp: str, folder: int, name: str) -> bool:
    """Give the file its name; False: the name is taken."""
    try:
        os.link(temp, name, src_dir_fd=temp_folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def _open_file(folder: int, name: str) -> FileIO:
    file = FileIO(os.open(name, _FILE, dir_fd=folder), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a plain file")
    return file


def _same(folder: int, name: str, data: bytes) -> bool:
    with _open_file(folder, name) as file:
        if os.fstat(file.fileno()).st_size != len(data):
            return False
        at = 0
        while block := file.read(READ_BYTES):
            if data[at : at + len(block)] != block:
                return False
            at += len(block)
    return at == len(data)


def _make_durable(root: Path) -> None:
    """Make the directory and those above it, each entry durable before anything is written below."""
    missing = [path for path in (root, *root.parents) if not path.exists()]
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
