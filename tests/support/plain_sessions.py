"""Sessions as a dict and a few lines of Python each: what the core is compared with. No tier, no log, no hash."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sessionmanager.errors import (
    AlreadyExists,
    Erased,
    IllegalTransition,
    NotFound,
    NotResumable,
    VersionConflict,
)

LIVE: Final = ("initiated", "active")
OPEN: Final = (*LIVE, "dormant")
MOVES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "activate": (("initiated", "dormant"), "active"),
    "suspend": (LIVE, "dormant"),
    "end": (OPEN, "ended"),
    "fail": (OPEN, "error"),
}


class Said(NamedTuple):
    """One entry to append. kind: `message`, `call` (opens), `output` (closes) or `error`; text: content or call id."""

    kind: str
    text: str
    id: str | None = None


class Line(NamedTuple):
    """One line of the log as readers see it; of the service's own lines only what a reader could tell beforehand."""

    seq: int
    version: int
    type: str
    text: str | None
    status: str | None = None
    id: str | None = None


class Answer(NamedTuple):
    """A receipt."""

    version: int
    status: str
    seqs: tuple[int, ...] | None = None
    duplicates: tuple[str, ...] | None = None


@dataclass
class Session:
    """One session. calls: open function calls → whether the session was suspended under them."""

    fields: dict[str, Any]
    at: float
    version: int = 1
    status: str = "initiated"
    lines: list[Line] = field(default_factory=list[Line])
    resumed: int = 0
    turns: int = 0
    errors: int = 0
    last_error: str | None = None
    calls: dict[str, bool] = field(default_factory=dict[str, bool])
    attachments: dict[str, bytes] = field(default_factory=dict[str, bytes])
    erased: bool = False

    def add(self, type_: str, text: str | None = None, status: str | None = None, id_: str | None = None) -> int:
        seq = len(self.lines) + 1
        self.lines.append(Line(seq, self.version, type_, text, status, id_ or f"e{seq}"))
        return seq

    def become(self, status: str) -> None:
        self.status = status
        self.add("status", status=status)

    def say(self, said: Said) -> int:
        match said.kind:
            case "message":
                self.turns += 1
                return self.add("message", said.text, id_=said.id)
            case "call":
                self.calls.setdefault(said.text, False)
                return self.add("function_call", said.text, id_=said.id)
            case "output":
                self.calls.pop(said.text, None)
                return self.add("function_call_output", said.text, id_=said.id)
            case _:
                self.errors += 1
                self.last_error = said.text
                return self.add("error", said.text, id_=said.id)


class Plain:
    """All sessions. Each method does what a caller asked for, or raises the error that the core must raise."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}

    def _get(self, name: str) -> Session:
        found = self.sessions.get(name)
        if found is None:
            raise NotFound
        if found.erased:
            raise Erased
        return found

    def create(self, name: str, now: float, fields: dict[str, Any], said: tuple[Said, ...]) -> Answer:
        if name in self.sessions:
            raise Erased if self.sessions[name].erased else AlreadyExists
        session = self.sessions[name] = Session(dict(fields), now)
        session.add("state")
        if said:
            session.become("active")
            self._say(session, said)
        return Answer(1, session.status)

    def append(self, name: str, now: float, said: tuple[Said, ...]) -> Answer:
        session = self._get(name)
        known = {line.id for line in session.lines}
        if any(one.id is None or one.id not in known for one in said):
            if session.status not in OPEN:
                raise IllegalTransition(session.status, ())
            session.version += 1
            session.at = now
            if session.status != "active":
                session.become("active")
        seqs, duplicates = self._say(session, said)
        return Answer(session.version, session.status, seqs, duplicates)

    def _say(self, session: Session, said: tuple[Said, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        seqs: list[int] = []
        duplicates: list[str] = []
        places = {line.id: line.seq for line in session.lines}
        for one in said:
            if one.id is not None and one.id in places:
                seqs.append(places[one.id])
                duplicates.append(one.id)
                continue
            seqs.append(session.say(one))
            if one.id is not None:
                places[one.id] = seqs[-1]
        return tuple(seqs), tuple(duplicates)

    def patch(self, name: str, now: float, merge: dict[str, Any], expected: int | None) -> Answer:
        session = self._get(name)
        if expected is not None and expected != session.version:
            raise VersionConflict(session.version)
        fields = _merged(session.fields, merge)
        if fields != session.fields:
            session.fields = fields
            session.version += 1
            session.at = now
            session.add("state")
        return Answer(session.version, session.status)

    def move(self, name: str, now: float, move: str, expected: int | None = None) -> Answer:
        session = self._get(name)
        if expected is not None and expected != session.version:
            raise VersionConflict(session.version)
        from_, to = MOVES[move]
        if session.status not in from_:
            raise IllegalTransition(session.status, ())
        session.version += 1
        session.at = now
        session.become(to)
        if move == "suspend":
            session.calls = dict.fromkeys(session.calls, True)
        if move == "fail":
            session.errors += 1
            session.last_error = "it failed"
        return Answer(session.version, session.status)

    def resume(self, name: str, now: float) -> Answer:
        session = self._get(name)
        if session.status not in OPEN:
            raise NotResumable("ended" if session.status == "ended" else "error")
        session.version += 1
        session.at = now
        session.resumed += 1
        session.become("active")
        return Answer(session.version, session.status)

    def attach(self, name: str, now: float, what: str, data: bytes | None) -> Answer:
        """Put an attachment, or with None remove it."""
        session = self._get(name)
        if data is None and what not in session.attachments:
            raise NotFound
        session.version += 1
        session.at = now
        session.add("state")
        if data is None:
            del session.attachments[what]
        else:
            session.attachments[what] = data
        return Answer(session.version, session.status)

    def archive(self, name: str) -> None:
        """Only whether it is allowed; nothing that a reader sees changes."""
        session = self._get(name)
        if session.status == "active":
            raise IllegalTransition(session.status, ())

    def erase(self, name: str) -> None:
        self._get(name).erased = True

    def idle(self, now: float, seconds: float, archived: Container[str]) -> None:
        """What the worker owes sessions that have been quiet for so long; none of those that lie in cold is woken."""
        for name, session in self.sessions.items():
            quiet = not session.erased and session.status in LIVE and now - session.at >= seconds
            if quiet and name not in archived:
                self.move(name, now, "suspend")


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396 in its own words."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
