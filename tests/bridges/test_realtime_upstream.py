"""The connection to a realtime model, in both generations of its names, against the simulated one that refuses what the
real one refuses."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from sessionmanager.bridges.media.formats import RAW_LPCM16, RAW_LPCM16_24, RAW_MULAW
from sessionmanager.bridges.realtime.connection import RealtimeModel
from sessionmanager.bridges.realtime.names import item_for, merged, session_of
from sessionmanager.bridges.realtime.reading import read, told_by
from sessionmanager.bridges.upstream import (
    CallerSaid,
    Connection,
    FunctionAsked,
    ItemDone,
    ModelLost,
    ResponseEnded,
    Setup,
    Sound,
    Words,
)
from sessionmanager.simulate.realtime.behaviour import Behaviour
from sessionmanager.simulate.realtime.script import Ask, Heard, Say, Script, Turn
from sessionmanager.simulate.realtime.server import SimulatedModel, open_model
from sessionmanager.simulate.speech import silence, speech, words_in

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 20.0
SETUP = Setup(instructions="Be brief.", voice="ada", media=RAW_MULAW)
SCRIPT = Script([Turn("Hi", (Say("Hello you."),)), Turn("Do it", (Ask("act", '{"x": 1}'), Say("Done.")))])


@pytest.fixture
async def model() -> AsyncIterator[SimulatedModel]:
    async with open_model(SCRIPT, Behaviour(pace=1000)) as made:
        yield made


def message(id: str, role: str, text: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"id": id, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def call(id: str, call_id: str) -> dict[str, Any]:
    return {"id": id, "type": "function_call", "call_id": call_id, "name": "act", "arguments": "{}"}


def output(id: str, call_id: str) -> dict[str, Any]:
    return {"id": id, "type": "function_call_output", "call_id": call_id, "output": "{}"}


async def until(connection: Connection, kind: type) -> list[Any]:
    """Events up to the first of a kind."""
    told: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in connection.events():
            told.append(event)
            if isinstance(event, kind):
                return told
    raise AssertionError("it ended")


@pytest.mark.parametrize("flavour", ["ga", "beta"])
async def test_it_is_seeded_in_order_and_answers_what_was_said_last(model: SimulatedModel, flavour: Any) -> None:
    items = [
        message("e1", "system", "Be kind."),
        message("e2", "user", "Do it"),
        call("e3", "call_1"),
        output("e4", "call_1"),
    ]
    async with RealtimeModel(model.url, flavour=flavour).connect(SETUP) as connection:
        assert connection.identity.session_id is not None
        assert connection.identity.conversation_id is not None
        assert await connection.seed(items) == []
        await connection.respond()
        told = await until(connection, ResponseEnded)
        sound = b"".join(event.audio for event in told if isinstance(event, Sound))
        assert words_in(sound, RAW_MULAW) == "Done."
        assert "".join(event.delta for event in told if isinstance(event, Words)) == "Done."
        assert any(isinstance(event, ItemDone) for event in told)
        assert told[-1].status == "completed"
    there = model.connections[0]
    assert there.flavour == flavour
    assert there.items.heard[-1] == Heard("assistant", "Done.")
    assert not there.refusals


async def test_bad_items_are_skipped_told_and_keep_no_other_out(model: SimulatedModel) -> None:
    items = [
        message("good-1", "user", "Hi"),
        {"id": "bad-role", "type": "message", "role": "robot", "content": [{"type": "input_text", "text": "?"}]},
        message("x" * 40, "user", "too long a name"),
        {"id": "no-text", "type": "message", "role": "user", "content": [{"type": "input_text", "text": None}]},
        {"id": "sound", "type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": ""}]},
        output("orphan", "call_9"),
        message("good-2", "assistant", "Hello"),
        message("good-1", "user", "Hi"),
    ]
    async with RealtimeModel(model.url).connect(SETUP) as connection:
        skipped = await connection.seed(items)
        assert [one.item for one in skipped] == ["bad-role", "x" * 40, "no-text", "sound", "orphan"]
        assert [item.id for item in model.connections[0].items] == ["good-1", "good-2"]
        assert await connection.seed(items[:1]) == []


async def test_a_function_is_asked_for_and_its_output_given(model: SimulatedModel) -> None:
    async with RealtimeModel(model.url).connect(SETUP) as connection:
        await connection.add(message("e1", "user", "Do it"))
        await connection.respond()
        asked = next(event for event in await until(connection, ResponseEnded) if isinstance(event, FunctionAsked))
        assert (asked.name, asked.arguments) == ("act", '{"x": 1}')
        await connection.add({**output("e2", asked.call_id), "output": "1"})
        await connection.respond()
        told = await until(connection, ResponseEnded)
        assert "".join(event.delta for event in told if isinstance(event, Words)) == "Done."
        assert not model.connections[0].refusals


async def test_the_caller_is_heard_written_down_and_answered(model: SimulatedModel) -> None:
    async with RealtimeModel(model.url).connect(SETUP) as connection:
        await connection.hear(speech("Hi", RAW_MULAW) + silence(RAW_MULAW, 700))
        told = await until(connection, ResponseEnded)
        told += [] if any(isinstance(one, CallerSaid) for one in told) else await until(connection, CallerSaid)
        assert [event.text for event in told if isinstance(event, CallerSaid)] == ["Hi"]


async def test_without_turns_of_its_own_it_is_told_when_the_caller_is_done(model: SimulatedModel) -> None:
    setup = Setup(media=RAW_LPCM16_24, turns="bridge")
    async with RealtimeModel(model.url).connect(setup) as connection:
        await connection.hear(speech("Hi there", RAW_LPCM16_24))
        await connection.turn_over()
        assert (await until(connection, CallerSaid))[-1].text == "Hi there"


async def test_a_connection_that_dies_is_lost_and_says_so_to_whoever_speaks(model: SimulatedModel) -> None:
    async with RealtimeModel(model.url).connect(SETUP) as connection:
        assert model.kill() == 1
        with pytest.raises(ModelLost) as lost:
            await until(connection, ResponseEnded)
        assert lost.value.may_pass
        with pytest.raises(ModelLost):
            for _ in range(100):
                await connection.hear(b"\xff" * 160)
                await asyncio.sleep(0.01)


async def test_at_the_end_of_its_time_it_is_lost_with_the_reason(model: SimulatedModel) -> None:
    model.behaviour = Behaviour(session_seconds=0.3)
    async with RealtimeModel(model.url).connect(SETUP) as connection:
        assert connection.identity.expires_in_seconds is not None
        with pytest.raises(ModelLost, match="session_expired"):
            await until(connection, ResponseEnded)


@pytest.mark.parametrize(("status", "may_pass"), [(401, False), (404, False), (429, True), (503, True)])
async def test_a_refused_handshake_says_whether_another_may_help(
    model: SimulatedModel, status: int, may_pass: bool
) -> None:
    model.refuses = status
    with pytest.raises(ModelLost) as lost:
        async with RealtimeModel(model.url, token="a-secret").connect(SETUP):
            pass
    assert lost.value.may_pass is may_pass
    assert "a-secret" not in str(lost.value)


async def test_a_token_is_shown_in_the_header_alone(model: SimulatedModel) -> None:
    model.behaviour = Behaviour(token="a-secret")
    known = RealtimeModel(model.url, token="a-secret")
    async with known.connect(SETUP):
        pass
    assert "a-secret" not in repr(known)
    with pytest.raises(ModelLost):
        async with RealtimeModel(model.url).connect(SETUP):
            pass


async def test_a_setup_that_is_not_taken_is_not_tried_again(model: SimulatedModel) -> None:
    with pytest.raises(ModelLost) as lost:
        async with RealtimeModel(model.url).connect(Setup(media=RAW_MULAW, more={"nonsense": 1})):
            pass
    assert not lost.value.may_pass
    with pytest.raises(ModelLost, match="24000"):
        async with RealtimeModel(model.url).connect(Setup(media=RAW_LPCM16)):
            pass


def test_only_the_assistants_part_differs_between_the_generations() -> None:
    said = message("e", "assistant", "Hello")
    assert item_for(said, "ga") == said
    assert item_for(said, "beta")["content"] == [{"type": "text", "text": "Hello"}]
    asked = message("e", "user", "Hello")
    assert item_for(asked, "beta") == asked


def test_settings_of_ones_own_lie_over_ours() -> None:
    made = session_of(
        Setup(media=RAW_MULAW, more={"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}), "ga"
    )
    assert made["audio"]["input"]["turn_detection"] == {"type": "semantic_vad"}
    assert made["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


@pytest.mark.parametrize(
    "data",
    [
        "", "[]", "7", "nonsense", '{"type": 7}', '{"type": "error"}', '{"type": "response.done"}', b"\xff\xfe",
        '{"type": "response.output_audio.delta", "delta": "no base64!"}', '{"type": "something.new", "x": {}}',
        '{"type": "response.output_item.done", "item": {"type": "function_call"}}', "[" * 10_000,
    ],
)  # fmt: skip
def test_events_that_are_not_understood_are_nothing(data: str | bytes) -> None:
    event = read(data)
    assert event is None or told_by(event) is None


# -- what the simulated model refuses


class Raw:
    """A client that sends what it likes."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def refused(self, body: dict[str, Any] | str | bytes) -> str:
        """The code that this is refused with."""
        data = msgspec.json.encode({**body, "event_id": "mine"}).decode() if isinstance(body, dict) else body
        await self._socket.send(data)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                event = msgspec.json.decode(await self._socket.recv())
                if event["type"] == "error":
                    assert event["error"]["event_id"] == ("mine" if isinstance(body, dict) else None)
                    return event["error"]["code"]


