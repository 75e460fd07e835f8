"""Whole calls at a simulated Twilio, which signs and refuses as the real one does, with the real service behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager.bridges.functions import Function, Invocation
from sessionmanager.simulate.calling.script import Drop, HangUp, Hold, Listen, Press, Say
from sessionmanager.simulate.twilio.phone import TwilioCall
from tests.bridges.carriers import cut_off, heard_after, play, ringing, twilio
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, rig, until
from tests.support.left_out import FULL, share

pytestmark = pytest.mark.contract

LOOKS_MAX = 1000
THANKS = "Thank you."
WELCOME = "You are welcome."


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


async def session_of(calls: Rig, phone: TwilioCall) -> str:
    """The session of a call, by the name that Twilio gave it."""
    found = await calls.service.http.get("/lookup", params={"external_id": phone.call_sid})
    assert found.status_code == 200, found.text
    return found.json()["id"]


async def record_of(calls: Rig, phone: TwilioCall) -> dict[str, Any]:
    """The call's own record."""
    items = (await calls.service.http.get("/calls", params={"gateway": "twilio"})).json()["items"]
    return next(item for item in items if item["gateway_call_id"] == phone.call_sid)


async def ended_record_of(calls: Rig, phone: TwilioCall) -> dict[str, Any]:
    """The same, once the bridge's last report has come."""
    for _ in range(LOOKS_MAX):
        record = await record_of(calls, phone)
        if record["state"] == "ended":
            return record
        await asyncio.sleep(0.02)
    raise AssertionError(record)


async def test_a_media_stream_is_greeted_answered_and_hung_up_by_the_caller(calls: Rig) -> None:
    async with twilio(calls) as (served, bridge), ringing(served) as phone:
        told = await play(phone, Listen(), Say(BALANCE), Listen(), Press("7"), Say(THANKS), Listen(), HangUp())
        assert [one for one in told if one[0] == "bot"] == [("bot", GREETING), ("bot", ANSWER), ("bot", WELCOME)]
        session = await session_of(calls, phone)
        said = [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER), ("user", "[keys: 7]")]
        await calls.wait_said(session, [*said, ("user", THANKS), ("assistant", WELCOME)])
        await until(lambda: not bridge.calls)
        record = await ended_record_of(calls, phone)
        assert (record["state"], record["end_reason"], record["session_id"]) == ("ended", "normal", session)
        assert (record["caller"], record["callee"]) == ("+12025550123", "+12025550199")
        assert record["answered_at"] is not None, "who speaks has answered, whether or not Twilio says so"


async def test_a_relay_is_greeted_by_twilio_and_answered_by_the_bot(calls: Rig) -> None:
    async with twilio(calls, serves="relay", greeting="Welcome.") as (served, _), ringing(served) as phone:
        told = await play(phone, Listen(), Say(THANKS), Listen(), Press("7"), HangUp())
        assert told == [("bot", "Welcome."), ("caller", THANKS), ("bot", WELCOME), ("caller", "[7]")]
        session = await session_of(calls, phone)
        await calls.wait_said(session, [("user", THANKS), ("assistant", WELCOME), ("user", "[keys: 7]")])


@pytest.mark.parametrize("serves", share(("media", "relay"), quick=("media",)))
async def test_a_caller_who_cuts_in_is_heard_and_the_log_holds_what_they_heard(calls: Rig, serves: Any) -> None:
    async with twilio(calls, serves=serves) as (served, _), ringing(served) as phone:
        told = await play(phone, Listen(), Say(BALANCE), Say(THANKS, over=True), Listen(), HangUp())
        assert told[-1] == ("bot", WELCOME)
        cut, heard = await cut_off(calls, await session_of(calls, phone)), heard_after(told, BALANCE)
        assert ANSWER.startswith(cut["heard"])
        assert abs(len(heard) - len(cut["heard"])) < 30, (heard, cut["heard"])


