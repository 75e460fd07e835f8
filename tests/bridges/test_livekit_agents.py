"""Agents of `livekit-agents`, with models of ours, on the real service: what they know, and what is written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from livekit.agents import Agent, AgentSession, ChatContext, function_tool, llm
from livekit.agents.testing import fake_job_context

from sessionmanager.bridges.livekit import AgentOptions, Conversation, chat_context, conversation, take_up
from sessionmanager.bridges.livekit.conversation import GREETING
from sessionmanager.bridges.livekit.signals import SpokenWords
from sessionmanager.client import NEVER, AsyncClient, Entry, Signal, function_call, function_call_output, message
from sessionmanager.errors import NotFound
from tests.bridges.livekit_models import ScriptedLLM, ScriptedSTT, voice_session
from tests.support.live import Live, live

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 60.0
QUICK = AgentOptions(signal_seconds=0.0)


@pytest.fixture(autouse=True)
def quiet_library(caplog: pytest.LogCaptureFixture) -> None:
    """What their library logs of tools and models that fail here is meant to happen."""
    caplog.set_level(logging.CRITICAL, "livekit.agents")


@pytest.fixture
async def service() -> AsyncGenerator[Live]:
    async with live() as running:
        yield running


@pytest.fixture
async def client(service: Live) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(service.address, service.token("agent", "operator")) as one:
        yield one


async def entries(client: AsyncClient, id: str, *types: str) -> list[Entry]:
    return [one async for one in client.history(id) if not types or one.type in types]


async def said(client: AsyncClient, id: str) -> list[tuple[str | None, Any]]:
    return [(one.role, one.content) for one in await entries(client, id, "message")]


async def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait for it. holds: may be a coroutine function."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        value = holds()
        value = await value if asyncio.iscoroutine(value) else value
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come about"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def agent(
    client: AsyncClient,
    id: str,
    model: ScriptedLLM,
    hearing: ScriptedSTT | None = None,
    *,
    tools: tuple[Any, ...] = (),
    greeting: str | None = None,
    options: AgentOptions = QUICK,
) -> AsyncGenerator[tuple[Conversation, AgentSession[Any]]]:
    """A started agent, closed as a job closes it: LiveKit's session first."""
    async with conversation(client, id, options) as talk:
        session = voice_session(model, hearing)
        await talk.start(session, Agent(instructions="Be kind.", tools=list(tools)), greeting=greeting)
        try:
            yield talk, session
        finally:
            await session.aclose()
            await talk.over()


def texts(items: list[llm.ChatItem]) -> list[str | None]:
    return [one.text_content for one in items if isinstance(one, llm.ChatMessage) and one.role != "system"]


async def test_an_agent_hears_speaks_and_is_written_down_in_order(client: AsyncClient) -> None:
    made = await client.create()
    hearing, model = ScriptedSTT(), ScriptedLLM("Where to?", "Done.")
    async with agent(client, made.id, model, hearing) as (_, session):
        hearing.say("I would like", "to book a flight")
        await until(lambda: said_so(client, made.id, "Where to?"), "an answer")
        hearing.say("Bern")
        await until(lambda: said_so(client, made.id, "Done."), "another")
        await session.run(user_input="Bern")  # typed: nobody has heard it this time
    log = await entries(client, made.id)
    assert [(one.role, one.content) for one in log if one.type == "message"] == [
        ("user", "I would like"),
        ("user", "to book a flight"),
        ("assistant", "Where to?"),
        ("user", "Bern"),
        ("assistant", "Done."),
        ("user", "Bern"),
        ("assistant", "Done."),
    ]
    participants = [one.data["event"] for one in log if one.type == "participant"]
    assert participants == ["joined", "left"]
    assert all(one.actor != "system" for one in log if one.type == "message")
    assert len({one.id for one in log}) == len(log)


async def said_so(client: AsyncClient, id: str, text: str) -> bool:
    return ("assistant", text) in await said(client, id)


