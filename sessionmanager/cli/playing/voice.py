"""What of a recorded call is said on the telephone: who says what when, the model's part in it, and how it is compared.

A bridge writes a call down in its own entries, with its own ids and times; what it must keep is what was said. So both
the recording and the log are read as lines: what the caller said, what the bot said, which functions were asked for and
what they answered, which keys were pressed. Speech that was cut by the line and gone on with is one line, if nothing of
it is lost and nothing stands twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from sessionmanager.bridges.base.record import CUT_OFF
from sessionmanager.bridges.caller.listening import keyed
from sessionmanager.cli.playing.recording import Comparison, Difference, compact, compare, said_in, split
from sessionmanager.simulate.realtime.script import Ask, Say, Script, Step, Turn
from sessionmanager.simulate.speech import duration_ms
from sessionmanager.words import CUSTOM_PREFIX

SPOKEN_MS_MAX: Final = 36_000
"""Of the bot's voice, which nothing makes quicker: carrier and bridge both go by how long it sounds."""
FIRST_CALL_MIN: Final = 3
"""Exchanges: a greeting, one in which the bridge dies, one in which the service dies."""
SENT_MIN: Final = 8
"""Entries that are left to be sent over HTTP."""
KEYS: Final = frozenset("0123456789*#")
END_OF_KEYS: Final = "#"
DTMF: Final = "custom.dtmf"

Members = Mapping[str, Raw]


class Line(NamedTuple):
    """One thing that was said. who: `user`, `assistant`, `call`, `output`, `keys`, or another type of entry."""

    who: str
    text: str


class Exchange(NamedTuple):
    """What the caller says or presses, and what the bot does then. Neither = the bot greets. lines: in the log."""

    said: str | None
    keys: str | None
    steps: tuple[Step, ...]
    lines: tuple[Line, ...]

    @property
    def spoken_ms(self) -> int:
        """How long the bot speaks."""
        return sum(duration_ms(step.text) for step in self.steps if isinstance(step, Say))


class VoicePlan(NamedTuple):
    """The beginning of a recording as two telephone calls.

    exchanges: of both. second: the first of the second call. bridge_dies, service_dies: in these of the first. end: the
    place of the first entry that is not said on the telephone.
    """

    exchanges: tuple[Exchange, ...]
    second: int
    bridge_dies: int
    service_dies: int
    end: int

    @property
    def script(self) -> Script:
        """The simulated model's part."""
        told = ((one.said if one.keys is None else keyed(one.keys), one.steps) for one in self.exchanges)
        return Script([Turn(caller, steps) for caller, steps in told])

    def lines(self, count: int | None = None) -> list[Line]:
        """What is in the log after so many exchanges; None = after all."""
        return [line for one in self.exchanges[:count] for line in one.lines]


def voice_plan(entries: Sequence[bytes]) -> VoicePlan | None:
    """The longest beginning of a recording that can be played by telephone. None = it has none that is long enough."""
    members = [msgspec.json.decode(entry, type=dict[str, Raw]) for entry in entries]
    best: VoicePlan | None = None
    for end in range(1, len(members) - SENT_MIN + 1):
        if _text(members[end], "role") != "user":
            continue
        exchanges = _exchanges(members[:end])
        if exchanges is None or len(exchanges) <= FIRST_CALL_MIN:
            continue
        if sum(one.spoken_ms for one in exchanges) > SPOKEN_MS_MAX:
            break
        best = _planned(exchanges, end)
    return best


def _planned(exchanges: tuple[Exchange, ...], end: int) -> VoicePlan:
    half = sum(one.spoken_ms for one in exchanges) / 2
    places = range(FIRST_CALL_MIN, len(exchanges))
    second = min(places, key=lambda i: abs(sum(one.spoken_ms for one in exchanges[:i]) - half))
    # In the longest of its answers it can be killed with something left to say.
    bridge_dies = max(range(1, second - 1), key=lambda i: exchanges[i].spoken_ms)
    return VoicePlan(exchanges, second, bridge_dies, second - 1, end)


class _Unplayable(Exception):
    """It cannot be said on the telephone as it stands there."""


def _exchanges(members: Sequence[Members]) -> tuple[Exchange, ...] | None:
    outputs = {_text(one, "call_id"): one for one in members if _text(one, "type") == "function_call_output"}
    try:
        exchanges = tuple(_exchange(*turn, outputs) for turn in _turns(members))
    except _Unplayable:
        return None
    begins = bool(exchanges) and exchanges[0].lines[0].who == "assistant"
    return exchanges if begins and not any(one.said is one.keys is None for one in exchanges[1:]) else None


def _turns(members: Iterable[Members]) -> Iterable[tuple[str | None, str | None, list[Members]]]:
    """What the caller says, what they press, what the bot does then."""
    turns: list[tuple[str | None, str | None, list[Members]]] = [(None, None, [])]
    for one in members:
        match _text(one, "type"), _text(one, "role"):
            case "message", "user":
                turns.append((_speakable(one), None, []))
            case "message" | "function_call", _:
                turns[-1][2].append(one)
            case "custom.dtmf", _:
                said, keys, done = turns[-1]
                digit = _digits(one)
                if keys is not None and not done and not keys.endswith(END_OF_KEYS):
                    turns[-1] = said, keys + digit, done
                else:
                    turns.append((None, digit, []))
            case ("function_call_output", _):
                pass  # it follows its call here, however long it took
            case kind, _ if kind.startswith(CUSTOM_PREFIX):
                pass  # what a bridge writes of its own
            case _:
                raise _Unplayable
    return turns


