"""Directory cold: the contract, and what a file system does to it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sessionmanager.errors import AlreadyExists, NotFound, OutcomeUnknown, TierUnavailable
from sessionmanager.tiers.cold import directory
from sessionmanager.tiers.cold.directory import open_directory
from sessionmanager.tiers.cold.protocol import Cold
from tests.contracts.cold import NAME, ColdContract

pytestmark = pytest.mark.contract
Failing = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cold"


@pytest.fixture
async def cold(root: Path) -> AsyncIterator[Cold]:
    async with open_directory(root.as_uri()) as cold:
        yield cold


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Make one system call of the tier fail, the `at`th time and after it, with an error number."""

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

    shim = Os()
    monkeypatch.setattr(directory, "os", shim)

    def fail(name: str, number: int, at: int = 1) -> None:
        calls = 0

        def failing_call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls < at:
                return getattr(os, name)(*args, **kwargs)
            raise OSError(number, os.strerror(number))

        setattr(shim, name, failing_call)

    return fail


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


class TestDirectory(ColdContract):
    @pytest.fixture
    async def cold(self, root: Path) -> AsyncIterator[Cold]:
        async with open_directory(root.as_uri()) as cold:
            yield cold


# -- opening


@pytest.mark.parametrize("url", ["file://", "file:relative", "file://host/path", "file:///path?a=1", "s3://bucket", ""])
async def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="file:///path"):
        async with open_directory(url):
            pass


async def test_a_path_with_spaces_and_percents_is_the_path(tmp_path: Path) -> None:
    root = tmp_path / "a b%2fc" / "d"
    async with open_directory(root.as_uri()) as cold:
        await cold.put_once(NAME, b"x")
    assert files(root) == [f"{NAME}_"]


async def test_a_file_in_place_of_the_directory_is_told(root: Path) -> None:
    root.write_text("x")
    with pytest.raises(TierUnavailable, match="ENOTDIR"):
        async with open_directory(root.as_uri()):
            pass


async def test_objects_outlive_the_process(root: Path) -> None:
    async with open_directory(root.as_uri()) as cold:
        await cold.put_once(NAME, b"kept")
    async with open_directory(root.as_uri()) as cold:
        assert await cold.get(NAME) == b"kept"


async def test_a_closed_tier_refuses(root: Path) -> None:
    async with open_directory(root.as_uri()) as cold:
        pass
    with pytest.raises(TierUnavailable):
        await cold.get(NAME)


async def test_closing_waits_for_what_has_begun(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, released = threading.Event(), threading.Event()
    link = directory._link

    def slow(*args: Any) -> bool:
        reached.set()
        released.wait()
        return link(*args)

    monkeypatch.setattr(directory, "_link", slow)
    async with open_directory(root.as_uri()) as cold:
        put = asyncio.create_task(cold.put_once(NAME, b"x"))
        await asyncio.to_thread(reached.wait)
        put.cancel()  # the caller has gone; the thread goes on
        asyncio.get_running_loop().call_soon(released.set)
    assert files(root) == [f"{NAME}_"]


# -- what lies there


async def test_only_the_owner_may_read(cold: Cold, root: Path) -> None:
    await cold.put_once(NAME, b"x")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


async def test_removing_leaves_no_empty_folders(cold: Cold, root: Path) -> None:
    await cold.put_once("a/b/c/d", b"x")
    await cold.put_once("a/e", b"x")
    await cold.remove("a/b/c/d")
    assert sorted(path.name for path in root.iterdir()) == ["_temp", "a"]
    assert sorted(path.name for path in (root / "a").iterdir()) == ["e_"]
    await cold.put_once("a/b/c/d", b"y")
    assert await cold.get("a/b/c/d") == b"y"


class Syncs:
    """Which files were synced, by path; `fails` holds those that cannot be."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.fails: set[Path] = set()

    def __call__(self, file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        self.paths.append(path)
        if path in self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    syncs = Syncs()
    monkeypatch.setattr(os, "fsync", syncs)
    return syncs


async def test_a_file_and_every_new_folder_are_synced_before_the_answer(cold: Cold, root: Path, syncs: Syncs) -> None:
    await cold.put_once("a/b/c", b"x")
    assert [path.parent.name == "_temp" for path in syncs.paths] == [True, False, False, False]
    assert syncs.paths[1:] == [root, root / "a", root / "a/b"]
    syncs.paths.clear()
    await cold.put_once("a/b/d", b"x")
    assert syncs.paths[1:] == [root / "a/b"]
    syncs.paths.clear()
    await cold.remove("a/b/d")
    assert syncs.paths == [root / "a/b"]


async def test_a_folder_whose_sync_failed_is_synced_by_the_next_who_uses_it(
    cold: Cold, root: Path, syncs: Syncs
) -> None:
    await cold.put_once("a/b", b"x")
    await cold.remove("a/b")
    syncs.fails.add(root)
    with pytest.raises(TierUnavailable):
        await cold.put_once("a/b", b"x")
    syncs.fails.clear()
    syncs.paths.clear()
    await cold.put_once("a/b", b"x")
    assert syncs.paths[1:] == [root, root / "a"]


# -- crashes

CRASH = """
import asyncio, os, signal, sys
from sessionmanager.tiers.cold import directory
whole = getattr(directory, sys.argv[3])
def die(*args, **kwargs):
    if sys.argv[4] == "after":
        whole(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(directory, sys.argv[3], die)
async def main():
    async with directory.open_directory(sys.argv[1]) as cold:
        await cold.put_once(sys.argv[2], b"x" * 100_000)
asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_kill_leaves_the_whole_object_or_nothing(root: Path, moment: str) -> None:
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CRASH, root.as_uri(), NAME, "_link", moment], timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list((root / "_temp").iterdir())) == 1
    async with open_directory(root.as_uri()) as cold:
        assert list((root / "_temp").iterdir()) == []
        if moment == "before":
            assert await cold.list("t-mfrgg/") == []
            with pytest.raises(NotFound):
                await cold.get(NAME)
        await cold.put_once(NAME, b"x" * 100_000)
        assert await cold.get(NAME) == b"x" * 100_000