async def test_what_the_recognizer_is_sure_of_is_written_before_the_turn_is_over(client: AsyncClient) -> None:
    """So that an agent which dies in the middle of a turn has lost nothing of it."""
    made = await client.create()
    hearing = ScriptedSTT()
    async with agent(client, made.id, ScriptedLLM("Yes."), hearing):
        hearing.hear(hearing_kind("START_OF_SPEECH"))
        hearing.hear(hearing_kind("FINAL_TRANSCRIPT"), "My name is")
        await until(lambda: said(client, made.id), "the words")
        assert await said(client, made.id) == [("user", "My name is")]


def hearing_kind(name: str) -> Any:
    from livekit.agents import stt

    return stt.SpeechEventType[name]


async def test_the_next_agent_knows_what_was_said_answers_who_waits_and_greets_nobody_twice(
    client: AsyncClient,
) -> None:
    made = await client.create()
    first = ScriptedLLM("Good morning.")
    async with agent(client, made.id, first, greeting="Greet."):
        await until(lambda: said_so(client, made.id, "Good morning."), "a greeting")
    await client.append(made.id, [message("user", "Can I pay in two parts?")])
    second = ScriptedLLM("Yes, in two parts.")
    async with agent(client, made.id, second, greeting="Greet.") as (talk, _):
        assert talk.resumed
        assert talk.unanswered
        await until(lambda: said_so(client, made.id, "Yes, in two parts."), "an answer")
    assert texts(second.seen[0]) == ["Good morning.", "Can I pay in two parts?"]
    third = ScriptedLLM("Never said.")
    async with agent(client, made.id, third, greeting="Greet.") as (talk, session):
        assert not talk.unanswered
        assert not await talk.may_greet()
        assert texts(session.current_agent.chat_ctx.items)[-1] == "Yes, in two parts."
    assert third.seen == []
    assert await said(client, made.id) == [
        ("assistant", "Good morning."),
        ("user", "Can I pay in two parts?"),
        ("assistant", "Yes, in two parts."),
    ]
    assert len(await entries(client, made.id, "custom.greeting")) == 1
    assert (await client.get(made.id)).resumed_count == 2


async def test_of_agents_that_come_at_the_same_time_one_greets(client: AsyncClient) -> None:
    made = await client.create()

    async def asks(number: int) -> bool:
        async with conversation(client, made.id, AgentOptions(identity=f"agent-{number}")) as talk:
            return await talk.may_greet()

    assert sorted(await asyncio.gather(*[asks(number) for number in range(5)])) == [False] * 4 + [True]


async def test_an_agent_that_died_before_its_greeting_was_heard_is_not_followed_by_another_greeting(
    client: AsyncClient,
) -> None:
    made = await client.create()
    async with conversation(client, made.id, QUICK) as talk:
        assert await talk.may_greet()
    async with conversation(client, made.id, QUICK) as talk:
        assert not await talk.may_greet()
    assert [one.id for one in await entries(client, made.id, "custom.greeting")] == [GREETING]


@function_tool
async def weather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise RuntimeError("no such place")
    return f"rain in {city}"


def call(number: int, city: str) -> llm.FunctionToolCall:
    return llm.FunctionToolCall(name="weather", arguments=f'{{"city": "{city}"}}', call_id=f"c{number}")


async def test_calls_of_functions_and_what_came_of_them_are_written_down(client: AsyncClient) -> None:
    made = await client.create(entries=[message("user", "The weather in Bern?")])
    model = ScriptedLLM(call(1, "Bern"), "It rains.", call(2, "Atlantis"), "It is gone.")
    async with agent(client, made.id, model, tools=(weather,)) as (_, session):
        await until(lambda: said_so(client, made.id, "It rains."), "an answer")
        await session.run(user_input="And in Atlantis?")
        await until(lambda: said_so(client, made.id, "It is gone."), "another")
    log = await entries(client, made.id, "message", "function_call", "function_call_output")
    calls = [(one.type, one.call_id, one.arguments or one.output) for one in log if one.type != "message"]
    assert calls[:3] == [
        ("function_call", "c1", {"city": "Bern"}),
        ("function_call_output", "c1", "rain in Bern"),
        ("function_call", "c2", {"city": "Atlantis"}),
    ]
    outputs = [(one.call_id, one.status) for one in log if one.type == "function_call_output"]
    assert outputs == [("c1", "completed"), ("c2", "failed")]
    assert ("user", "And in Atlantis?") in await said(client, made.id), "typed, so that no recognizer has heard it"
    answer = await client.resume(made.id)
    assert answer.function_calls.open == answer.function_calls.interrupted == ()


