"""What others do in the session while a call lasts, and what becomes of a model's connection that grows old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sessionmanager import errors
from sessionmanager.bridges.bridge import TooManyCalls
from sessionmanager.simulate.realtime.behaviour import Behaviour
from sessionmanager.simulate.realtime.items import Item, Items, Refused
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, eventually, phoning, rig, until

pytestmark = pytest.mark.contract

WELCOME = [("user", "Thank you."), ("assistant", "You are welcome.")]


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


async def post(calls: Rig, path: str, body: Any = None) -> Any:
    got = await calls.service.http.post(path, json=body or {})
    assert got.status_code < 300, got.text
    return got.json()


async def claimed_by(calls: Rig, kind: str) -> None:
    """Wait until the floor is held by a participant of this kind."""

    def holds(session: dict[str, Any]) -> bool:
        holder = (session["floor"] or {}).get("holder")
        return any(person["id"] == holder and person["kind"] == kind for person in session["participants"])

    await eventually(calls.session, holds)


# -- who holds the call


async def test_the_newest_arrival_has_the_call_and_the_older_bridge_is_told(calls: Rig) -> None:
    async with calls.bridge() as one, calls.bridge() as two, phoning(one) as (first, older):
        await first.hears(GREETING)
        async with phoning(two, opening="either") as (second, newer):
            assert (await older.over()).reason == "superseded"
            assert newer.resumed
            await second.say("Thank you.")
            await second.hears("You are welcome.")
    session = (await calls.service.http.get("/sessions/call-1")).json()
    assert len(session["participants"]) == 1
    assert session["resumed_count"] == 1
    await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])


async def test_in_one_bridge_the_newest_arrival_has_the_call_too_and_knows_what_was_heard(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (first, older):
        await first.hears(GREETING)
        await first.say(BALANCE)
        await first.hears("twelve euros")
        async with phoning(bridge, opening="resume") as (second, _):
            assert (await older.over()).reason == "superseded"
            await second.hears("this month.")
    told = [text for who, text in await calls.said("call-1") if who == "assistant"]
    assert " ".join(told) == f"{GREETING} {ANSWER}"


@pytest.mark.parametrize(("action", "reason"), [("end", "session-ended"), ("fail", "session-ended")])
async def test_a_session_that_somebody_ends_ends_the_call(calls: Rig, action: str, reason: str) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await phone.hears("Good")
        await post(calls, f"/sessions/call-1/{action}")
        assert (await call.over()).reason == reason


async def test_a_bridge_that_is_taken_out_lets_go(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await phone.hears("Good")
        person = (await calls.service.http.get("/sessions/call-1")).json()["participants"][0]["id"]
        await calls.service.http.delete(f"/sessions/call-1/participants/{person}")
        assert (await call.over()).reason == "taken-out"


async def test_an_arrival_is_refused_what_cannot_be_had(calls: Rig) -> None:
    async with calls.bridge(calls_max=1) as bridge:
        with pytest.raises(errors.NotFound):
            async with phoning(bridge, "unknown", opening="resume"):
                pass
        await post(calls, "/sessions", {"id": "over"})
        await post(calls, "/sessions/over/end")
        with pytest.raises(errors.NotResumable):
            async with phoning(bridge, "over"):
                pass
        with pytest.raises(errors.AlreadyExists):
            async with phoning(bridge, "over", opening="create"):
                pass
        async with phoning(bridge) as (phone, _):
            await phone.hears("Good")
            with pytest.raises(TooManyCalls):
                async with phoning(bridge, "one-more"):
                    pass
        assert bridge.calls == 0


async def test_a_conversation_that_was_held_elsewhere_goes_on_by_telephone(calls: Rig) -> None:
    before = [
        {"type": "message", "role": "user", "content": BALANCE},
        {"type": "message", "role": "assistant", "content": ANSWER},
    ]
    await post(calls, "/sessions", {"id": "call-1", "entries": before})
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        assert phone.heard == "You are welcome."
    heard = [(one.who, one.text) for one in calls.model.connections[0].items.heard]
    assert heard[:2] == [("user", BALANCE), ("assistant", ANSWER)]


# -- the floor, and what others say


async def test_a_person_takes_over_and_the_bot_is_silent_until_it_is_given_back(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await claimed_by(calls, "bridge")
        await phone.say(BALANCE)
        await phone.hears("You have")
        human = await post(calls, "/sessions/call-1/participants", {"kind": "human", "identity": "eve"})
        pid = human["participant"]["id"]
        floor = await post(
            calls, "/sessions/call-1/floor", {"participant": pid, "policy": "interrupt", "takeover": True}
        )
        await until(lambda: phone.clears == 1)
        said = {"type": "message", "role": "assistant", "content": "Eve here.", "floor": floor["floor"]}
        await post(calls, "/sessions/call-1/entries", {"entries": [said]})
        await phone.say("Thank you.")
        await calls.wait_for(lambda told: ("user", "Thank you.") in told)
        assert "You are welcome." not in phone.heard
        await calls.service.http.delete("/sessions/call-1/floor", params={"participant": pid})
        await eventually(lambda: calls.happenings("call-1"), lambda told: "floor-back" in told)
        await phone.say(BALANCE)
        await phone.hears(ANSWER)
        heard = [one.text for one in calls.model.connections[0].items.heard]
        assert "Eve here." in heard
    # What was heard before the takeover is no turn of the bot's any more, and is kept all the same.
    entries = await calls.log("call-1")
    kept = [entry["data"] for entry in entries if entry["type"] == "custom.speech" and entry["status"] == "completed"]
    assert [one["heard"] for one in kept] == [one["content"] for one in kept]
    assert len(kept) == 1
    assert kept[0]["heard"].startswith("You")
    assert kept[0]["generated"].startswith(kept[0]["heard"])


async def test_where_the_floor_is_required_the_bots_words_carry_its_number(calls: Rig) -> None:
    await post(calls, "/sessions", {"id": "call-1", "floor": "required"})
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        await calls.wait_said("call-1", [("assistant", GREETING), *WELCOME])
    spoken = [entry for entry in await calls.log("call-1") if entry.get("role") == "assistant"]
    assert [entry["floor"] for entry in spoken] == [1, 1]


async def test_what_others_write_is_told_the_model_and_a_users_words_are_answered(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        whisper = {"type": "message", "role": "system", "content": "The caller is a friend."}
        typed = {"type": "message", "role": "user", "content": "Thank you."}
        await post(calls, "/sessions/call-1/entries", {"entries": [whisper, typed]})
        await phone.hears("You are welcome.")
        shown = [item.body for item in calls.model.connections[0].items]
        assert any(body.get("role") == "system" for body in shown)


# -- the model's connection


async def test_a_connection_that_ends_at_its_time_is_gone_on_with_unnoticed(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(session_seconds=2.0)
    async with calls.bridge(greeting=None) as bridge, phoning(bridge) as (phone, _):
        for n in range(1, 5):
            await phone.say("Thank you.")
            await until(lambda n=n: phone.heard.count("You are welcome.") == n)
            await asyncio.sleep(0.5)
    told = await calls.said("call-1")
    assert [text for who, text in told if who == "user"] == ["Thank you."] * 4
    assert len(calls.model.connections) >= 2
    # Replaced in a quiet moment, before it ended: nobody lost anything.
    assert "model-lost" not in await calls.happenings("call-1")


async def test_a_connection_that_ends_while_the_bot_speaks_is_gone_on_with_in_mid_sentence(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(session_seconds=1.2, pace=1.2)
    async with calls.bridge(greeting=None) as bridge, phoning(bridge) as (phone, _):
        await until(lambda: len(calls.model.connections) == 1)
        await phone.say(BALANCE)
        calls.model.behaviour = Behaviour()
        await phone.hears("this month.")
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
    told = await calls.said("call-1")
    assert " ".join(text for who, text in told if who == "assistant") == f"{ANSWER} You are welcome."
    assert "model-lost" in await calls.happenings("call-1")


async def test_a_model_that_cannot_be_had_at_all_ends_the_call_with_the_reason(calls: Rig) -> None:
    calls.model.refuses = 401
    async with calls.bridge() as bridge, phoning(bridge) as (_, call):
        over = await call.over()
        assert over.reason == "model-lost"


async def test_what_the_model_does_not_take_of_the_history_is_told_and_the_call_goes_on(
    calls: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Items.create

    def create(items: Items, body: Any, previous: Any) -> Item:
        if "poison" in str(body):
            raise Refused("invalid_value", "Not this.")
        return taken(items, body, previous)

    monkeypatch.setattr(Items, "create", create)
    said = [{"type": "message", "role": "user", "content": text} for text in ("Hi", "poison", "Hello")]
    await post(calls, "/sessions", {"id": "call-1", "entries": said})
    broken = {"type": "custom.speech", "data": "no object"}
    await post(calls, "/sessions/call-1/entries", {"entries": [broken]})
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
    heard = [one.text for one in calls.model.connections[0].items.heard if one.who == "user"]
    assert heard == ["Hi", "Hello", "Thank you."]
    happenings = await calls.happenings("call-1")
    assert happenings.count("entry-skipped") == happenings.count("item-skipped") == 1


async def test_ids_formats_and_leases_of_a_call_stand_in_its_session(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, _):
        await phone.hears("Good")
        session = await eventually(calls.session, lambda found: found["realtime"]["session_id"] is not None)
    assert session["realtime"]["session_id"] == calls.model.connections[0].setting.id
    assert (session["audio"]["format"], session["media_format"]) == ("raw/mulaw", "raw/mulaw")
    assert (session["bridge_type"], session["caller"]) == ("twilio", "+12025550123")
    (person,) = session["participants"]
    assert (person["kind"], person["identity"], person["lease_seconds"]) == ("bridge", "bridge", 30.0)


async def test_a_model_that_writes_nothing_down_leaves_a_turn_without_words(
    calls: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessionmanager.bridges.caller.listening.WORDS_SECONDS", 0.0)
    calls.model.behaviour = Behaviour(transcribes=False)
    async with calls.bridge(greeting=None, order_seconds=0.2) as bridge, phoning(bridge) as (phone, _):
        await phone.say("Thank you.")
        await phone.hears("You are welcome.")
        await calls.wait_for(lambda told: len(told) == 2)
    told = await calls.said("call-1")
    assert sorted(told, key=str) == [("assistant", "You are welcome."), ("user", [{"type": "input_audio"}])]
