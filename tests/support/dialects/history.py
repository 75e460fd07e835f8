"""Logs to make windows of: entries as the service would have committed them, and the head that they fold to."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from sessionmanager.errors import IllegalTransition
from sessionmanager.model import decide
from sessionmanager.model.entry import Draft, StoredEntry, decode_entry, encode_entry
from sessionmanager.model.fold import begin, fold, replay
from sessionmanager.model.head import Head
from sessionmanager.words import Key

NOW = "2026-11-21T13:00:00.000Z"


class History:
    """A session that grows by one commit at a time."""

    def __init__(self) -> None:
        drafts = decide.create({}, (), decide.Bounds())
        entries = decide.place(drafts, entry_count=0, version=1, now=NOW, actor="alice")
        self.lines: list[StoredEntry] = [encode_entry(entries[0])]
        self.head: Head = begin(Key("acme", "call-1"), entries[0], status="initiated", size=100)

    def add(self, **members: Any) -> int:
        """Append an entry, free members given as values; its seq. A session that takes none stays as it is."""
        free = ("content", "heard", "generated", "arguments", "output", "data")
        raw = {
            k: Raw(msgspec.json.encode(v)) if k in free and not isinstance(v, Raw) else v for k, v in members.items()
        }
        return self._commit(lambda: decide.append(self.head, (Draft(**raw),), {}, NOW).drafts)

    def say(self, text: Any, role: str = "user", **more: Any) -> int:
        return self.add(type="message", role=role, content=text, **more)

    def call(self, call_id: str, name: str = "book", arguments: Any = None, **more: Any) -> int:
        return self.add(type="function_call", call_id=call_id, name=name, arguments=arguments or {}, **more)

    def answer(self, call_id: str, output: Any, **more: Any) -> int:
        return self.add(type="function_call_output", call_id=call_id, output=output, **more)

    def sum_up(self, first: int, last: int, text: str) -> int:
        return self.add(type="summary", from_seq=first, to_seq=last, content=text)

    def move(self, name: Any) -> int:
        """Suspend, activate, end or fail; `resume` as well."""
        if name == "resume":
            return self._commit(lambda: decide.resume(self.head, None, NOW) if self.head.status != "ended" else ())
        return self._commit(lambda: decide.transition(self.head, name))

    def crashed(self, commits: int) -> History:
        """The same session as whoever comes finds it when nothing came after so many commits."""
        entries = [decode_entry(line.data) for line in self.lines]
        kept = sum(entry.version <= commits for entry in entries)
        found = History()
        found.lines = self.lines[:kept]
        found.head = replay(self.head.key, entries[:kept], [len(line.data) for line in found.lines])
        return found

    def _commit(self, drafts: Any) -> int:
        try:
            new = drafts()
        except IllegalTransition:
            return self.head.pulse.entry_count
        if new:
            count, version = self.head.pulse.entry_count, self.head.version + 1
            entries = decide.place(new, entry_count=count, version=version, now=NOW, actor="alice")
            added = [encode_entry(entry) for entry in entries]
            self.lines += added
            self.head = fold(self.head, entries, rev=self.head.rev + 1, size=sum(len(line.data) for line in added))
        return self.head.pulse.entry_count


IDS = ("c1", "c2", "call_1", "x" * 33, "y" * 128, "functions.f:0", "a b/ü", "call_00000000000000000000")
NAMES = ("book", "look_up", "3d", "näme mit leer", "n" * 200, "a.b:c")
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
"""What a request may hold."""
FREE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
PARTS: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"type": "text", "text": "part"},
        {"type": "input_text", "text": ""},
        {"type": "input_audio", "audio": "AAAA", "transcript": "spoken"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "holo deck\n", "x": 1},
        {"type": "text", "text": {"value": "deep"}},
        {"inline_data": {"data": "AAAA"}},
        {"type": 7},
        "bare",
        " ",
        3,
        None,
    ]
)
CONTENTS: st.SearchStrategy[Any] = (
    st.sampled_from(["", " \n", "hello", "ünï", "😀", None]) | st.lists(PARTS, max_size=3) | PARTS | FREE
)
ARGUMENTS: st.SearchStrategy[Any] = FREE | st.sampled_from(
    ["", "{}", '{"a":1}', "[1]", "{", '{"a":NaN}', '{"a":"\\ud800"}', "[" * 500, '{"a":' * 90 + "1" + "}" * 90]
)


@st.composite
def histories(draw: st.DrawFn, size_max: int = 24) -> History:
    """Everything that can come into a log, in any order: also outputs without calls, twice, or long after, doubled call
    ids, empty speech, summaries of anything, suspends and resumes in the middle of calls."""
    history = History()
    for _ in range(draw(st.integers(0, size_max))):
        kind = draw(st.sampled_from(["say", "say", "call", "call", "answer", "answer", "sum", "other", "move"]))
        if kind == "say":
            role = draw(st.sampled_from(["user", "assistant", "assistant", "system", "developer", "tool"]))
            heard = {"heard": draw(CONTENTS), "generated": "all"} if draw(st.integers(0, 4)) == 0 else {}
            chosen = {"id": f"{draw(st.sampled_from(['i', 'item:', 'i' * 100]))}{len(history.lines)}"}
            history.say(draw(CONTENTS), role, **heard, **(chosen if draw(st.booleans()) else {}))
        elif kind == "call":
            name = draw(st.sampled_from(NAMES))
            given = {"arguments": draw(ARGUMENTS)} if draw(st.booleans()) else {}
            history.add(type="function_call", call_id=draw(st.sampled_from(IDS)), name=name, **given)
        elif kind == "answer":
            status = {"status": draw(st.sampled_from(["completed", "failed"]))} if draw(st.booleans()) else {}
            history.answer(draw(st.sampled_from(IDS)), draw(CONTENTS), **status)
        elif kind == "sum":
            first = draw(st.integers(0, 30))
            history.sum_up(first, first + draw(st.integers(0, 30)), draw(st.sampled_from(["so far", ""])))
        elif kind == "other":
            history.add(
                **draw(st.sampled_from([{"type": "custom.note", "data": 1}, {"type": "error", "content": "x"}]))
            )
        else:
            history.move(draw(st.sampled_from(["suspend", "resume", "resume", "activate", "end"])))
    return history