async def test_a_call_is_in_the_log_while_it_runs(client: AsyncClient) -> None:
    made = await client.create(entries=[message("user", "Do it")])
    going = asyncio.Event()

    @function_tool
    async def slow() -> str:
        """Takes its time."""
        await going.wait()
        return "done"

    model = ScriptedLLM(llm.FunctionToolCall(name="slow", arguments="{}", call_id="c1"), "It is done.")
    async with agent(client, made.id, model, tools=(slow,)):
        try:
            await until(lambda: entries(client, made.id, "function_call"), "the call")
            assert await entries(client, made.id, "function_call_output") == []
        finally:
            going.set()
        await until(lambda: said_so(client, made.id, "It is done."), "an answer")


async def test_a_call_that_was_cut_off_is_told_to_the_next_agent_as_that(client: AsyncClient) -> None:
    made = await client.create(entries=[message("user", "Book it"), function_call("c1", "book", {"seat": "7A"})])
    async with conversation(client, made.id, QUICK) as talk:
        items = talk.chat_ctx.items
    assert [one.type for one in items] == ["message", "function_call", "function_call_output"]
    output = items[-1]
    assert isinstance(output, llm.FunctionCallOutput)
    assert (output.name, output.is_error, "interrupted" in output.output) == ("book", True, True)


async def test_a_window_is_a_chat_context_with_roles_calls_and_ids(client: AsyncClient) -> None:
    lines = [
        message("system", "Be brief.", id="sys-1"),
        message("user", "The weather?", id="u-1"),
        function_call("c1", "weather", {"city": "Bern"}),
        function_call_output("c1", "rain"),
        {"type": "message", "role": "assistant", "content": "It rains all", "heard": "It rains", "id": "a-1"},
    ]
    made = await client.create(entries=lines)
    window = await client.context(made.id, for_="realtime")
    assert isinstance(window.items, tuple)
    context = chat_context(window.items, 7.0)
    roles = [(one.role, one.text_content, one.id) for one in context.messages()]
    assert roles == [
        ("system", "Be brief.", "sys-1"),
        ("user", "The weather?", "u-1"),
        ("assistant", "It rains", "a-1"),
    ]
    assert [one.type for one in context.items][2:4] == ["function_call", "function_call_output"]
    assert {one.created_at for one in context.items} == {7.0}
    openai, _ = context.to_provider_format("openai")
    assert [one["role"] for one in openai] == ["system", "user", "assistant", "tool", "assistant"]
    context.insert(llm.ChatMessage(role="user", content=["later"]))
    assert context.items[-1].type == "message"
    assert texts(context.items)[-1] == "later"


async def test_partial_words_are_signals_and_no_entries(client: AsyncClient) -> None:
    made = await client.create()
    hearing = ScriptedSTT()
    heard: list[Signal] = []
    tell = heard.append
    async with client.events(made.id, after=0) as feed:

        async def follow() -> None:
            async for event in feed:
                if isinstance(event, Signal):
                    tell(event)

        following = asyncio.create_task(follow())
        async with agent(client, made.id, ScriptedLLM("Yes."), hearing) as (talk, session):
            hearing.hear(hearing_kind("INTERIM_TRANSCRIPT"), "I wou")
            await until(lambda: [one for one in heard if one.type == "partial"], "a partial word")
            assert await said(client, made.id) == []
            words = SpokenWords(talk._signals)  # where a room's transcription goes through
            await words.capture_text("Yes, ")
            await words.capture_text("of course")
            await until(lambda: [one for one in heard if one.data.get("role") == "assistant"], "the agent's words")
            assert session.agent_state in ("listening", "idle")
        following.cancel()
        await asyncio.wait([following])
    partial = next(one for one in heard if one.type == "partial")
    assert (partial.data["role"], partial.data["text"]) == ("user", "I wou")
    assert [one.data["text"] for one in heard if one.data.get("role") == "assistant"][-1] == "Yes, of course"
    assert "agent.state" in {one.type for one in heard}
    assert await said(client, made.id) == [("user", "I wou")], "what was half said at the end is written down then"