@pytest.mark.parametrize("serves", share(("media", "relay"), quick=("relay",)))
async def test_a_dropped_socket_joins_the_same_session_again_by_the_action_address(calls: Rig, serves: Any) -> None:
    async with twilio(calls, serves=serves) as (served, _), ringing(served) as phone:
        told = await play(phone, Listen(), Drop(), Say(BALANCE), Listen(), Drop(), Say(THANKS), Listen(), HangUp())
        assert [text for who, text in told if who == "bot"] == [GREETING, ANSWER, WELCOME]
        assert phone.resumes == 2
        session = await session_of(calls, phone)
        said = [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER), ("user", THANKS)]
        await calls.wait_said(session, [*said, ("assistant", WELCOME)])


@pytest.mark.parametrize(
    ("what", "serves"),
    share(
        [("transfer", "media"), ("transfer", "relay"), ("hang_up", "media"), ("hang_up", "relay")],
        quick=[("transfer", "relay"), ("hang_up", "media")],
    ),
)
async def test_the_bot_hands_over_or_hangs_up_by_a_function(calls: Rig, what: str, serves: Any) -> None:
    async def look_up(invocation: Invocation) -> Any:
        handset = invocation.handset
        assert handset is not None
        if what == "transfer":
            await handset.transfer("+12025550177", "asked for a person")
        else:
            await handset.end("done")
        return "done"

    functions = [Function(name="look_up", run=look_up, speaks=False)]
    async with twilio(calls, functions=functions, serves=serves) as (served, _), ringing(served) as phone:
        await play(phone, Listen(), Say("Look it up."))
        await asyncio.wait_for(phone.over.wait(), 30)
        assert phone.ending == ("dial: +12025550177" if what == "transfer" else "hangup")


async def test_a_function_in_flight_outlives_the_socket(calls: Rig) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def look_up(_: Invocation) -> Any:
        asked.set()
        await go_on.wait()
        return {"found": True}

    functions = [Function(name="look_up", run=look_up)]
    async with twilio(calls, functions=functions) as (served, _), ringing(served) as phone:
        await play(phone, Listen(), Say("Look it up."))
        await asyncio.wait_for(asked.wait(), 30)
        session = await session_of(calls, phone)
        await calls.wait_said(session, [("assistant", GREETING), ("user", "Look it up."), ("call", "look_up")])
        await phone.drop()
        go_on.set()
        assert await play(phone, Listen(), HangUp()) == [("bot", "It was found.")]


async def test_a_call_on_hold_goes_on(calls: Rig) -> None:
    async with twilio(calls) as (served, _), ringing(served) as phone:
        told = await play(phone, Listen(), Hold(0.5), Say(BALANCE), Listen(), HangUp())
        assert told[-1] == ("bot", ANSWER)
        types = [entry.get("data") for entry in await calls.log(await session_of(calls, phone))]
        assert any("held" in str(data) for data in types)


async def test_a_bridge_without_the_registry_takes_calls_by_their_own_name(calls: Rig) -> None:
    async with twilio(calls, has_desk=False) as (served, _), ringing(served) as phone:
        told = await play(phone, Listen(), Drop(), Say(THANKS), Listen(), HangUp())
        assert told[-1] == ("bot", WELCOME)
        said = [("assistant", GREETING), ("user", THANKS), ("assistant", WELCOME)]
        await calls.wait_said(phone.call_sid, said)


@FULL
async def test_sixty_four_calls_at_once_each_hear_their_own_bot(calls: Rig) -> None:
    async with twilio(calls) as (served, bridge):

        async def one() -> None:
            async with ringing(served) as phone:
                told = await play(phone, Listen(), Say(THANKS), Listen(), HangUp())
                assert told == [("bot", GREETING), ("caller", THANKS), ("bot", WELCOME)]

        await asyncio.gather(*(one() for _ in range(64)))
        await until(lambda: not bridge.calls)
