"""The fault matrix, warm: without the one authority nothing is promised, nothing is lost, and what hot has is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tests.conftest import Profile
from tests.support.left_out import share
from tests.support.matrix import (
    FAULTS,
    FIRST_SECONDS,
    HEAL_SECONDS,
    LIST_SECONDS,
    ONE_LOOP,
    THEN_SECONDS,
    Call,
    Outage,
    Scene,
    a_scene,
    asked,
    assert_refused,
    during,
    judging,
    normal,
    writing,
)
from tests.support.replicas import LEASE_SECONDS, Replica, eventually

pytestmark = [pytest.mark.fault, ONE_LOOP]

NO_SPACE = {"ok": 0.0, "errmsg": "no space", "code": 14031, "codeName": "OutOfDiskSpace"}
EVER = 1_000_000
TRIALS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with a_scene(tmp_path_factory.mktemp("warm")) as scene:
        await scene.a.create("probe")
        yield scene


@pytest_asyncio.fixture(loop_scope="module")
async def scene(whole: Scene) -> AsyncGenerator[Scene]:
    """Nothing is broken, before and after."""
    yield whole
    whole.servers.warm.thaw()
    await whole.mend()
    for replica in whole.both:
        await eventually(lambda replica=replica: normal(replica, "probe"), HEAL_SECONDS, "warm is back")


async def a_session(scene: Scene, session: str) -> int:
    """Made and spoken in by both; hot has a copy. Answers its version."""
    await scene.a.create(session)
    for replica in scene.both:
        assert (await replica.say(session, f"before, by {replica.name}")).status == 201
        await eventually(lambda replica=replica: _is_hot(replica, session), HEAL_SECONDS, "a copy in hot")
    return (await scene.a.ask("GET", f"/sessions/{session}", min_version="1")).body["version"]


async def _is_hot(replica: Replica, session: str) -> bool:
    return (await replica.ask("GET", f"/sessions/{session}")).tier == "hot"


async def _is_stale(replica: Replica, session: str, version: int) -> bool:
    """A plain GET shows what hot has: within its lease as it is, later marked with its age."""
    shown = await replica.ask("GET", f"/sessions/{session}")
    assert (shown.status, shown.tier, shown.body["version"]) == (200, "hot", version), shown
    assert shown.body["entries"]
    assert shown.seconds < FIRST_SECONDS
    assert ("stale" in shown.body) == ("age" in shown.headers)
    if "stale" not in shown.body:
        return False
    assert shown.body["stale"] is True
    assert int(shown.headers["age"]) >= LEASE_SECONDS - 1
    return True


@pytest.mark.parametrize("fault", share([*FAULTS, "frozen"], quick=("down", "frozen")))
async def test_without_warm_hot_sessions_are_shown_and_all_else_is_refused_quickly(
    scene: Scene, profile: Profile, fault: str
) -> None:
    session, a = f"without-{fault.replace(' ', '-')}", scene.a
    version = await a_session(scene, session)
    asleep = f"{session}-asleep"
    await a.create(asleep)
    assert (await a.ask("POST", f"/sessions/{asleep}/suspend", {})).status == 200
    outages = [Outage(replica, "warm") for replica in scene.both]
    if fault == "frozen":
        scene.servers.warm.freeze()
    for replica in scene.both:
        if fault != "frozen":
            await FAULTS[fault](replica.lines.warm)
    calls = {replica: writing(session, f"{fault.replace(' ', '-')}-{replica.name}") for replica in scene.both}
    first = await asyncio.gather(*(asked(replica, calls[replica]) for replica in scene.both))
    assert_refused([one for answers in first for one in answers], "warm", seconds=FIRST_SECONDS, unknown=True)
    for outage in outages:
        await outage.seen()
    for replica in scene.both:
        await eventually(
            lambda replica=replica: _is_stale(replica, session, version), LEASE_SECONDS + 1, "the lease is over"
        )
        for _ in range({"quick": 2, "full": 5}[profile]):
            assert await _is_stale(replica, session, version)
            assert_refused([await replica.ask("GET", "/sessions")], "warm", seconds=LIST_SECONDS)
            reads = (*judging(session, replica.name), Call("GET", f"/sessions/{asleep}"))
            then = await asked(replica, (*reads, *calls[replica], Call("DELETE", f"/sessions/{session}")))
            assert_refused(then, "warm", seconds=FIRST_SECONDS, unknown=True)
            waited = [answer for answer in then if answer.seconds > THEN_SECONDS]
            assert len(waited) <= TRIALS, "a read and a write are on trial and wait, and nobody else"
    scene.servers.warm.thaw()
    await scene.mend()
    for outage in outages:
        await outage.healed(session)
    for replica in scene.both:  # whatever became of them before: repeated, each has happened once
        assert [one.status for one in await asked(replica, calls[replica])] == [201, 200, 200, 201]
    said = [text for text in await a.texts(session) if text.endswith("said")]
    assert sorted(said) == sorted(f"{fault.replace(' ', '-')}-{replica.name} said" for replica in scene.both)
    found = await a.ask("GET", f"/sessions/{session}/entries?limit=200")
    versions = [entry["version"] for entry in found.body["items"]]
    assert sorted(set(versions)) == list(range(1, versions[-1] + 1))


async def test_a_write_whose_answer_was_lost_is_found_and_acknowledged(scene: Scene) -> None:
    a = scene.a
    await a_session(scene, "lost-answer")
    for i in range(3):
        rule = a.lines.mongo.lose_answer("update", where=lambda command: command.get("update") == "sessions")
        said = await a.say("lost-answer", f"lost {i}", key=f"lost-{i}" if i else None)
        assert (said.status, rule.left) == (201, 0)
        assert await a.state("warm") == "ok", "one lost answer opens no breaker"
    assert [text for text in await a.texts("lost-answer") if text.startswith("lost")] == [f"lost {i}" for i in range(3)]


async def test_what_nobody_can_know_is_told_and_a_repeat_gets_the_one_true_answer(scene: Scene) -> None:
    """The commit stands, its answer is lost, and warm is away when one wants to look."""
    a, b = scene.both
    version = await a_session(scene, "unknown")
    lost = a.lines.mongo.lose_answer("update", where=lambda command: command.get("update") == "sessions")
    for name in ("find", "findAndModify"):
        a.lines.mongo.cut_before(name, times=EVER, where=lambda _: lost.left == 0)
    told = await a.say("unknown", "is it there?", key="unknown")
    assert (told.status, told.body["type"], lost.left) == (503, "outcome-unknown", 0), told
    assert int(told.headers["retry-after"]) >= 1
    assert told.seconds < FIRST_SECONDS
    again = await b.say("unknown", "is it there?", key="unknown")
    a.lines.mongo.mend()
    await eventually(lambda: normal(a, "unknown"), HEAL_SECONDS, "a is as before")
    answers = [again, *[await replica.say("unknown", "is it there?", key="unknown") for replica in scene.both]]
    assert [(one.status, one.body["version"]) for one in answers] == [(201, version + 1)] * 3
    assert (await a.texts("unknown")).count("is it there?") == 1


async def test_a_replica_that_is_cut_off_shows_no_past_unmarked_while_the_others_go_on(scene: Scene) -> None:
    a, b = scene.both
    version = await a_session(scene, "cut-off")
    outage = Outage(a, "warm")
    await a.lines.warm.timeout()
    newest = version
    refused = asyncio.ensure_future(asked(a, (*writing("cut-off", "a"), *judging("cut-off", "a"))))
    while not refused.done():
        said = await b.say("cut-off", "meanwhile")
        shown = await a.ask("GET", "/sessions/cut-off")
        assert (said.status, shown.status) == (201, 200)
        assert "stale" in shown.body or shown.body["version"] >= newest, "unmarked, and older than hot knows"
        newest = said.body["version"]
    assert_refused(await refused, "warm", seconds=FIRST_SECONDS, unknown=True)
    await outage.seen()
    assert await b.state("warm") == "ok"
    for i in range(10):
        assert (await b.say("cut-off", f"then {i}")).seconds < THEN_SECONDS
        shown = await a.ask("GET", "/sessions/cut-off")
        assert shown.status == 200
    await scene.mend()
    await outage.healed("cut-off")
    assert (await a.texts("cut-off")).count("a said") <= 1, "what was never acknowledged may stand, once"


async def test_a_warm_server_that_is_killed_has_lost_nothing_that_was_acknowledged(scene: Scene) -> None:
    a, b = scene.both
    await a_session(scene, "killed")
    told: dict[str, int] = {}

    async def one(replica: Replica, i: int) -> None:
        text = f"{replica.name}-{len(told)}-{i}"
        said = await replica.say("killed", text, key=text)
        if said.status == 201:
            told[text] = said.body["version"]
        else:
            assert_refused([said], "warm", seconds=FIRST_SECONDS, unknown=True)

    async def step(i: int) -> None:
        await asyncio.gather(one(a, i), one(b, i))

    for i in range(10):
        await step(i)
    outages = [Outage(replica, "warm") for replica in scene.both]
    steps = await during(scene.servers.warm.restart(), step)
    assert steps
    for outage in outages:
        await eventually(lambda outage=outage: normal(outage.replica, "killed"), HEAL_SECONDS, "warm is back")
    found = {
        entry["content"]: entry["version"]
        for entry in (await a.ask("GET", "/sessions/killed/entries?limit=200")).body["items"]
        if entry["type"] == "message" and entry["content"][:2] in ("a-", "b-")
    }
    assert told.items() <= found.items()


async def is_well(replica: Replica) -> bool:
    """Asks nothing of any tier."""
    return await replica.state("warm") == "ok"


async def test_a_warm_tier_without_room_refuses_writes_and_goes_on_reading(scene: Scene) -> None:
    a = scene.a
    version = await a_session(scene, "no-room")
    outage = Outage(a, "warm")
    for name in ("update", "insert", "findAndModify"):
        a.lines.mongo.answer(name, NO_SPACE, times=EVER)
    for i in range(3):
        refused = await asked(a, writing("no-room", f"no-room-{i}"))
        assert_refused(refused, "warm", seconds=FIRST_SECONDS)
        read = await asked(a, judging("no-room", f"r{i}"))
        assert [one.status for one in read] == [200, 200, 200, 404], read
        shown = await a.ask("GET", "/sessions/no-room")
        assert (shown.status, shown.body["version"], shown.body.get("stale")) == (200, version, None)
    await outage.seen()
    assert (await scene.b.say("no-room", "b has room")).status == 201
    await scene.mend()
    await eventually(lambda: is_well(a), HEAL_SECONDS, "an idle replica finds out by itself")
    await outage.healed("no-room")
    said = [text for text in await a.texts("no-room") if text.startswith("no-room")]
    assert said == [], "what was refused never appears"