class Away(httpx2.AsyncBaseTransport):
    """A way to the service that can be cut."""

    def __init__(self) -> None:
        self.cut = False
        self._way = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.cut:
            raise httpx2.ConnectError("cut")
        return await self._way.handle_async_request(request)

    async def aclose(self) -> None:
        await self._way.aclose()


async def test_what_was_said_while_the_service_was_away_is_in_the_log_of_the_next_job(
    service: Live, client: AsyncClient, tmp_path: Path
) -> None:
    """The outbox of a session is a file of its own: whoever opens it next sends what is left in it."""
    options = AgentOptions(outbox=tmp_path / "outbox", close_seconds=0.2, signals=False)
    made = await client.create()
    hearing, way = ScriptedSTT(), Away()
    async with (
        AsyncClient(service.address, service.token(), retry=NEVER, transport=way) as cut,
        conversation(cut, made.id, options) as talk,
    ):
        session = voice_session(ScriptedLLM("Yes."), hearing)
        await talk.start(session, Agent(instructions="Be kind."))
        way.cut = True
        hearing.say("Is anybody there?")
        await until(lambda: len(session.history.messages()) == 2, "an answer")
        await session.aclose()
    assert await said(client, made.id) == []
    async with conversation(client, made.id, options):
        await until(lambda: said_so(client, made.id, "Yes."), "what was left")
    assert await said(client, made.id) == [("user", "Is anybody there?"), ("assistant", "Yes.")]


async def test_a_model_that_fails_is_an_error_of_the_session_without_what_was_said(client: AsyncClient) -> None:
    made = await client.create(entries=[message("user", "secret words")])
    async with agent(client, made.id, ScriptedLLM(ValueError("secret words"))):
        await until(lambda: entries(client, made.id, "error"), "the error")
    (error, *_) = await entries(client, made.id, "error")
    assert error.content == "ScriptedLLM: llm_error"


@contextmanager
def a_job(metadata: str) -> Iterator[Any]:
    with fake_job_context(job_metadata=metadata) as job:
        try:
            yield job
        finally:
            job._tempdir.cleanup()


async def test_a_job_takes_its_conversation_up_in_one_line_and_leaves_it_when_it_shuts_down(service: Live) -> None:
    async with AsyncClient(service.address, service.token()) as client:
        made = await client.create(entries=[message("user", "Hello?")])
        with a_job(f'{{"session_id": "{made.id}"}}') as job:
            talk = await take_up(job, service.address, service.token("agent"), QUICK)
            session = voice_session(ScriptedLLM("Here I am."))
            await talk.start(session, Agent(instructions="Be kind."))
            await until(lambda: said_so(client, made.id, "Here I am."), "an answer")
            await session.aclose()  # as the job does, before what was asked to be called then
            for callback in job._shutdown_callbacks:
                await callback("room disconnected")
        (me,) = await client.participants(made.id)
        assert (me.kind, me.identity, me.status) == ("agent", "agent", "left")


async def test_a_job_about_no_session_says_so(service: Live) -> None:
    with a_job("not json") as job, pytest.raises(NotFound):
        await take_up(job, service.address, service.token("bridge"), QUICK)


def test_an_agent_stays_in_its_room_until_others_close_it() -> None:
    talk = Conversation.__new__(Conversation)
    talk._signals = None  # type: ignore[assignment]
    options = talk.room_options()
    assert (options.close_on_disconnect, options.delete_room_on_close) == (False, False)


def test_an_empty_window_is_an_empty_context() -> None:
    assert chat_context([], 1.0).items == ChatContext.empty().items
