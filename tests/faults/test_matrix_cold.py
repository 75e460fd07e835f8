"""The fault matrix, cold: live sessions never notice, and what lies in cold is whole, or told to be away or damaged."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from sessionmanager.core.bodies import session_prefix
from sessionmanager.words import Key
from tests.support.left_out import share
from tests.support.matrix import (
    FAULTS,
    FIRST_SECONDS,
    HEAL_SECONDS,
    ONE_LOOP,
    THEN_SECONDS,
    Call,
    Outage,
    Scene,
    a_scene,
    asked,
    assert_refused,
    judging,
    normal,
    writing,
)
from tests.support.replicas import Answered, Replica, eventually
from tests.support.s3_line import Cut, Message, Pass, answer

pytestmark = [pytest.mark.fault, ONE_LOOP]

ARCHIVE_SECONDS = 30.0
"""The worker looks once a second, and puts off what failed for longer and longer."""
LINES = 6
HARMS = ["a bit", "truncated", "missing"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    async with a_scene(tmp_path_factory.mktemp("cold")) as scene:
        await scene.a.create("probe")
        yield scene


@pytest_asyncio.fixture(loop_scope="module")
async def scene(whole: Scene) -> AsyncGenerator[Scene]:
    """Nothing is broken, before and after."""
    yield whole
    await whole.mend()
    for replica in whole.both:
        await eventually(lambda replica=replica: is_well(replica), HEAL_SECONDS, "cold is back")


async def tried(replica: Replica) -> tuple[int, int]:
    """Put something into cold and read it back; what each was answered."""
    path = f"/sessions/probe/attachments/{replica.name}"
    put = await replica.ask("PUT", path, {"some": "bytes"})
    got = await replica.ask("GET", path)
    return put.status, got.status


async def is_well(replica: Replica) -> bool:
    await tried(replica)
    return await replica.state("cold") == "ok"


async def a_sleeper(replica: Replica, session: str) -> None:
    """A session with something to say, which is suspended."""
    await replica.create(session)
    for i in range(LINES):
        assert (await replica.say(session, f"line {i}")).status == 201
    assert (await replica.ask("POST", f"/sessions/{session}/suspend", {})).status == 200


async def wish(replica: Replica, session: str) -> None:
    """Once: each wish is a write of its own, which a move under way gives way to."""
    asked_for = await replica.ask("POST", f"/sessions/{session}/archive", {})
    assert (asked_for.status, asked_for.body["placement"]) == (202, "warm"), asked_for


async def is_archived(replica: Replica, session: str) -> bool:
    """Looks at the list, for which nothing is read of cold."""
    found = await replica.ask("GET", "/sessions?placement=cold&limit=200")
    return session in [item["id"] for item in found.body["items"]]


async def archived(replica: Replica, session: str) -> None:
    await a_sleeper(replica, session)
    await wish(replica, session)
    await eventually(lambda: is_archived(replica, session), ARCHIVE_SECONDS, "it is archived")


def of_the_past(session: str) -> tuple[Call, ...]:
    """What needs the body of an archived session."""
    path = f"/sessions/{session}"
    return (
        Call("GET", path),
        Call("GET", path, headers={"min_version": "1"}),
        Call("GET", f"{path}/entries"),
        Call("POST", f"{path}/resume", {}, "resume"),
        Call("POST", f"{path}/entries", {"entries": [{"type": "message", "role": "user", "content": "on"}]}, "on"),
    )


def is_whole(shown: Answered) -> bool:
    texts = [entry["content"] for entry in shown.body["entries"] if entry["type"] == "message"]
    return shown.status == 200 and texts == [f"line {i}" for i in range(LINES)]


@pytest.mark.parametrize("fault", share(FAULTS, quick=("down",)))
async def test_without_cold_only_archived_history_is_away(scene: Scene, fault: str) -> None:
    a, b = scene.both
    name = fault.replace(" ", "-")
    await a.create(f"live-{name}")
    await archived(a, f"old-{name}")  # by a, so that b has no body of it in memory
    await a_sleeper(a, f"waits-{name}")
    outage = Outage(b, "cold")
    for replica in scene.both:
        await FAULTS[fault](replica.lines.cold)
    version = (await b.ask("GET", f"/sessions/old-{name}/resumable")).headers["etag"]

    async def refused() -> bool:
        assert_refused(await asked(b, of_the_past(f"old-{name}")), "cold", seconds=FIRST_SECONDS)
        return await b.state("cold") == "down"

    await eventually(refused, HEAL_SECONDS, "the breaker opens")
    await outage.seen()
    await wish(a, f"waits-{name}")
    took: list[list[float]] = []
    for i in range(3):
        assert await normal(b, f"live-{name}")
        live = await asked(b, (*judging(f"live-{name}", f"j{i}"), *writing(f"live-{name}", f"w{i}")))
        assert [one.status for one in live] == [200, 200, 200, 404, 201, 200, 200, 201], live
        took.append([one.seconds for one in live])
    # What waits for cold does so each time; a busy machine does not hold up the same call in each round.
    assert max(min(rounds) for rounds in zip(*took, strict=True)) < THEN_SECONDS
    assert (await b.ask("GET", f"/sessions/old-{name}/resumable")).headers["etag"] == version, "the head is unchanged"
    assert not await is_archived(a, f"waits-{name}")
    assert is_whole(await b.ask("GET", f"/sessions/waits-{name}"))
    await scene.mend()
    await outage.healed(f"live-{name}", first=lambda: tried(b))
    assert is_whole(await b.ask("GET", f"/sessions/old-{name}"))
    await eventually(lambda: is_archived(a, f"waits-{name}"), ARCHIVE_SECONDS, "the archive goes on")
    assert is_whole(await b.ask("GET", f"/sessions/waits-{name}"))
    await asked(b, of_the_past(f"old-{name}"))
    assert (await b.texts(f"old-{name}")).count("on") == 1


async def test_an_archive_is_whole_though_answers_to_its_puts_were_lost(scene: Scene) -> None:
    a, b = scene.both
    cuts = 0

    async def lose_answers(request: Message, go_on: Pass) -> Message:
        nonlocal cuts
        got = await go_on(request)
        if request.method == "PUT" and cuts < 2:
            cuts += 1
            raise Cut
        return got

    await a_sleeper(a, "lost-put")
    for replica in scene.both:
        replica.lines.s3.rule = lose_answers
    await wish(a, "lost-put")
    await eventually(lambda: is_archived(a, "lost-put"), ARCHIVE_SECONDS, "it is archived")
    assert cuts == 2
    await scene.mend()
    assert is_whole(await b.ask("GET", "/sessions/lost-put"))


async def test_a_replica_that_is_cut_off_from_cold_leaves_the_archive_to_the_others(scene: Scene) -> None:
    a, b = scene.both
    await archived(b, "theirs")
    outage = Outage(a, "cold")
    await a.lines.cold.down()

    async def refused() -> bool:
        assert_refused(await asked(a, of_the_past("theirs")[:3]), "cold", seconds=FIRST_SECONDS)
        return await a.state("cold") == "down"

    await eventually(refused, HEAL_SECONDS, "the breaker opens")
    await outage.seen()
    assert is_whole(await b.ask("GET", "/sessions/theirs"))
    await a_sleeper(a, "by-others")
    await wish(a, "by-others")
    await eventually(lambda: is_archived(a, "by-others"), ARCHIVE_SECONDS, "b archives it")
    assert is_whole(await b.ask("GET", "/sessions/by-others"))
    await scene.mend()
    await a.create("anything")
    await outage.healed("anything", first=lambda: tried(a))
    assert is_whole(await a.ask("GET", "/sessions/by-others"))


@pytest.mark.parametrize("harm", share([*HARMS, "empty", "another's"], quick=HARMS))
async def test_a_damaged_object_is_told_and_never_shown(scene: Scene, harm: str) -> None:
    a, b = scene.both
    name = f"harm-{harm[:5].strip().replace(' ', '-')}"
    await archived(a, name)
    await archived(a, f"{name}-other")
    async with scene.servers.objects() as client:
        stored = await bodies_of(client, scene, name)  # more than one where both replicas have tried
        [strange, *_] = (await bodies_of(client, scene, f"{name}-other")).values()
        for key, body in stored.items():
            harmed = {
                "a bit": body[:-9] + bytes([body[-9] ^ 1]) + body[-8:],
                "truncated": body[: len(body) // 2],
                "empty": b"",
                "another's": strange,
            }
            if harm == "missing":
                await client.delete_object(Bucket=scene.servers.bucket, Key=key)
            else:
                await client.put_object(Bucket=scene.servers.bucket, Key=key, Body=harmed[harm])
        before = len(b.logged("request_failed"))
        answers = await asked(b, of_the_past(name))
        assert [(one.status, one.body["type"]) for one in answers] == [(500, "data-corrupt")] * len(answers)
        assert all("line" not in str(one.body) and one.seconds < THEN_SECONDS for one in answers)
        assert len(b.logged("request_failed")) == before + len(answers)
        assert is_whole(await b.ask("GET", f"/sessions/{name}-other")), "nobody else is hurt"
        assert await b.state("cold") == "ok", "a damaged object is no outage"
        for key, body in stored.items():
            await client.put_object(Bucket=scene.servers.bucket, Key=key, Body=body)
    assert is_whole(await b.ask("GET", f"/sessions/{name}")), "put back, it is what it was: nothing was rewritten"


async def bodies_of(client: Any, scene: Scene, session: str) -> dict[str, bytes]:
    """The objects of a session, by their keys."""
    bucket, prefix = scene.servers.bucket, session_prefix(Key("default", session))
    found = await client.list_objects_v2(Bucket=bucket, Prefix=prefix)
    bodies: dict[str, bytes] = {}
    for each in found["Contents"]:
        got = await client.get_object(Bucket=bucket, Key=each["Key"])
        async with got["Body"] as body:
            bodies[each["Key"]] = await body.read()
    return bodies


async def test_a_bucket_without_room_keeps_sessions_in_warm_and_whole(scene: Scene) -> None:
    a, b = scene.both

    async def no_room(request: Message, go_on: Pass) -> Message:
        return answer(507, "InsufficientStorage") if request.method == "PUT" else await go_on(request)

    await archived(a, "before-full")
    await a_sleeper(a, "full")
    for replica in scene.both:
        replica.lines.s3.rule = no_room
    tried = a.lines.s3.count("PUT") + b.lines.s3.count("PUT")
    await wish(a, "full")

    async def was_tried() -> bool:
        return a.lines.s3.count("PUT") + b.lines.s3.count("PUT") > tried

    await eventually(was_tried, ARCHIVE_SECONDS, "somebody tries to put it")
    for replica in scene.both:
        assert not await is_archived(replica, "full")
        assert is_whole(await replica.ask("GET", "/sessions/full"))
    assert is_whole(await b.ask("GET", "/sessions/before-full")), "what can be read is read"
    await scene.mend()
    await eventually(lambda: is_archived(a, "full"), ARCHIVE_SECONDS, "there is room again")
    assert is_whole(await b.ask("GET", "/sessions/full"))