async def test_opening_leaves_what_another_process_is_writing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    link = directory._link

    async with open_directory(root.as_uri()) as cold:

        def meanwhile(*args: Any) -> bool:
            directory._Tree(root).close()
            seen.append(len(list((root / "_temp").iterdir())))
            return link(*args)

        monkeypatch.setattr(directory, "_link", meanwhile)
        await cold.put_once(NAME, b"x")
    assert seen == [1]
    assert list((root / "_temp").iterdir()) == []


# -- file systems that refuse


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "mkdir"])
async def test_a_put_that_is_refused_writes_nothing(
    cold: Cold, root: Path, failing: Failing, call: str, number: int
) -> None:
    await cold.put_once("there/before", b"x")
    failing(call, number)
    with pytest.raises(TierUnavailable, match=errno.errorcode[number]) as refused:
        await cold.put_once(NAME, b"x" * 1000)
    assert refused.value.tier == "cold"
    assert str(root) not in str(refused.value)
    assert files(root) == ["there/before_"]
    assert await cold.get("there/before") == b"x"


async def test_a_put_whose_last_sync_fails_is_not_known(cold: Cold, failing: Failing) -> None:
    await cold.put_once("a/b", b"x")
    failing("fsync", errno.EIO, at=2)  # after the file's own
    with pytest.raises(OutcomeUnknown):
        await cold.put_once("a/c", b"x")
    with pytest.raises(OutcomeUnknown):
        await cold.remove("a/b")


async def test_a_link_that_vanishes_under_a_put_is_told(cold: Cold, failing: Failing) -> None:
    failing("link", errno.ENOENT)
    with pytest.raises(TierUnavailable, match="ENOENT"):
        await cold.put_once(NAME, b"x")


async def test_a_read_that_is_refused_is_not_a_missing_object(cold: Cold, failing: Failing) -> None:
    await cold.put_once("a/b", b"x")
    failing("open", errno.EACCES)
    for call in (cold.get("a/b"), cold.list("a/"), cold.remove("a/b")):
        with pytest.raises(TierUnavailable, match="EACCES"):
            await call


async def test_a_short_write_is_gone_on_with(cold: Cold, monkeypatch: pytest.MonkeyPatch) -> None:
    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, file: int, data: memoryview) -> int:
            return os.write(file, data[:7])

    monkeypatch.setattr(directory, "os", Os())
    await cold.put_once(NAME, b"0123456789" * 10)
    assert await cold.get(NAME) == b"0123456789" * 10


# -- what others put there


async def test_no_symbolic_link_below_the_root_is_followed(cold: Cold, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret_").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file_").symlink_to(outside / "secret_")
    (root / "loose_").symlink_to(outside / "not-there")
    for call in (cold.get("folder/secret"), cold.put_once("folder/new", b"x"), cold.remove("folder/secret")):
        with pytest.raises(TierUnavailable):
            await call
    for call in (cold.get("file"), cold.put_once("file", b"secret"), cold.put_once("loose", b"x")):
        with pytest.raises(TierUnavailable):
            await call
    with pytest.raises(TierUnavailable):
        await cold.list("folder/")
    await cold.remove("file")
    assert sorted(path.name for path in outside.iterdir()) == ["secret_"]
    assert (outside / "secret_").read_bytes() == b"secret"


async def test_a_symbolic_link_in_place_of_the_folder_for_writing_is_not_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").write_bytes(b"x")
    root.mkdir()
    (root / "_temp").symlink_to(outside)
    async with open_directory(root.as_uri()) as cold:
        with pytest.raises(TierUnavailable):
            await cold.put_once(NAME, b"x")
    assert [path.name for path in outside.iterdir()] == ["theirs"]


async def test_a_root_that_is_itself_a_link_is_fine(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    root.symlink_to(tmp_path / "disk")
    async with open_directory(root.as_uri()) as cold:
        await cold.put_once("a", b"x")
    assert (tmp_path / "disk" / "a_").read_bytes() == b"x"


async def test_a_pipe_in_place_of_an_object_holds_nobody(cold: Cold, root: Path) -> None:
    os.mkfifo(root / "pipe_")
    (root / "folder_").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(TierUnavailable):
            await cold.get(name)
        with pytest.raises(TierUnavailable):
            await cold.put_once(name, b"x")


async def test_files_that_are_no_objects_are_not_listed(cold: Cold, root: Path) -> None:
    await cold.put_once("a/b", b"x")
    (root / "a" / "lost+found").mkdir()
    (root / "a" / "note.txt").write_text("x")
    (root / "a" / "link_").symlink_to(root / "a" / "b_")
    assert await cold.list("a/") == ["a/b"]


# -- bounds


async def test_more_calls_than_the_bound_are_refused_at_once_and_the_loop_never_waits(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    link = directory._link

    def slow(*args: Any) -> bool:
        released.wait()
        return link(*args)

    monkeypatch.setattr(directory, "_link", slow)
    async with open_directory(root.as_uri(), calls_max=3) as cold:
        waiting = [asyncio.create_task(cold.put_once(f"a/{number}", b"x")) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TierUnavailable, match="busy"):
            await cold.get(NAME)
        released.set()
        await asyncio.gather(*waiting)
        assert await cold.list("a/") == ["a/0", "a/1", "a/2"]
        with pytest.raises(AlreadyExists):
            await cold.put_once("a/0", b"y")
