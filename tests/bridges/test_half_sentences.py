"""A caller who is cut off in mid-sentence with the carrier's socket says the rest alone: what was said before and after
is one turn at the next model, once. Where nobody has the sound, the words stand in the log. `test_kept_sentences.py`
has what another process does with what the service keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessionmanager.bridges.media.formats import RAW_LPCM16_24, MediaFormat
from sessionmanager.bridges.upstream import Setup
from sessionmanager.bridges.voice_activity import Energy, VoiceState
from sessionmanager.simulate.realtime.behaviour import Behaviour
from tests.bridges.phone import PATIENCE_SECONDS, Phone
from tests.bridges.rig import ANSWER, BALANCE, GREETING, Rig, phoning, rig, until
from tests.support.left_out import FULL

pytestmark = pytest.mark.fault

HALF = "What is my"
REST = " balance?"
TALK = [("assistant", GREETING), ("user", BALANCE), ("assistant", ANSWER)]
WELCOME = [("user", "Thank you."), ("assistant", "You are welcome.")]
NEVER = 60.0
WORDS = "conversation.item.input_audio_transcription.completed"


@pytest.fixture
async def calls() -> AsyncIterator[Rig]:
    async with rig() as made:
        yield made


def hears(media: MediaFormat, state: VoiceState) -> Energy:
    """The sound of simulated speech is quiet."""
    return Energy(media, state, level=20)


def turns(calls: Rig, connection: int = -1) -> list[str]:
    """What the caller said, as a model has it."""
    return [one.text for one in calls.model.connections[connection].items.heard if one.who == "user"]


async def half_said(phone: Phone) -> None:
    """The greeting was heard, and the bridge knows that the caller speaks."""
    await phone.hears(GREETING)
    await phone.sound(HALF)
    await until(lambda: any(one.what == "started" for one in phone.noticed))


async def noticed(calls: Rig, what: str) -> None:
    await until(lambda: f"input_audio_buffer.speech_{what}" in calls.model.connections[-1].sent)


async def goes_on(phone: Phone, text: str = REST) -> None:
    await phone.say(text)
    await phone.hears("You have")
    assert phone.heard.startswith("You have")


async def test_a_sentence_in_two_pieces_is_one_turn_at_the_next_model(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await half_said(phone)
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]
            assert not calls.model.connections[-1].refusals
            await calls.wait_said("call-1", TALK)
    await calls.wait_said("call-1", TALK)


async def test_words_of_the_first_piece_that_are_there_before_the_caller_do_not_part_the_sentence(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await half_said(phone)
            phone.drop()
        await until(lambda: WORDS in calls.model.connections[0].sent and not calls.model.live)
        async with phoning(bridge, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]


async def test_speech_that_no_model_has_told_of_yet_is_not_lost_either(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.sound("W")
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await goes_on(phone, BALANCE[1:])
            assert turns(calls) == [BALANCE]


@FULL
async def test_a_line_that_is_lost_twice_in_one_sentence(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        for piece in ("What", " is my"):
            async with phoning(bridge) as (phone, _):
                await until(lambda: len(calls.model.connections) > 0)
                if piece == "What":
                    await phone.hears(GREETING)
                await phone.sound(piece)
                await noticed(calls, "started")
                phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await goes_on(phone)
            assert turns(calls) == [BALANCE]


async def test_a_newer_line_while_the_older_one_is_still_there_is_told_the_beginning(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, older):
        await half_said(phone)
        async with phoning(bridge, opening="resume") as (again, _):
            assert (await older.over()).reason == "superseded"
            await goes_on(again)
            assert turns(calls) == [BALANCE]
            await calls.wait_said("call-1", TALK)


@FULL
async def test_a_line_in_another_format_is_told_it_too(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await half_said(phone)
            phone.drop()
        async with phoning(bridge, opening="resume", media=RAW_LPCM16_24, media_format="raw/lpcm16_24") as (phone, _):
            await phone.say(REST)
            await until(lambda: turns(calls) == [BALANCE])


async def test_who_was_cut_off_before_the_greeting_is_answered_and_not_greeted(calls: Rig) -> None:
    async with calls.bridge(greeting=None) as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await until(lambda: len(calls.model.connections) == 1)
            await phone.sound(HALF)
            await until(lambda: any(one.what == "started" for one in phone.noticed))
            phone.drop()
        half = one.parts.halves.take("call-1")
        assert half is not None
        two.parts.halves.keep("call-1", half)
        async with phoning(two, opening="resume") as (phone, _):
            await goes_on(phone)
            assert "response.create" not in calls.model.connections[-1].received
            assert turns(calls) == [BALANCE]


async def test_where_the_bridge_listens_it_goes_on_listening(calls: Rig) -> None:
    async with calls.bridge(hears=hears, setup=Setup(turns="bridge")) as bridge:
        async with phoning(bridge) as (phone, _):
            await half_said(phone)
            phone.drop()
        async with phoning(bridge, opening="resume") as (phone, _):
            await goes_on(phone)
            assert [one.what for one in phone.noticed][:2] == ["started", "stopped"]
            assert turns(calls) == [BALANCE]
            await calls.wait_said("call-1", TALK)


async def test_where_the_bridge_listens_a_model_that_is_lost_before_its_words_is_followed_by_one_that_answers(
    calls: Rig,
) -> None:
    calls.model.behaviour = Behaviour(transcribe_seconds=NEVER)
    async with calls.bridge(hears=hears, setup=Setup(turns="bridge")) as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say(BALANCE)
        await until(lambda: "input_audio_buffer.committed" in calls.model.connections[0].sent)
        calls.model.behaviour = Behaviour()
        calls.model.kill()
        await calls.model.connected(2)
        await until(lambda: turns(calls) == [BALANCE])
        await phone.hears("this month.")
        await calls.wait_for(lambda told: told.count(("user", BALANCE)) == 1)


# -- words that were still to come


@FULL
async def test_words_that_come_soon_after_the_line_was_lost_are_kept(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(transcribe_seconds=0.2)
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.say(BALANCE)
            await noticed(calls, "stopped")
            phone.drop()
        await calls.wait_for(lambda told: ("user", BALANCE) in told)
        async with phoning(bridge, opening="resume") as (phone, _):
            await phone.hears("this month.")
            assert turns(calls) == [BALANCE]


@FULL
async def test_words_that_are_late_are_superseded_by_the_sound(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(transcribe_seconds=NEVER)
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.say(BALANCE)
            await noticed(calls, "stopped")
            phone.drop()
        calls.model.behaviour = Behaviour()
        async with phoning(bridge, opening="resume") as (phone, _):
            await phone.hears("this month.")
            assert turns(calls) == [BALANCE]
            await calls.wait_for(lambda told: told.count(("user", BALANCE)) == 1)


async def test_a_newer_line_does_not_wait_for_words_that_are_late(calls: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessionmanager.bridges.bridge.OLDER_SECONDS", NEVER)
    calls.model.behaviour = Behaviour(transcribe_seconds=NEVER)
    async with calls.bridge(order_seconds=NEVER) as bridge, phoning(bridge) as (phone, _):
        await phone.hears(GREETING)
        await phone.say(BALANCE)
        await noticed(calls, "stopped")
        calls.model.behaviour = Behaviour()
        async with asyncio.timeout(PATIENCE_SECONDS), phoning(bridge, opening="resume") as (again, _):
            await again.hears("You have")
            assert turns(calls) == [BALANCE]


async def test_the_last_words_before_a_hang_up_are_written_down(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(transcribe_seconds=0.2)
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await phone.hears(GREETING)
        await phone.say("Thank you.")
        await noticed(calls, "stopped")
        await call.hang_up("caller")
        await call.over()
        await calls.wait_for(lambda told: ("user", "Thank you.") in told)
        assert len(bridge.parts.halves) == 0


async def test_what_a_caller_was_saying_who_hangs_up_is_not_kept(calls: Rig) -> None:
    async with calls.bridge() as bridge:
        async with phoning(bridge) as (phone, call):
            await half_said(phone)
            await call.hang_up("caller")
        assert len(bridge.parts.halves) == 0


# -- elsewhere, where the service keeps no sound: who has none reads the words


async def test_who_is_cut_off_and_comes_back_elsewhere_has_said_half_a_sentence_there(calls: Rig) -> None:
    async with calls.bridge(return_seconds=0.0, checkpoint_seconds=0.0) as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await half_said(phone)
            phone.drop()
        await calls.wait_said("call-1", [("assistant", GREETING), ("user", HALF)])
        (said,) = [entry for entry in await calls.log("call-1") if entry.get("role") == "user"]
        assert said["data"] == {"cut": "line"}
        assert len(one.parts.halves) == 0, "the words stand for the sound"
        async with phoning(two, opening="resume") as (phone, _):
            await phone.say("Thank you.")
            await phone.hears("You are welcome.")
            assert "response.create" not in calls.model.connections[-1].received, "nobody answers half a sentence"
            assert turns(calls) == [HALF, "Thank you."]
    await calls.wait_said("call-1", [("assistant", GREETING), ("user", HALF), *WELCOME])


async def test_speech_that_the_bridge_had_not_been_told_of_is_written_down_too(calls: Rig) -> None:
    async with calls.bridge(return_seconds=0.0) as bridge:
        async with phoning(bridge) as (phone, _):
            await phone.hears(GREETING)
            await phone.sound(HALF)
            phone.drop()
        await calls.wait_said("call-1", [("assistant", GREETING), ("user", HALF)])


async def test_words_that_come_after_another_bridge_has_the_call_are_told_its_model_and_not_answered(
    calls: Rig,
) -> None:
    async with calls.bridge(return_seconds=0.0, checkpoint_seconds=0.0) as one, calls.bridge() as two:
        async with phoning(one) as (phone, _):
            await half_said(phone)
            phone.drop()
        async with phoning(two, opening="resume") as (phone, _):
            await until(lambda: turns(calls) == [HALF])
            await phone.say("Thank you.")
            await phone.hears("You are welcome.")
            assert "response.create" not in calls.model.connections[-1].received


async def test_a_bridge_that_stops_writes_down_what_its_callers_were_saying(calls: Rig) -> None:
    async with calls.bridge() as bridge, phoning(bridge) as (phone, call):
        await half_said(phone)
        stopping = asyncio.create_task(bridge.stop())
        await call.over()
    await stopping
    await calls.wait_said("call-1", [("assistant", GREETING), ("user", HALF)])


@FULL
async def test_what_nobody_comes_back_for_is_forgotten(calls: Rig) -> None:
    calls.model.behaviour = Behaviour(transcribes=False)
    async with calls.bridge(half_seconds=0.3, checkpoint_seconds=0.0) as bridge:
        async with phoning(bridge) as (phone, _):
            await half_said(phone)
            phone.drop()
        await until(lambda: len(bridge.parts.halves) == 0)
        async with phoning(bridge, opening="resume") as (phone, _):
            await phone.say(BALANCE)
            await phone.hears(ANSWER)
            assert turns(calls) == [BALANCE]
