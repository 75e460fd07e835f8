"""Each move, killed at each of its calls to a tier: the next run ends it, nothing is lost and nothing left behind.

The marks in the code (`# Crash here`) lie between two such calls, so every one of them is met; the last test proves it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pytest

import sessionmanager.core
from sessionmanager.errors import Erased
from sessionmanager.words import Key
from tests.conftest import Profile
from tests.support.audit import Audit, audit, explained
from tests.support.halt import Halt, Killed, places
from tests.support.left_out import NO_COVER
from tests.support.scenes import ALICE, BOUND, GRACE_SECONDS, SCENES, Scene, World, open_world, request, talk

pytestmark = [pytest.mark.fault, NO_COVER]

STEP: Final = {"quick": 2, "full": 1}
"""At which calls of a move a process is killed: at each, or at each second."""
STEP_DYING: Final = {"quick": 5, "full": 1}
"""The same where those that come after it are killed as well."""
CALLS_MAX: Final = 200
"""More calls than any move makes."""
ROUNDS_MAX: Final = 12
"""Looks of a worker, a grace apart, until nothing may be owed any more."""
FAR: Final = "2999-01-01T00:00:00.000Z"
MARK: Final = "# Crash here"
MARKED: Final = ("seal", "offload", "archive", "collect", "erase, the second look", "attach")
"""Scenes that between them pass every mark."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    # Thousands of commits, and no process really dies: where memory can be a disk, nobody waits for a real one.
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        async with open_world(Path(folder)) as opened:
            yield opened


class Death(NamedTuple):
    """A session before its move, and how the process died; None = it did not get so far."""

    before: Audit
    killed: Killed | None


async def play(world: World, scene: Scene, key: Key, at: int) -> Death:
    """Prepare the session, and run the move in a process that dies at its `at`-th call."""
    await scene.prepare(world.process(), key)
    before = await look(world, key)
    assert not before.faults, explained(before)
    assert not before.orphans, explained(before)
    world.clock.seconds += scene.waits_seconds
    halt = Halt()
    process = world.process(halt)
    halt.arm(at)
    try:
        await scene.move(process, key)
    except Killed as killed:
        return Death(before, killed)
    return Death(before, None)


async def look(world: World, key: Key) -> Audit:
    return await audit(world.process(), world.tiers, key)


async def recover(world: World) -> None:
    """Let workers look until nothing is owed: each a new process, as after a restart."""
    for _ in range(ROUNDS_MAX):
        if not await world.tiers.warm.due(FAR, 1):
            break
        await world.process().worker.turn()
        world.clock.seconds += GRACE_SECONDS
    owed = [key.id for key in await world.tiers.warm.due(FAR, 10)]
    assert not owed, f"still owed after {ROUNDS_MAX} looks: {owed}"
    assert not world.heard.failures, world.heard.failures


async def recover_dying(world: World, key: Key) -> None:
    """The same with workers that die as well: the first at its first call, the next at its second, and so on."""
    for at in range(1, CALLS_MAX):
        if not await world.tiers.warm.due(FAR, 1):
            return
        halt = Halt()
        process = world.process(halt)
        halt.arm(at)
        with suppress(Killed):
            await process.worker.attend(key)
        world.clock.seconds += GRACE_SECONDS
    raise AssertionError("workers that die ever later never come to an end")


def check_log(before: Audit, after: Audit, adds: int) -> bool:
    """Whether the move's lines are there, all of them, after what was there; none is fine, too, and then False."""
    assert after.lines[: len(before.lines)] == before.lines, "history was lost or changed"
    added = len(after.lines) - len(before.lines)
    assert added in (0, adds), f"{added} lines of a commit of {adds}"
    return adds > 0 and added == adds


async def check_readable(world: World, scene: Scene, key: Key, before: Audit) -> None:
    """What callers meet right after the restart, before any worker was there: the whole log, or a tombstone."""
    found = await look(world, key)
    assert not found.faults, explained(found)
    if found.placement == "erased":
        assert scene.ends == "erased"
        with pytest.raises(Erased):
            await world.process().sessions.view(key)
    else:
        check_log(before, found, scene.adds)


