"""What of a recorded call is said on the telephone, and how a log is compared with it: no service, no bridge."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessionmanager.bridges.functions import Invocation
from sessionmanager.cli.demo import RECORDING
from sessionmanager.cli.playing.bridging import functions_of
from sessionmanager.cli.playing.recording import Recording, read_recording
from sessionmanager.cli.playing.voice import SPOKEN_MS_MAX, VoicePlan, compare_all, voice_plan
from sessionmanager.simulate.realtime.script import Ask, Heard, Say

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def recording() -> Recording:
    return read_recording(RECORDING)


@pytest.fixture(scope="module")
def plan(recording: Recording) -> VoicePlan:
    made = voice_plan(recording.entries)
    assert made is not None
    return made


def spoken(plan: VoicePlan) -> list[dict[str, Any]]:
    """The entries that a bridge makes of the calls, with its own beside them."""
    made: list[dict[str, Any]] = [
        {"type": "state", "data": {}},
        {"type": "custom.bridge", "data": {"event": "connected"}},
    ]
    for line in plan.lines():
        text = line.text
        match line.who:
            case "call":
                name, _, arguments = text.partition(" ")
                made.append({"type": "function_call", "call_id": "x", "name": name, "arguments": json.loads(arguments)})
            case "output":
                output, _, status = text.rpartition(" ")
                made.append(
                    {"type": "function_call_output", "call_id": "x", "output": json.loads(output), "status": status}
                )
            case "keys":
                made += [{"type": "custom.dtmf", "data": {"digits": digit}} for digit in text]
            case "assistant":
                made.append({"type": "custom.speech", "data": {"heard": "", "generated": text}})
                half = text.index(" ", len(text) // 2)
                made.append({"type": "message", "role": "assistant", "content": text[:half]})
                made.append({"type": "message", "role": "assistant", "content": text[half + 1 :]})
            case role:
                made.append({"type": "message", "role": role, "content": text})
    return [{"id": f"b-{i}", **entry} for i, entry in enumerate(made)]


def log_of(recording: Recording, plan: VoicePlan, before: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(one).encode() for one in before] + list(recording.entries[plan.end :])


def test_the_recorded_call_begins_with_two_calls_of_some_turns_each(recording: Recording, plan: VoicePlan) -> None:
    assert len(plan.exchanges) >= 6
    assert 0 < plan.bridge_dies < plan.service_dies < plan.second < len(plan.exchanges)
    assert sum(one.spoken_ms for one in plan.exchanges) <= SPOKEN_MS_MAX
    assert {line.who for line in plan.lines()} == {"user", "assistant", "call", "output", "keys"}
    assert recording.drafts[plan.end].role == "user"


def test_the_models_part_is_found_by_what_the_caller_said_last(plan: VoicePlan) -> None:
    script = plan.script
    assert script.next([]) == [*plan.exchanges[0].steps]
    keyed = next(one for one in plan.exchanges if one.keys is not None)
    ask, say = keyed.steps
    assert isinstance(ask, Ask)
    assert isinstance(say, Say)
    assert script.next([Heard("user", f"[keys: {keyed.keys}]")]) == [ask]
    assert script.next([Heard("user", f"[keys: {keyed.keys}]"), Heard("call", ask.name)]) == [say]


def test_a_log_that_has_what_was_said_has_no_difference(recording: Recording, plan: VoicePlan) -> None:
    found = compare_all(recording.entries, plan.end, log_of(recording, plan, spoken(plan)))
    assert found.differences == ()
    assert found.same == found.of == len(plan.lines()) + len(recording.entries) - plan.end


@pytest.mark.parametrize("kind", ["message", "function_call", "function_call_output", "custom.dtmf"])
@pytest.mark.parametrize("change", ["lost", "doubled", "said later"])
def test_a_line_that_is_lost_doubled_or_misplaced_is_found(
    recording: Recording, plan: VoicePlan, kind: str, change: str
) -> None:
    for at in [i for i, one in enumerate(spoken(plan)) if one["type"] == kind]:
        log = spoken(plan)
        match change:
            case "lost":
                del log[at]
            case "doubled":
                log.insert(at, log[at])
            case _:
                log.append(log.pop(at))
        if log != spoken(plan):  # the last one is said last
            found = compare_all(recording.entries, plan.end, log_of(recording, plan, log))
            assert found.differences, (at, change)
            assert found.same < found.of


def test_a_line_that_comes_after_the_calls_is_found(recording: Recording, plan: VoicePlan) -> None:
    log = log_of(recording, plan, spoken(plan))
    log.insert(-3, json.dumps(spoken(plan)[-1]).encode())
    assert compare_all(recording.entries, plan.end, log).differences


def test_a_call_that_is_never_answered_ends_what_is_said_on_the_telephone(
    recording: Recording, plan: VoicePlan
) -> None:
    last = max(i for i, draft in enumerate(recording.drafts[: plan.end]) if draft.type == "function_call_output")
    shorter = voice_plan([entry for i, entry in enumerate(recording.entries) if i != last])
    assert shorter is not None
    asked = [draft.name for draft in recording.drafts[: shorter.end] if draft.type == "function_call"]
    assert len(asked) == sum(line.who == "call" for line in plan.lines()) - 1


async def test_functions_answer_as_they_did_in_the_recording(recording: Recording) -> None:
    functions = functions_of(recording.entries)
    entries = [json.loads(entry) for entry in recording.entries]
    calls = {one["call_id"]: one for one in entries if one["type"] == "function_call"}
    for output in (one for one in entries if one["type"] == "function_call_output"):
        call = calls[output["call_id"]]
        function = functions.find(call["name"])
        assert function is not None
        answer = await function.run(Invocation("s", "c", call["name"], call["arguments"], 1, None))
        assert answer == output["output"]
