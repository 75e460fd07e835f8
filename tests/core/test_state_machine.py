"""Random commands, replays, conflicts, crashes and moves on the core over real embedded tiers, beside a plain model.

After every step each session is read as a reader would, and its whole log; and the scrubber (`support/audit.py`) walks
what the tiers hold: every body, every hash, and the head as the fold of its log (`model.fold.replay`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sessionmanager.core.assembly import Core, CoreSettings, build_core
from sessionmanager.core.command import RequestKey, Written
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.moves.erase import Erasure
from sessionmanager.errors import Erased, KeyReused, NotFound, SessionManagerError
from sessionmanager.tiers.hot.memory import Bounds, MemoryHot
from sessionmanager.words import Key
from tests.conftest import Profile
from tests.support.audit import audit
from tests.support.core_commands import FIELDS, MERGES, NAMES, SAYINGS, Command, Commands, answer_of, compare
from tests.support.halt import Halt, Killed
from tests.support.plain_sessions import Answer, Plain, Said
from tests.support.scenes import ALICE, GRACE_SECONDS, POLICY, World, open_world
from tests.support.server import quick_folder

pytestmark = pytest.mark.slow

EXAMPLES: Final = {"quick": 60, "full": 800}
STEPS: Final = {"quick": 25, "full": 60}
TENANT: Final = "acme"
IDLE_SECONDS: Final = 1_000.0
KEPT_SECONDS: Final = 86_400.0
"""For how long a repeat must be known."""
CALLS_MAX: Final = 30
TURNS_MAX: Final = 20
DAY_SECONDS: Final = 90_000.0
"""More than it takes until a quiet session is archived."""
SETTINGS: Final = CoreSettings(
    policy=POLICY._replace(
        idle_suspend_seconds=IDLE_SECONDS, archive_after_days=1.0, warm_segments_max=3, warm_segments_kept=1
    )
)


class Kept(NamedTuple):
    """A request under a key that was answered."""

    command: Command
    key: str
    answer: bytes
    at: float


class Machine(RuleBasedStateMachine):
    """One core over one set of tiers; a crash leaves the tiers and takes the core and the hot tier."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = self.stack.enter_context(quick_folder())
        self.runner = asyncio.Runner()
        self.plain = Plain()
        self.commands = Commands(self.plain, lambda: self.now)
        self.kept: list[Kept] = []
        self.generation = 0
        self.numbers = 0
        self.clock_seconds: float | None = None
        self._open()

    # -- the process

    def _open(self) -> None:
        data = self.folder / str(self.generation)
        data.mkdir(exist_ok=True)
        self.opened: AbstractAsyncContextManager[World] = open_world(data)
        self.world = self.runner.run(self.opened.__aenter__())
        if self.clock_seconds is not None:
            self.world.clock.seconds = self.clock_seconds
        self.core = self._process()

    def _process(self, halt: Halt | None = None) -> Core:
        tiers = self.world.tiers
        warm, cold = (tiers.warm, tiers.cold) if halt is None else (halt.around(tiers.warm), halt.around(tiers.cold))
        hot = MemoryHot(Bounds(100, 2**24, 100, 2**16, 3600.0, 10), self.world.clock)
        return build_core(
            hot,
            warm,
            cold,
            MasterKeys(bytes(range(32))),
            SETTINGS,
            events=self.world.heard,
            random_bytes=random.SystemRandom().randbytes,
            sleep=self.world.clock.sleep,
        )

    def _close(self) -> None:
        self.clock_seconds = self.now
        self.runner.run(self.opened.__aexit__(None, None, None))

    @property
    def now(self) -> float:
        return self.world.clock.seconds

    def teardown(self) -> None:
        try:
            if not self.failed_before:
                self._settle()
        finally:
            self._close()
            self.runner.close()
            self.stack.close()

    failed_before = False

    # -- commands

    def _run(self, command: Command, key: str | None) -> None:
        """On the core and on the model: the same answer, or the same refusal."""
        wanted: Answer | type[SessionManagerError] | None
        request = None if key is None else RequestKey.of(ALICE.subject, key, command.name.encode())
        try:
            done = self.runner.run(_wrap(command.do(self.core, Key(TENANT, command.session), request)))
        except SessionManagerError as refused:
            with pytest.raises(type(refused)):
                command.model()
            return
        wanted = command.model()
        self._compare(done, wanted)
        # Where nothing was new nothing is written, and so no key either: a repeat finds nothing new once more.
        if key is not None and (isinstance(done, Erasure) or done.committed or done.replayed):
            self.kept.append(Kept(command, key, answer_of(done), self.now))

    def _compare(self, done: Written | Erasure, wanted: Answer | None) -> None:
        if wanted is None or isinstance(done, Erasure):
            return
        told = json.loads(done.answer)
        assert (told["version"], told["status"]) == (wanted.version, wanted.status)
        assert done.version == wanted.version
        if wanted.seqs is not None:
            assert (tuple(told["seqs"]), tuple(told["duplicates"])) == (wanted.seqs, wanted.duplicates)

    def _a_key(self, wanted: bool) -> str | None:
        self.numbers += 1
        return f"key-{self.numbers}" if wanted else None

    def _version(self, name: str, off: int | None) -> int | None:
        """A precondition: none, the newest version, or one beside it."""
        session = self.plain.sessions.get(name)
        return None if off is None or session is None else max(0, session.version + off)

    # -- rules

    @initialize(name=NAMES, fields=FIELDS, said=SAYINGS)
    def begin(self, name: str, fields: dict[str, Any], said: tuple[Said, ...]) -> None:
        self._run(self.commands.create(name, fields, said), self._a_key(True))

    @rule(name=NAMES, fields=FIELDS, said=SAYINGS | st.just(()), keyed=st.booleans())
    def create(self, name: str, fields: dict[str, Any], said: tuple[Said, ...], keyed: bool) -> None:
        self._run(self.commands.create(name, fields, said), self._a_key(keyed))

    @rule(name=NAMES, said=SAYINGS, keyed=st.booleans())
    def append(self, name: str, said: tuple[Said, ...], keyed: bool) -> None:
        self._run(self.commands.append(name, said), self._a_key(keyed))

    @rule(name=NAMES, said=SAYINGS, times=st.integers(3, 9))
    def talk(self, name: str, said: tuple[Said, ...], times: int) -> None:
        for _ in range(times):
            self._run(self.commands.append(name, tuple(one._replace(id=None) for one in said)), None)

    @rule(name=NAMES, merge=MERGES, off=st.sampled_from([None, 0, 0, -1, 1]), keyed=st.booleans())
    def patch(self, name: str, merge: dict[str, Any], off: int | None, keyed: bool) -> None:
        self._run(self.commands.patch(name, merge, self._version(name, off)), self._a_key(keyed))

    @rule(
        name=NAMES,
        move=st.sampled_from(["suspend", "suspend", "activate", "end", "fail"]),
        off=st.sampled_from([None, 0, -1]),
        keyed=st.booleans(),
    )
    def move(self, name: str, move: str, off: int | None, keyed: bool) -> None:
        self._run(self.commands.move(name, move, self._version(name, off)), self._a_key(keyed))

    @rule(name=NAMES, keyed=st.booleans())
    def resume(self, name: str, keyed: bool) -> None:
        self._run(self.commands.resume(name), self._a_key(keyed))

    @rule(name=NAMES, what=st.sampled_from(["tape", "buffer"]), data=st.none() | st.binary(max_size=40))
    def attach(self, name: str, what: str, data: bytes | None) -> None:
        self._run(self.commands.attach(name, what, data), self._a_key(True))

    @rule(name=NAMES, sure=st.integers(0, 3))
    def erase(self, name: str, sure: int) -> None:
        if sure == 0:
            self._run(self.commands.erase(name), self._a_key(True))

    @precondition(lambda self: self.kept)
    @rule(pick=st.integers(0, 2**16))
    def repeat(self, pick: int) -> None:
        """The same request again: the same answer, and nothing changes."""
        known = self._known(pick)
        if known is None:
            return
        request = RequestKey.of(ALICE.subject, known.key, known.command.name.encode())
        try:
            again = self.runner.run(_wrap(known.command.do(self.core, Key(TENANT, known.command.session), request)))
        except Erased:
            assert self.plain.sessions[known.command.session].erased
            return
        assert answer_of(again) == known.answer

    @precondition(lambda self: self.kept)
    @rule(pick=st.integers(0, 2**16))
    def reuse(self, pick: int) -> None:
        """Another request under the same key is refused, and nothing changes."""
        known = self._known(pick)
        if known is None or known.command.name == "erase" or self.plain.sessions[known.command.session].erased:
            return
        request = RequestKey.of(ALICE.subject, known.key, b"another body")
        with pytest.raises(KeyReused):
            self.runner.run(_wrap(known.command.do(self.core, Key(TENANT, known.command.session), request)))

    def _known(self, pick: int) -> Kept | None:
        young = [one for one in self.kept if self.now - one.at < KEPT_SECONDS]
        return young[pick % len(young)] if young else None

    @rule(name=NAMES, batches=st.lists(SAYINGS, min_size=2, max_size=5))
    def race(self, name: str, batches: list[tuple[Said, ...]]) -> None:
        """Appends through two processes at once: each stands once, in the order of the versions they were told."""
        if name not in self.plain.sessions or self.plain.sessions[name].erased:
            return
        commands = [self.commands.append(name, said) for said in batches]
        cores = [self.core, self._process()]

        async def all_at_once() -> list[Any]:
            key = Key(TENANT, name)
            works = [command.do(cores[i % 2], key, None) for i, command in enumerate(commands)]
            return await asyncio.gather(*works, return_exceptions=True)

        done = self.runner.run(all_at_once())
        told = [(one.version, i, one) for i, one in enumerate(done) if isinstance(one, Written)]
        for i, one in enumerate(done):
            if not isinstance(one, Written):
                assert isinstance(one, SessionManagerError), repr(one)
                with pytest.raises(type(one)):
                    commands[i].model()
        # Of those told one version, the one that made it comes first; the others found everything there already.
        for _, i, one in sorted(told, key=lambda row: (row[0], not row[2].committed, row[1])):
            self._compare(one, commands[i].model())
        self.core = self._process()  # the other's hot tier is its own; a lease is waited for elsewhere

    @rule(name=NAMES)
    def archive(self, name: str) -> None:
        try:
            self.runner.run(self.core.sessions.archive(Key(TENANT, name), ALICE))
        except SessionManagerError as refused:
            with pytest.raises(type(refused)):
                self.plain.archive(name)
            return
        self.plain.archive(name)

    @rule(name=NAMES, move=st.sampled_from(["seal", "offload", "finish"]))
    def work_on(self, name: str, move: str) -> None:
        """One move by hand; what is not due does nothing."""
        try:
            self.runner.run(_wrap(self.core.works[move](Key(TENANT, name))))
        except (NotFound, Erased):
            assert name not in self.plain.sessions or self.plain.sessions[name].erased

    @rule()
    def work(self) -> None:
        """A turn of the worker."""
        self.runner.run(self.core.worker.turn())
        self.plain.idle(self.now, IDLE_SECONDS, self.runner.run(self._live_in_cold()))

    async def _live_in_cold(self) -> set[str]:
        """Sessions that somebody wanted archived before they had gone to sleep."""
        warm, names = self.world.tiers.warm, [name for name, one in self.plain.sessions.items() if not one.erased]
        found = [(await warm.load(Key(TENANT, name))).stored for name in names]
        return {one.key.id for one in found if one.placement == "cold" and one.head.status != "dormant"}

    @rule(seconds=st.sampled_from([1.0, 3.0, GRACE_SECONDS, IDLE_SECONDS, DAY_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.world.clock.seconds += seconds

    # -- the process dies

    @rule()
    def crash(self) -> None:
        """The core and the hot tier go; the tiers stay as they are."""
        self.core = self._process()

    @rule()
    def stop(self) -> None:
        """An orderly end, and a start."""
        self._close()
        self._open()

    @rule()
    def lose_power(self) -> None:
        """The files as they lie there at this moment, opened by somebody else."""
        before = self.folder / str(self.generation)
        self.generation += 1
        shutil.copytree(before, self.folder / str(self.generation), ignore=shutil.ignore_patterns("*.lock", "*-shm"))
        self._close()
        self._open()

    @rule(
        name=NAMES,
        said=SAYINGS,
        merge=MERGES,
        what=st.sampled_from(["create", "append", "patch", "suspend", "end", "resume", "attach"]),
        at=st.integers(1, CALLS_MAX),
    )
    def die_and_repeat(self, name: str, said: tuple[Said, ...], merge: dict[str, Any], what: str, at: int) -> None:
        """The process dies at some call of a request; the caller repeats it with its key, and it stands once."""
        command = {
            "create": lambda: self.commands.create(name, {}, said),
            "append": lambda: self.commands.append(name, said),
            "patch": lambda: self.commands.patch(name, merge, None),
            "suspend": lambda: self.commands.move(name, "suspend", None),
            "end": lambda: self.commands.move(name, "end", None),
            "resume": lambda: self.commands.resume(name),
            "attach": lambda: self.commands.attach(name, "tape", b"bytes"),
        }[what]()
        key = self._a_key(True)
        assert key is not None
        halt = Halt()
        dying = self._process(halt)
        halt.arm(at)
        request = RequestKey.of(ALICE.subject, key, command.name.encode())
        with suppress(Killed, SessionManagerError):
            self.runner.run(_wrap(command.do(dying, Key(TENANT, command.session), request)))
        self.core = self._process()
        self._run(command, key)

    @rule(at=st.integers(1, CALLS_MAX))
    def die_at_work(self, at: int) -> None:
        """The worker dies at some call; the next one does what is owed."""
        halt = Halt()
        dying = self._process(halt)
        halt.arm(at)
        with suppress(Killed):
            self.runner.run(dying.worker.turn())
        self.core = self._process()
        self.work()

    # -- what must hold

    @invariant()
    def every_reader_sees_what_the_model_says(self) -> None:
        try:
            for name, session in self.plain.sessions.items():
                self.runner.run(compare(self.core, self.world.tiers, Key(TENANT, name), session))
            assert not self.world.heard.failures, self.world.heard.failures
        except BaseException:
            self.failed_before = True
            raise

    def _settle(self) -> None:
        """Everything is archived, and workers look until nothing is owed; then nothing may be left over anywhere."""
        for turn in range(TURNS_MAX):
            # A day until the last is put to sleep, a day more until it is archived; then for what moves have begun.
            self.world.clock.seconds += DAY_SECONDS if turn < 3 else GRACE_SECONDS
            self.work()
        for name in self.plain.sessions:
            found = self.runner.run(audit(self.core, self.world.tiers, Key(TENANT, name)))
            assert found.whole, found


async def _wrap(work: Awaitable[Any]) -> Any:
    return await work


def test_the_core_and_a_plain_model_never_part_whatever_is_asked_and_whoever_dies(profile: Profile) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES[profile],
            stateful_step_count=STEPS[profile],
            deadline=None,
            database=None,
            # The same commands in each run, so that a change is not blamed for what was always there.
            derandomize="TEST_RANDOM" not in os.environ,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=(Phase.explicit, Phase.generate) if profile == "quick" else tuple(Phase),
        ),
    )
