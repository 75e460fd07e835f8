"""What is done about an error is what its remedy says, bounded by tries, by time and by a budget."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx2
import pytest

from sessionmanager import errors
from sessionmanager.client import NEVER, AsyncClient, TimedOut, TokenSource, Unreachable
from sessionmanager.client.retry import Budget, Retrier, Retry
from tests.client.scripted import Script, answer, client_of, refusal
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

RECEIPT = {"id": "a", "version": 7, "status": "active"}
WAITS: list[errors.SessionManagerError] = [
    errors.RateLimited(), errors.InProgress(), errors.Contended(), errors.TierUnavailable("warm"), errors.Draining(),
    errors.Overloaded(), errors.OutcomeUnknown(),
]  # fmt: skip
RAISED: list[errors.SessionManagerError] = [
    errors.Invalid([errors.FieldError("/a", "b")]), errors.Forbidden(), errors.NotFound(), errors.Erased(),
    errors.IllegalTransition("ended", []), errors.VersionConflict(9), errors.PreconditionRequired(),
    errors.DataCorrupt(), errors.UpstreamFailed(), errors.KeyReused(),
]  # fmt: skip


@pytest.mark.parametrize("error", WAITS, ids=lambda error: error.type)
@on_virtual_time
async def test_a_remedy_of_wait_or_repeat_sends_the_same_request_again(error: errors.SessionManagerError) -> None:
    script = Script(refusal(error), refusal(error), answer(RECEIPT))
    async with client_of(script) as client:
        assert (await client.append("a", [{"type": "message"}])).version == 7
    assert len(set(script.keys)) == 1
    assert len({request.content for request in script.seen}) == 1
    assert len(script.seen) == 3


@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.type)
@on_virtual_time
async def test_every_other_remedy_is_raised_at_once(error: errors.SessionManagerError) -> None:
    script = Script(refusal(error), answer(RECEIPT))
    async with client_of(script) as client:
        with pytest.raises(type(error)):
            await client.suspend("a")
    assert len(script.seen) == 1


@on_virtual_time
async def test_a_pause_is_never_shorter_than_retry_after_and_has_jitter() -> None:
    pauses = set()
    for _ in range(20):
        script = Script(refusal(errors.TierUnavailable("warm", retry_after_seconds=3)), answer(RECEIPT))
        async with client_of(script) as client:
            began = asyncio.get_running_loop().time()
            await client.suspend("a")
            pauses.add(asyncio.get_running_loop().time() - began)
    assert min(pauses) >= 3
    assert max(pauses) <= 3.75 + 0.01
    assert len(pauses) > 10


@on_virtual_time
async def test_tries_are_bounded_in_number() -> None:
    script = Script(httpx2.ConnectError("x"))
    async with client_of(script, tries_max=4) as client:
        with pytest.raises(Unreachable):
            await client.get("a")
    assert len(script.seen) == 4


@on_virtual_time
async def test_tries_are_bounded_by_the_deadline_and_a_longer_retry_after_is_not_waited_for() -> None:
    script = Script(refusal(errors.TierUnavailable("warm", retry_after_seconds=60)))
    async with client_of(script, deadline_seconds=5) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(errors.TierUnavailable):
            await client.get("a")
        assert asyncio.get_running_loop().time() - began < 1
    assert len(script.seen) == 1


@on_virtual_time
async def test_a_call_and_all_its_tries_end_within_the_deadline() -> None:
    class Never(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await asyncio.sleep(1e6)
            raise AssertionError

    async with client_of(Never(), deadline_seconds=20, try_seconds=6) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimedOut):
            await client.get("a")
        assert 12 <= asyncio.get_running_loop().time() - began <= 20.1


def test_a_budget_bounds_the_repeats_of_all_calls_together() -> None:
    budget = Budget(burst=3, share=0.1)
    assert [budget.spend() for _ in range(5)] == [True] * 3 + [False] * 2
    for _ in range(20):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


@on_virtual_time
async def test_a_service_that_is_away_is_not_met_by_more_repeats_than_the_budget_has() -> None:
    script = Script(httpx2.ConnectError("x"))
    async with client_of(script, burst=10, share=0.1, tries_max=3) as client:
        for _ in range(50):
            with pytest.raises(Unreachable):
                await client.get("a")
    assert 60 <= len(script.seen) <= 50 + 10 + 5


@on_virtual_time
async def test_a_write_whose_answer_was_lost_is_never_told_as_unsent() -> None:
    script = Script(httpx2.ReadError("x"), httpx2.ConnectError("x"))
    async with client_of(script, tries_max=3) as client:
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.suspend("a", key="k-1")
    assert "idempotency key k-1" in caught.value.__notes__


@on_virtual_time
async def test_after_a_lost_answer_a_token_that_is_refused_does_not_say_that_nothing_stands() -> None:
    script = Script(httpx2.ReadError("x"), refusal(errors.Unauthenticated()))
    async with client_of(script) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.suspend("a")
    script = Script(httpx2.ReadError("x"), refusal(errors.Erased()))
    async with client_of(script) as client:
        with pytest.raises(errors.Erased) as caught:
            await client.suspend("a")
    assert any("no answer" in note for note in caught.value.__notes__)


async def test_never_is_one_request() -> None:
    script = Script(refusal(errors.Draining()))
    async with AsyncClient("http://service", "t", retry=NEVER, transport=script) as client:
        with pytest.raises(errors.Draining):
            await client.get("a")
    assert len(script.seen) == 1


async def test_a_floor_that_is_taken_is_an_answer_and_not_waited_for() -> None:
    script = Script(refusal(errors.FloorTaken("par_1", 3, 20.0)))
    async with client_of(script) as client:
        with pytest.raises(errors.FloorTaken) as caught:
            await client.claim_floor("a", participant="par_2")
    assert (caught.value.holder, caught.value.number, caught.value.retry_after_seconds) == ("par_1", 3, 20.0)
    assert len(script.seen) == 1


async def test_a_refused_token_is_asked_for_once_more_by_the_function_that_gives_them() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        fresh = request.headers["authorization"] == "Bearer two"
        return answer(RECEIPT) if fresh else refusal(errors.Unauthenticated())

    tokens = iter(("one", "two", "three"))

    async def give() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    script = Script(handle)
    async with client_of(script, token=give) as client:
        await client.suspend("a")
    assert len(script.seen) == 2
    assert len(set(script.keys)) == 1


async def test_a_source_of_tokens_hears_which_one_was_refused() -> None:
    class Source(TokenSource):
        def __init__(self) -> None:
            self.heard: list[str | None] = []

        async def get(self, refused: str | None) -> str:
            self.heard.append(refused)
            return f"token-{len(self.heard)}"

    source, script = Source(), Script(refusal(errors.Unauthenticated()))
    async with client_of(script, token=source) as client:
        with pytest.raises(errors.Unauthenticated):
            await client.get("a")
    assert source.heard == [None, "token-1"]
    assert len(script.seen) == 2


async def test_a_decision_is_made_again_on_what_is_there_now() -> None:
    def session(version: int, *labels: str) -> dict[str, Any]:
        at = "2026-11-21T13:07:39.123Z"
        return {"id": "a", "version": version, "status": "active", "placement": "warm", "created_at": at,
                "updated_at": at, "last_activity": at, "labels": labels}  # fmt: skip

    script = Script(
        answer(session(3, "x"), etag='"v3"'),
        refusal(errors.VersionConflict(5)),
        answer(session(5, "y"), etag='"v5"'),
        answer(session(6, "y", "vip"), etag='"v6"'),
    )
    async with client_of(script) as client:
        done = await client.update("a", lambda now: {"labels": [*now.labels, "vip"]})
    assert done.labels == ("y", "vip")
    assert script.seen[1].headers["if-match"] == '"v3"'
    assert script.seen[3].headers["if-match"] == '"v5"'
    assert script.seen[2].headers["min-version"] == "5"


async def test_decisions_that_are_always_too_late_end() -> None:
    at = "2026-11-21T13:07:39.123Z"
    session = {"id": "a", "version": 3, "status": "active", "placement": "warm", "created_at": at, "updated_at": at,
               "last_activity": at}  # fmt: skip
    script = Script(lambda request: answer(session) if request.method == "GET" else refusal(errors.VersionConflict(5)))
    async with client_of(script) as client:
        with pytest.raises(errors.VersionConflict):
            await client.update("a", lambda now: {"labels": []})
        assert await client.update("a", lambda now: None) is not None


def test_pauses_grow_and_are_bounded() -> None:
    retrier = Retrier(Retry(pause_seconds=0.1, pause_seconds_max=5), random.Random(1))
    pauses = [retrier.pause(Unreachable(), tries) for tries in range(1, 200)]
    assert max(pauses) <= 5
    assert pauses[0] <= 0.1
    assert min(pauses[10:]) >= 2.5