def item(**body: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": body}


SPOKEN = base64.b64encode(b"x" * 8000).decode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_event"),
        (b"\x00\x01", "invalid_event"),
        ({"type": "session.destroy"}, "invalid_value"),
        ({"type": "session.update"}, "missing_required_parameter"),
        ({"type": "session.update", "session": {"output_modalities": ["audio"]}}, "missing_required_parameter"),
        ({"type": "session.update", "session": {"type": "realtime", "modalities": ["audio"]}}, "unknown_parameter"),
        (
            {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio", "text"]}},
            "invalid_value",
        ),
        (
            {
                "type": "session.update",
                "session": {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}},
            },
            "invalid_value",
        ),
        ({"type": "input_audio_buffer.append", "audio": "no base64!"}, "invalid_value"),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty"),
        ({"type": "response.cancel"}, "response_cancel_not_active"),
        (item(type="message", role="system", content=[{"type": "output_text", "text": "x"}]), "invalid_value"),
        (item(type="message", role="user", content=[]), "missing_required_parameter"),
        (item(type="message", role="assistant", content=[{"type": "text", "text": "x"}]), "invalid_value"),
        (item(type="message", role="user", content=[{"type": "input_text", "text": "x", "y": 1}]), "unknown_parameter"),
        (item(type="function_call", name="f", call_id="c", arguments={}), "invalid_type"),
        (item(type="function_call", name="f", call_id="c" * 33, arguments="{}"), "string_above_max_length"),
        (item(type="function_call_output", call_id="nobody", output="x"), "invalid_tool_call_id"),
        (item(type="mystery"), "invalid_value"),
        (
            {
                **item(type="message", role="user", content=[{"type": "input_text", "text": "x"}]),
                "previous_item_id": "z",
            },
            "invalid_value",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "z", "content_index": 0, "audio_end_ms": 1},
            "invalid_value",
        ),
        ({"type": "conversation.item.delete", "item_id": "z"}, "item_delete_invalid_item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "z"}, "item_retrieve_invalid_item_id"),
    ],
)
async def test_the_simulated_model_refuses_what_the_real_one_refuses(
    model: SimulatedModel, body: dict[str, Any] | str | bytes, code: str
) -> None:
    async with connect(model.url) as socket:
        assert await Raw(socket).refused(body) == code