async def settle(world: World, scene: Scene, key: Key, before: Audit, *, leaves: bool) -> None:
    """What must hold once the workers have been there: nothing lost, nothing owed; the move again does its work once.

    leaves: a seal was killed, too, so that a segment that no head knows of may lie there.
    """
    after = await look(world, key)
    if after.placement == "erased":
        assert scene.ends == "erased"
    else:
        check_log(before, after, scene.adds)
        allowed = [name for name in after.orphans if leaves and name.startswith("warm body")]
        assert after.orphans == tuple(allowed), explained(after)
        assert after._replace(orphans=()).whole, explained(after)
        await scene.move(world.process(), key)
        await recover(world)
        after = await look(world, key)
        assert scene.ends == "erased" or check_log(before, after, scene.adds) or not scene.adds, "the move's lines"
    assert after.placement == scene.ends
    if scene.ends == "warm":
        await collect(world, key)
        after = await look(world, key)
    assert after.whole, explained(after)
    await rest(world, key, after)


async def collect(world: World, key: Key) -> None:
    """Seal and offload once more: whoever lists the bodies also finds those that no head ever knew of."""
    core = world.process()
    await talk(core, key, BOUND, first=1000)
    await core.works["seal"](key)
    assert await core.works["offload"](key)


async def rest(world: World, key: Key, found: Audit) -> None:
    """Whatever runs now finds nothing to do."""
    for name in ("erase",) if found.placement == "erased" else ("seal", "offload", "finish", "archive"):
        await world.process().works[name](key)
    assert await world.process().worker.turn() == 0
    assert (await look(world, key)).rev == found.rev, "a second run did something"


@pytest.mark.parametrize("name", SCENES)
async def test_a_move_killed_at_any_call_is_ended_by_the_next_run_and_loses_nothing(
    world: World, name: str, profile: Profile
) -> None:
    scene = SCENES[name]
    for at in range(1, CALLS_MAX, STEP[profile]):
        key = Key("acme", f"call-{at}")
        before, killed = await play(world, scene, key, at)
        await check_readable(world, scene, key, before)
        await recover(world)
        await settle(world, scene, key, before, leaves=scene.leaves)
        if killed is None:
            assert at > 1, "the move calls no tier"
            return
    raise AssertionError("the move has no end")


@pytest.mark.parametrize("name", SCENES)
async def test_workers_that_are_killed_over_and_over_still_end_every_move(
    world: World, name: str, profile: Profile
) -> None:
    scene = SCENES[name]
    for at in range(1, CALLS_MAX, STEP_DYING[profile]):
        key = Key("acme", f"call-{at}")
        before, killed = await play(world, scene, key, at)
        await recover_dying(world, key)
        await settle(world, scene, key, before, leaves=True)
        if killed is None:
            return
    raise AssertionError("the move has no end")


@pytest.mark.parametrize("name", ["offload of a tree", "archive again", "attach anew"])
async def test_whatever_a_killed_move_left_behind_goes_when_the_session_is_erased(world: World, name: str) -> None:
    for at in range(1, CALLS_MAX):
        key = Key("acme", f"call-{at}")
        _, killed = await play(world, SCENES[name], key, at)
        await world.process().sessions.erase(key, ALICE, request("erase"))
        await recover(world)
        found = await look(world, key)
        assert found.placement == "erased"
        assert found.whole, explained(found)
        if killed is None:
            return
    raise AssertionError("the move has no end")


async def test_every_crash_mark_of_the_moves_lies_before_a_call_at_which_a_process_was_killed(world: World) -> None:
    lines: set[tuple[str, int]] = set()
    for name in MARKED:
        scene = SCENES[name]
        for at in range(1, CALLS_MAX):
            key = Key("acme", f"{name}-{at}")
            _, killed = await play(world, scene, key, at)
            if killed is None:
                break
            lines.update(places(killed))
    missed = [mark for mark in crash_marks() if not any(mark.covers(*line) for line in lines)]
    assert not missed, f"no process was killed at {missed}"


class Mark(NamedTuple):
    """A `# Crash here`: file, line, and where its function ends."""

    file: str
    line: int
    end: int

    def covers(self, file: str, line: int) -> bool:
        return file == self.file and self.line < line <= self.end


def crash_marks() -> Iterator[Mark]:
    """Every mark in the moves and in attachments."""
    core = Path(next(iter(sessionmanager.core.__path__)))
    for path in (*sorted((core / "moves").glob("*.py")), core / "attachments.py"):
        text = path.read_text(encoding="utf-8")
        functions = [
            node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        for number, line in enumerate(text.splitlines(), 1):
            if MARK in line:
                around = [f for f in functions if f.lineno <= number <= (f.end_lineno or 0)]
                yield Mark(path.name, number, min(f.end_lineno or 0 for f in around))
