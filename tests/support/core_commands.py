"""What callers may ask of the core, each beside its meaning on a plain model; and both compared as readers see them.

The strategies are small on purpose: few sessions, few ids and few texts, so that they meet.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from sessionmanager.core.assembly import Core
from sessionmanager.core.command import RequestKey, Written
from sessionmanager.core.history import Range
from sessionmanager.core.moves.erase import Erasure
from sessionmanager.core.sessions import open_calls
from sessionmanager.errors import Erased
from sessionmanager.model.entry import Draft, StoredEntry
from sessionmanager.words import Key
from tests.support.audit import Tiers, audit
from tests.support.plain_sessions import Answer, Plain, Said, Session
from tests.support.scenes import ALICE

NAMES: Final = st.sampled_from(["a", "b", "c"])
SAYINGS: Final = st.lists(
    st.builds(
        Said,
        st.sampled_from(["message", "message", "call", "output", "error"]),
        st.sampled_from(["c1", "c2", "c3"]),
        st.none() | st.sampled_from([f"id-{i}" for i in range(12)]),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
FIELDS: Final = st.fixed_dictionaries(
    {},
    optional={
        "caller": st.sampled_from(["ann", "bob"]),
        "context": st.sampled_from([{"a": 1}, {"a": 2, "b": [None]}, "text"]),
        "labels": st.sampled_from([["vip"], ["vip", "late"]]),
    },
)
MERGES: Final = FIELDS | st.sampled_from([{"caller": None}, {"labels": None}])

Do = Callable[[Core, Key, RequestKey | None], Awaitable[Written | Erasure]]


class Command(NamedTuple):
    """Something a caller asks for. name: what it is, as the body of its request. do: on the core. model: beside it."""

    session: str
    name: str
    do: Do
    model: Callable[[], Answer | None]


def compact(value: Any) -> Raw:
    """JSON as the edge hands it on: without white space between its tokens."""
    return Raw(json.dumps(value, separators=(",", ":")).encode())


def draft(said: Said) -> Draft:
    entry_id = UNSET if said.id is None else said.id
    text = compact(said.text)
    match said.kind:
        case "message":
            return Draft(type="message", role="user", content=text, id=entry_id)
        case "call":
            return Draft(type="function_call", call_id=said.text, name="look", id=entry_id)
        case "output":
            return Draft(type="function_call_output", call_id=said.text, output=Raw(b"1"), id=entry_id)
        case _:
            return Draft(type="error", content=text, id=entry_id)


def answer_of(done: Written | Erasure) -> bytes:
    return done.erasure_id.encode() if isinstance(done, Erasure) else done.answer


class Commands:
    """Makes commands for one model; `now` is the time on the clock of its tiers."""

    def __init__(self, plain: Plain, now: Callable[[], float]) -> None:
        self.plain = plain
        self.now = now

    def create(self, name: str, fields: dict[str, Any], said: tuple[Said, ...]) -> Command:
        raw = {field: compact(value) for field, value in fields.items()}

        async def do(core: Core, key: Key, request: RequestKey | None) -> Written:
            made = tuple(draft(one) for one in said)
            return (await core.sessions.create(key.tenant, key.id, raw, made, ALICE, request))[1]

        return Command(name, f"create {fields} {said}", do, lambda: self.plain.create(name, self.now(), fields, said))

    def append(self, name: str, said: tuple[Said, ...]) -> Command:
        async def do(core: Core, key: Key, request: RequestKey | None) -> Written:
            return await core.sessions.append(key, tuple(draft(one) for one in said), ALICE, request)

        return Command(name, f"append {said}", do, lambda: self.plain.append(name, self.now(), said))

    def patch(self, name: str, merge: dict[str, Any], expected: int | None) -> Command:
        async def do(core: Core, key: Key, request: RequestKey | None) -> Written:
            versions: Any = "*" if expected is None else frozenset((expected,))
            body = compact(merge)
            return await core.sessions.patch(key, body, ALICE, is_merge=True, expected=versions, request=request)

        return Command(
            name, f"patch {merge} {expected}", do, lambda: self.plain.patch(name, self.now(), merge, expected)
        )

    def move(self, name: str, move: Any, expected: int | None) -> Command:
        async def do(core: Core, key: Key, request: RequestKey | None) -> Written:
            versions: Any = "*" if expected is None else frozenset((expected,))
            error = "it failed" if move == "fail" else None
            return await core.sessions.transition(key, move, ALICE, error=error, expected=versions, request=request)

        return Command(name, f"{move} {expected}", do, lambda: self.plain.move(name, self.now(), move, expected))

    def resume(self, name: str) -> Command:
        async def do(core: Core, key: Key, request: RequestKey | None) -> Written:
            return (await core.sessions.resume(key, ALICE, max_age_seconds=None, request=request)).written

        return Command(name, "resume", do, lambda: self.plain.resume(name, self.now()))

    def attach(self, name: str, what: str, data: bytes | None) -> Command:
        async def do(core: Core, key: Key, request: RequestKey | None) -> Written:
            if data is None:
                return await core.attachments.remove(key, what, ALICE, request)
            return await core.attachments.put(key, what, data, "audio/l16", ALICE, request)

        return Command(name, f"attach {what} {data!r}", do, lambda: self.plain.attach(name, self.now(), what, data))

    def erase(self, name: str) -> Command:
        async def do(core: Core, key: Key, request: RequestKey | None) -> Erasure:
            return (await core.sessions.erase(key, ALICE, request)).erasure

        return Command(name, "erase", do, lambda: self.plain.erase(name))


async def compare(core: Core, tiers: Tiers, key: Key, session: Session) -> None:
    """A session as readers see it, its whole log, and what the tiers hold of it, beside the model."""
    if session.erased:
        for read in (core.sessions.view(key), core.sessions.entries(key, Range(0, 10, 5))):
            with pytest.raises(Erased):
                await read
        return
    view = await core.sessions.view(key, lines=3)
    head = view.stored.head
    assert (head.version, head.status) == (session.version, session.status)
    assert [line.seq for line in view.lines] == [line.seq for line in session.lines[-3:]]
    pulse = head.pulse
    counted = (pulse.entry_count, pulse.resumed_count, pulse.current_turn, pulse.error_count, pulse.last_error)
    errors = (session.errors, session.last_error or None)
    assert counted == (len(session.lines), session.resumed, session.turns, *errors)
    shown = {
        "caller": head.profile.caller,
        "labels": list(head.profile.labels) or None,
        "context": json.loads(bytes(head.context)),
    }
    assert {name: value for name, value in shown.items() if value is not None} == session.fields
    open_now, interrupted = open_calls((await core.ledger.exact(key)).stored.head)
    assert {call.call_id: False for call in open_now} | {call.call_id: True for call in interrupted} == session.calls
    assert [_as_line(line) for line in await log(core, key)] == session.lines
    for what, data in session.attachments.items():
        assert (await core.attachments.get(key, what))[1] == data
    found = await audit(core, tiers, key)
    assert not found.faults, found.faults
    assert len(found.lines) == len(session.lines)


async def log(core: Core, key: Key) -> list[StoredEntry]:
    """The whole log in pages, from its newest line to its oldest, turned round."""
    lines: list[StoredEntry] = []
    before = 2**31
    while True:
        _, page = await core.sessions.entries(key, Range(0, before, 7, descending=True))
        lines += page.lines
        if page.done:
            return lines[::-1]
        before = page.reached


def _as_line(stored: StoredEntry) -> Any:
    entry = json.loads(stored.data)
    text = {"function_call": "call_id", "function_call_output": "call_id", "message": "content", "error": "content"}
    member = text.get(entry["type"])
    status = entry.get("status") if entry["type"] == "status" else None
    return (
        entry["seq"],
        entry["version"],
        entry["type"],
        entry[member] if member else None,
        status,
        entry["id"],
    )
