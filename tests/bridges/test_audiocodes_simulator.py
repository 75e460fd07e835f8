"""The simulated VoiceAI Connect refuses what the real one refuses, and comes back as the real one does."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from sessionmanager.bridges.caller.listening import keyed
from sessionmanager.bridges.media.formats import FORMATS
from sessionmanager.bridges.media.wav import header
from sessionmanager.simulate.audiocodes.phone import VaicOptions, dial
from sessionmanager.simulate.audiocodes.rules import Rules
from sessionmanager.simulate.calling.caller import Caller, GaveUp, Refused, Told
from sessionmanager.simulate.calling.ear import ear_for_sound
from sessionmanager.simulate.calling.script import Drop, HangUp, Listen, Press, Say, read_recording, steps_of
from sessionmanager.simulate.realtime.script import Ask, Heard, Turn, read_script, script_of
from sessionmanager.simulate.speech import speech
from tests.bridges.serving import serving
from tests.support.house import ROOT
from tests.support.virtual_loop import on_virtual_time

pytestmark = pytest.mark.unit

ACCEPTED = {"type": "session.accepted", "mediaFormat": "raw/lpcm16"}
START = {"type": "playStream.start", "streamId": "s1", "mediaFormat": "raw/lpcm16"}
CHUNK = {"type": "playStream.chunk", "streamId": "s1", "audioChunk": "AAA="}
STOP = {"type": "playStream.stop", "streamId": "s1"}


def rules(*sent: dict[str, Any], asked: Sequence[str] = ("session.initiate",)) -> Rules:
    made = Rules(("raw/lpcm16", "wav/lpcm16"))
    for type_ in asked:
        made.asked(type_)
    for message in sent:
        made.came(json.dumps(message))
    return made


def activities(**members: Any) -> dict[str, Any]:
    return {"type": "activities", "activities": [members]}


def test_a_conversation_as_it_should_be_passes() -> None:
    made = rules(
        ACCEPTED, START, CHUNK, CHUNK, STOP, {**START, "streamId": "s2"}, {**STOP, "streamId": "s2"},
        {"type": "userStream.speech.started"},
        {"type": "userStream.speech.hypothesis", "alternatives": [{"text": "my"}]},
        {"type": "userStream.speech.recognition", "alternatives": [{"text": "my", "confidence": 0.5}]},
        {"type": "userStream.speech.committed"}, activities(type="event", name="hangup"),
        activities(type="message", text="hello"),
    )  # fmt: skip
    made.new_socket()
    made.asked("session.resume")
    made.came(json.dumps(ACCEPTED))
    made.came('{"type": "session.resumed", "conversationId": "c1", "sessionId": "c1"}')


@pytest.mark.parametrize(
    ("before", "wrong", "why"),
    [
        ([], START, "before session.accepted"),
        ([], {"type": "session.accepted"}, "members"),
        ([], {**ACCEPTED, "mediaFormat": "raw/mulaw"}, "was not offered"),
        ([], {"type": "session.error", "reason": ""}, "without a reason"),
        ([], {"type": "connection.validated", "success": True}, "nothing was asked"),
        ([ACCEPTED], ACCEPTED, "nothing was asked"),
        ([ACCEPTED], {"type": "session.resumed", "conversationId": "c", "sessionId": "c"}, "is new"),
        ([ACCEPTED], {"type": "session.end"}, "unknown type"),
        ([ACCEPTED], {"type": "userStream.started"}, "nothing was asked"),
        ([ACCEPTED], {**START, "more": 1}, "members"),
        ([ACCEPTED], {**START, "mediaFormat": "raw/opus"}, "raw/opus"),
        ([ACCEPTED], CHUNK, "not open"),
        ([ACCEPTED, START], {**START, "streamId": "s2"}, "while one is open"),
        ([ACCEPTED, START], {**CHUNK, "streamId": "s2"}, "not open"),
        ([ACCEPTED, START], {**CHUNK, "audioChunk": "@"}, "no base64"),
        ([ACCEPTED, START], {**CHUNK, "audioChunk": "AA=="}, "no whole samples"),
        ([ACCEPTED, START, STOP], STOP, "not open"),
        ([ACCEPTED, START, STOP], START, "used before"),
        ([ACCEPTED, {**START, "mediaFormat": "wav/lpcm16"}], CHUNK, "with its header"),
        ([ACCEPTED], {"type": "userStream.speech.hypothesis", "alternatives": []}, "without alternatives"),
        ([ACCEPTED], {"type": "userStream.speech.recognition", "alternatives": [{"text": 1}]}, "that is none"),
        ([ACCEPTED], activities(type="event", name="hang-up"), "does not know"),
        ([ACCEPTED], activities(type="message"), "does not know"),
        ([ACCEPTED], {"type": "activities", "activities": []}, "without any"),
    ],
)
def test_what_is_not_in_the_api_is_refused(before: list[dict[str, Any]], wrong: dict[str, Any], why: str) -> None:
    made = rules(*before)
    with pytest.raises(Refused, match=why):
        made.came(json.dumps(wrong))


@pytest.mark.parametrize("frame", [b"\x00", "", "[]", "3", '{"type": 7}', "{"])
def test_what_is_no_message_is_refused(frame: str | bytes) -> None:
    with pytest.raises(Refused):
        rules(ACCEPTED).came(frame)


def test_a_resume_in_another_format_is_refused_and_no_stream_id_may_come_again() -> None:
    made = rules(ACCEPTED, START)
    made.new_socket()
    made.asked("session.resume")
    with pytest.raises(Refused, match="agreed on was raw/lpcm16"):
        made.came(json.dumps({**ACCEPTED, "mediaFormat": "wav/lpcm16"}))
    made.new_socket()
    made.asked("session.resume")
    made.came(json.dumps(ACCEPTED))
    with pytest.raises(Refused, match="not open"):
        made.came(json.dumps(CHUNK))
    with pytest.raises(Refused, match="used before"):
        made.came(json.dumps(START))


def test_a_wav_stream_with_its_header_passes() -> None:
    sound = base64.b64encode(header(FORMATS["wav/lpcm16"]) + b"ab").decode()
    rules(ACCEPTED, {**START, "mediaFormat": "wav/lpcm16"}, {**CHUNK, "audioChunk": sound}, CHUNK)


# -- the telephone, against a bot that does as a test says


def bot(*answers: Any) -> Starlette:
    """Answers each of VAIC's messages by its type; `close` closes the socket."""
    table = dict(answers)

    async def converse(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                answer = table.get((await websocket.receive_json())["type"])
                if answer == "close":
                    await websocket.close(1013)
                    return
                for one in answer or ():
                    await websocket.send_json(one)
        except Exception:  # the telephone has gone
            return

    return Starlette(routes=[WebSocketRoute("/audiocodes", converse)])


QUICK = VaicOptions(pace=20, validates=False, give_up_seconds=0.5, again_seconds=0.02)


async def test_a_bot_that_errs_is_told_by_the_call() -> None:
    app = bot(("session.initiate", [ACCEPTED]), ("userStream.start", [{"type": "userStream.started"}, CHUNK]))
    async with serving(app) as served:
        with pytest.raises(Refused, match="not open"):
            async with dial(f"{served.ws_url}/audiocodes", QUICK) as call:
                await asyncio.wait_for(call.over.wait(), 20)


async def test_a_bot_that_says_error_is_hung_up_and_one_that_closes_is_tried_until_patience_ends() -> None:
    for answer, said in (
        ([{"type": "session.error", "reason": "no"}], "session.error: no"),
        ("close", "does not answer"),
    ):
        async with serving(bot(("session.initiate", answer))) as served:
            with pytest.raises(GaveUp, match=said):
                async with dial(f"{served.ws_url}/audiocodes", QUICK):
                    pass


async def test_nobody_at_the_address_is_given_up() -> None:
    with pytest.raises(GaveUp, match="does not answer"):
        async with dial("ws://127.0.0.1:9/audiocodes", QUICK):
            pass


# -- what a caller does and hears


def test_a_recording_is_a_callers_script() -> None:
    recording = read_recording(ROOT / "docs" / "examples" / "recorded-call.json", 3)
    assert recording.caller == "+12025550147"
    said = [step for step in recording.steps if isinstance(step, Say)]
    assert len(said) == 3
    assert recording.steps[0] == Listen()
    assert recording.steps[-2:] == (Listen(), HangUp())
    assert any(isinstance(step, Press) and len(step.digits) > 1 for step in recording.steps)


def test_keys_are_pressed_once_the_bot_has_asked_for_them_and_the_model_knows_its_answer() -> None:
    path = ROOT / "docs" / "examples" / "recorded-call.json"
    steps = read_recording(path, 1).steps
    assert [type(step) for step in steps] == [Listen, Say, Listen, Press, Listen, HangUp]
    keys = "".join(step.digits for step in steps if isinstance(step, Press))
    said = [Heard("user", "Yes, hello."), Heard("assistant", "I am sorry."), Heard("user", keyed(keys))]
    assert next(step for step in read_script(path).next(said) if isinstance(step, Ask)).name == "find_customer"
    assert script_of([{"type": "custom.dtmf", "data": {}}]).turns == (Turn(None, ()),)


def test_who_was_cut_off_in_a_recording_is_spoken_over() -> None:
    def message(role: str, **more: Any) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": "a", **more}

    steps = steps_of(
        [message("assistant", heard="a", generated="a b"), message("user"), message("assistant"), message("user")]
    )
    assert steps == [Say("a", over=True), Listen(), Say("a"), Listen(), HangUp()]


def test_a_file_that_is_no_recording_is_said_to_be_none(tmp_path: Any) -> None:
    path = tmp_path / "x.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="is no recording"):
        read_recording(path)


@on_virtual_time
async def test_an_ear_hears_in_real_time_and_a_cut_forgets_the_rest() -> None:
    media = FORMATS["raw/lpcm16_8"]
    marks: list[str] = []
    ear = ear_for_sound(media, marks.append)
    for letter in "abcdef":
        ear.hear(speech(letter, media), mark=letter)
    await asyncio.sleep(0.115)
    assert (ear.so_far, marks, ear.is_playing) == ("ab", ["a", "b"], True)
    assert ear.cut() == ["c", "d", "e", "f"]
    assert ear.is_playing is False
    assert ear.take_lines() == ["abc"], "half of a letter and more is heard as one"
    assert ear.so_far == ""


class Deaf:
    """A telephone on which nothing is ever heard."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.ear = ear_for_sound(FORMATS["raw/mulaw"])
        self.resumes = 2


@on_virtual_time
async def test_a_caller_who_hears_nothing_gives_up() -> None:
    told: list[Told] = []
    with pytest.raises(GaveUp, match="Listen: nothing came within 60 s, the line came back 2 times"):
        await Caller(Deaf(), told.append).play([Listen(), Drop()])  # pyright: ignore[reportArgumentType]
    assert told == []
