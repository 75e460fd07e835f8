"""What was said and which functions were called, as a state's two lists and as the log's entries: pure, both ways.

An item that says whose words it has becomes a `message`, a call a `function_call` and its outcome its output; what has
no such place becomes a `custom.opusagent.*` entry. Nothing is written twice but the arguments and results of calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast, get_args

import msgspec

from sessionmanager.compat.opusagent.kept import CALLS, HISTORY, RECORD, fits
from sessionmanager.wire.answers import Entry
from sessionmanager.words import MessageRole

_ROLES: Final = frozenset(get_args(MessageRole))
_ROLE_OF_TYPE: Final[Mapping[str, MessageRole]] = {"input": "user", "output": "assistant"}
_WORDS: Final = ("content", "text", "transcript")
_STILL_RUNS: Final = frozenset(("", "in_progress", "pending", "running", "started"))
_OUTCOMES: Final[Mapping[str, str]] = {
    "failed": "failed",
    "error": "failed",
    "interrupted": "interrupted",
    "cancelled": "cancelled",
}


@dataclass
class Lists:
    """The two lists of a state as the log has them.

    seq: the last entry that was looked at. pending: later ones that were written from here and stand in the lists.
    """

    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    theirs: set[int] = field(default_factory=set[int])
    """Places in `history` of what others said."""
    calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    answered: set[int] = field(default_factory=set[int])
    """Places in `calls` that have an output in the log."""
    seq: int = 0
    pending: set[int] = field(default_factory=set[int])

    @property
    def spoken_at(self) -> str | None:
        """When somebody else last said something."""
        return max((self.history[at]["timestamp"] for at in self.theirs), default=None)

    def read(self, entry: Entry) -> None:
        """Take in the next entry of the log."""
        self.seq = max(self.seq, entry.seq)
        if entry.seq in self.pending:
            self.pending.discard(entry.seq)
            return
        given: Any = entry.data
        data: Any = cast("dict[str, Any]", given).get(RECORD) if isinstance(given, dict) else None
        if isinstance(data, dict):
            self._take(cast("dict[str, Any]", data), entry.type, entry.content)
        elif entry.type == "message":
            self.theirs.add(len(self.history))
            self.history.append({"role": entry.role, "content": entry.content, "timestamp": entry.at})
        elif entry.type == "function_call":
            call: dict[str, Any] = {"call_id": entry.call_id, "function_name": entry.name, "status": "in_progress"}
            call |= {"arguments": {}, "result": {}, "timestamp": entry.at}
            if entry.arguments is not msgspec.UNSET:
                call["arguments"] = entry.arguments
            self.calls.append(call)
        elif entry.type == "function_call_output":
            self._answer(entry)

    def wrote(self, entry: Mapping[str, Any], seq: int) -> None:
        """Take in an entry that was appended from here and stands at `seq`."""
        self.pending.add(seq)
        self._take(entry["data"][RECORD], entry["type"], entry.get("content"))

    def _take(self, data: Mapping[str, Any], type: str, content: Any) -> None:
        """What this package wrote."""
        if "again" in data:
            self.restart(data["again"])
        elif "item" in data:
            said = {data["in"]: content} if data.get("in") else {}
            self.history.append({**data["item"], **said})
        elif "call" in data:
            at = int(data["at"])
            self.calls[at : at + 1] = [data["call"]]
            if type == "function_call_output":
                self.answered.add(at)

    def _answer(self, entry: Entry) -> None:
        """An output that others wrote, to the last call of that id."""
        for at in range(len(self.calls) - 1, -1, -1):
            if self.calls[at].get("call_id") == entry.call_id:
                status = "completed" if entry.status is msgspec.UNSET else entry.status
                self.calls[at] = {**self.calls[at], "status": status, "result": entry.output}
                self.answered.add(at)
                return

    def restart(self, name: str) -> None:
        """The list begins anew: it was written over."""
        if name == HISTORY:
            self.history, self.theirs = [], set()
        else:
            self.calls, self.answered = [], set()


def entries_for(lists: Lists, history: Sequence[Any] | None, calls: Sequence[Any] | None) -> list[dict[str, Any]]:
    """What to append, so that the log tells of these lists; None = the state has no such list.

    What others said meanwhile stays, also where the caller has not seen it. A list that was written over, not
    continued, begins anew with an entry that says so: the log forgets nothing.
    """
    found: list[dict[str, Any]] = []
    if history is not None:
        common = _common(lists.history, history)
        if all(at in lists.theirs for at in range(common, len(lists.history))):
            found += [_item(one) for one in history[common:]]
        else:
            found += [_again(HISTORY), *(_item(one) for one in history)]
    if calls is not None:
        if len(calls) < len(lists.calls):
            found += [_again(CALLS), *(one for at, call in enumerate(calls) for one in _call(at, call, set()))]
        else:
            for at, call in enumerate(calls):
                if at >= len(lists.calls) or lists.calls[at] != call:
                    found += _call(at, call, lists.answered, known=at < len(lists.calls))
    return found


def _common(before: Sequence[Any], after: Sequence[Any]) -> int:
    least = min(len(before), len(after))
    return next((at for at in range(least) if before[at] != after[at]), least)


def _again(name: str) -> dict[str, Any]:
    return {"type": f"custom.{RECORD}.again", "data": {RECORD: {"again": name}}}


def _item(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"{HISTORY}: each item is an object")
    given = cast("dict[str, Any]", item)
    role = given.get("role", _ROLE_OF_TYPE.get(str(given.get("type"))))
    words = next((name for name in _WORDS if given.get(name) is not None), None)
    if not isinstance(role, str) or role not in _ROLES or words is None:
        return {"type": f"custom.{RECORD}.item", "data": {RECORD: {"item": given}}}
    rest = {name: value for name, value in given.items() if name != words}
    entry = {"type": "message", "role": role, "content": given[words], "data": {RECORD: {"item": rest, "in": words}}}
    return entry | _at(given)


def _at(item: Mapping[str, Any]) -> dict[str, str]:
    """When it happened, where the item says so."""
    try:
        moment = datetime.fromisoformat(str(item["timestamp"])).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return {}
    return {"at": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"}


def _call(at: int, call: Any, answered: set[int], *, known: bool = False) -> list[dict[str, Any]]:
    """The entries of a function call that is new or has changed."""
    if not isinstance(call, dict):
        raise ValueError(f"{CALLS}: each call is an object")
    given = cast("dict[str, Any]", call)
    data = {RECORD: {"call": given, "at": at}}
    call_id, name = given.get("call_id"), given.get("function_name", given.get("name"))
    if not fits(call_id) or not fits(name):
        return [{"type": f"custom.{RECORD}.call", "data": data}]
    status = str(given.get("status") or "")
    output = {"type": "function_call_output", "call_id": call_id, "output": given.get("result"), "data": data}
    if status in _OUTCOMES:
        output["status"] = _OUTCOMES[status]
    ended = status not in _STILL_RUNS or (not status and given.get("result") not in (None, {}))
    made: dict[str, Any] = {"type": "function_call", "call_id": call_id, "name": name, "data": data}
    if "arguments" in given:
        made["arguments"] = given["arguments"]
    if not known:
        return [made | _at(given), output] if ended else [made | _at(given)]
    if ended and at not in answered:
        return [output]
    return [{"type": f"custom.{RECORD}.call", "data": data}]