async def test_the_simulated_model_answers_one_at_a_time_and_truncates_what_was_spoken_alone(
    model: SimulatedModel,
) -> None:
    model.behaviour = Behaviour(pace=2)
    async with RealtimeModel(model.url).connect(SETUP) as connection:
        await connection.add(message("e1", "user", "Hi"))
        await connection.respond()
        told = await until(connection, Sound)
        await connection.respond()
        await connection.truncate("e1", 0)
        await connection.truncate(told[-1].item, 100_000)
        told += await until(connection, ResponseEnded)
        spoken = next(event.item for event in told if isinstance(event, Sound))
        await connection.truncate(spoken, 100)
        async with connect(model.url):
            await model.connected(2)
    there = model.connections[0]
    assert list(there.refusals) == ["conversation_already_has_active_response", "invalid_value", "invalid_value"]


def test_a_script_goes_on_where_a_conversation_is_and_with_what_was_cut_off() -> None:
    def says(*heard: tuple[str, str]) -> list[Any]:
        return SCRIPT.next([Heard(*one) for one in heard])

    assert says(("user", "hi!")) == [Say("Hello you.")]
    assert says(("user", "Hi"), ("assistant", "Hello")) == [Say("you.")]
    assert says(("user", "Hi"), ("assistant", "Hello you.")) == []
    assert says(("user", "Hi"), ("assistant", "Hello"), ("user", "Do it")) == [Ask("act", '{"x": 1}')]
    assert says(("user", "Do it"), ("call", "act")) == [Say("Done.")]
    assert says(("user", "something else")) == [Say("I have nothing to add.")]
    assert Script().next([Heard("user", "Hi")]) == [Say("You said: Hi")]