def _exchange(said: str | None, keys: str | None, done: Sequence[Members], outputs: Mapping[str, Members]) -> Exchange:
    steps: list[Step] = []
    lines = [] if said is None else [Line("user", said)]
    if keys is not None:
        if not keys.endswith(END_OF_KEYS):
            raise _Unplayable  # the bridge would wait for more
        lines += [Line("keys", keys), Line("user", keyed(keys))]
    for one in done:
        if _text(one, "type") == "message":
            text = _speakable(one)
            steps.append(Say(text))
            lines.append(Line("assistant", text))
            continue
        output = outputs.get(_text(one, "call_id"))
        if output is None or _text(output, "status") != "completed":
            raise _Unplayable
        steps.append(Ask(_text(one, "name"), bytes(one.get("arguments", b"{}")).decode()))
        lines += [_line(one), _line(output)]
    if not steps or not isinstance(steps[-1], Say):
        raise _Unplayable
    return Exchange(said, keys, tuple(steps), tuple(_joined(lines)))


def _speakable(one: Members) -> str:
    text = _text(one, "content")
    if not text or text != " ".join(text.split()) or not text.isprintable():
        raise _Unplayable
    return text


def _digits(one: Members) -> str:
    digits = _pressed(one)
    if not digits or not KEYS.issuperset(digits):
        raise _Unplayable
    return digits


def _pressed(one: Members) -> str:
    try:
        data = msgspec.json.decode(one["data"], type=dict[str, Any])
    except (KeyError, msgspec.MsgspecError):
        return ""
    return str(data.get("digits", data.get("digit", "")))


# -- what the log says


def lines_of(log: Iterable[Members]) -> list[Line]:
    """What was said in entries of a log; what a bridge writes of its own is passed over."""
    kept = (one for one in log if _text(one, "type") == DTMF or not _text(one, "type").startswith(CUSTOM_PREFIX))
    return _joined(map(_line, kept))


def heard_in(log: Sequence[Members]) -> list[str]:
    """What bridges have noted that was heard of the bot, or have written of it when it was over."""
    noted = (msgspec.json.decode(one["data"])["heard"] for one in log if _text(one, "type") == CUT_OFF)
    return [heard for heard in (*noted, *(line.text for line in lines_of(log) if line.who == "assistant")) if heard]


def compare_all(entries: Sequence[bytes], first: int, log: Sequence[bytes]) -> Comparison:
    """A whole recording and a whole log: what was said on the telephone line by line, the entries from `first` on byte
    by byte. Lost, doubled and misplaced ones differ."""
    spoken, sent = split(entries[first:], log)
    exchanges = _exchanges([msgspec.json.decode(entry, type=dict[str, Raw]) for entry in entries[:first]]) or ()
    wanted = [line for one in exchanges for line in one.lines]
    differences = [
        Difference(f"line {n}", "" if line is None else line.who, _shown(line), _shown(found))
        for n, (line, found) in enumerate(zip_longest(wanted, lines_of(said_in(spoken))), 1)
        if line != found
    ]
    rest = compare(entries[first:], sent)
    return Comparison(
        same=rest.same + max(0, len(wanted) - len(differences)),
        of=rest.of + len(wanted),
        bytes=rest.bytes + sum(len(line.text.encode()) for line in wanted),
        differences=(*differences, *rest.differences),
    )


def _shown(line: Line | None) -> str | None:
    return None if line is None else line.text


def _joined(lines: Iterable[Line]) -> list[Line]:
    """Words of the bot that follow one another, and keys, are one line."""
    joined: list[Line] = []
    for line in lines:
        if joined and line.who == joined[-1].who and line.who in ("assistant", "keys"):
            between = " " if line.who == "assistant" else ""
            joined[-1] = Line(line.who, f"{joined[-1].text}{between}{line.text}")
        else:
            joined.append(line)
    return joined


def _line(one: Members) -> Line:
    match _text(one, "type"):
        case "message":
            return Line(_text(one, "role"), _text(one, "content"))
        case "function_call":
            return Line("call", f"{_text(one, 'name')} {_value(one.get('arguments', Raw(b'{}')))}")
        case "function_call_output":
            return Line("output", f"{_value(one['output'])} {_text(one, 'status')}")
        case "custom.dtmf":
            return Line("keys", _pressed(one))
        case kind:
            return Line(kind, _text(one, "content"))


def _value(text: Raw) -> str:
    """A model and a function make their JSON anew: what it says counts, not how."""
    return msgspec.json.encode(msgspec.json.decode(text), order="sorted").decode()


def _text(one: Members, name: str) -> str:
    value: Any = msgspec.json.decode(one[name]) if name in one else ""
    return value if isinstance(value, str) else compact(one[name]).decode()
