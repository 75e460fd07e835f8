"""What a run leaves behind: every operation as its client saw it, and each session as it is in the end.

A *mark* names one request of one client. It is the subject in whose name the request was sent, so it stands as `actor`
in every line that the request wrote; attempts that repeat a request share its mark. Lines that the service wrote of its
own accord have an actor that is no mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from sessionmanager.model import instants

EPOCH_MS: Final = instants.to_ms("2026-11-21T12:00:00.000Z")
"""The instant of second 0 of the virtual clock."""

Outcome = Literal["ok", "refused", "unknown"]
Kind = Literal[
    "create", "append", "patch", "suspend", "activate", "resume", "end", "archive", "erase", "get", "latest", "entries",
    "join", "leave", "beat", "claim", "release",
]  # fmt: skip
READS: Final = frozenset({"get", "latest", "entries"})
INVISIBLE: Final = frozenset({"archive", "erase", "beat"})
"""Writes that leave no line of their own; a beat that finds its participant given up writes one."""
PRESENCE: Final = frozenset({"join", "leave", "claim", "release"})
"""Writes about participants and the floor, which may find nothing to do."""
UNDECIDED: Final = frozenset(
    {"TierUnavailable", "Contended", "InProgress", "Draining", "RateLimited", "OutcomeUnknown"}
)
"""Errors that say "later" or "again"; any other is an answer to the request."""


class Line(NamedTuple):
    """One entry of a log. text: what a client sent with it, "" for other lines. data: the JSON line itself."""

    seq: int
    version: int
    id: str
    mark: str
    text: str = ""
    data: str = ""


class Sent(NamedTuple):
    """One entry of a batch: the id that the client gave it, if any, and its text, unique in the run."""

    text: str
    id: str | None = None


@dataclass(kw_only=True, eq=False)
class Operation:
    """One attempt. Times are seconds of the virtual clock; `answered_at` None: no answer ever came.

    version: that the answer names; of `VersionConflict` and `MinVersionAhead` the one that the error names.
    seqs: of an append's receipt. duplicates: how many of its lines were there before.
    lines: what a read showed; state: the public head that it showed, as JSON; shown: the version of both, where it may
    be newer than `version` (a resume hands out the state at or after its commit).
    exact: the promise of this read is `latest`. stale: it was marked as a copy that warm could not confirm.
    calm: it began after all faults had ended and everything had settled.
    pid, epoch: the participant that its token speaks for; of a leave the one that is to go. number: of the floor, given
    by a claim or carried by what is said; position: in the queue of a claim, else None. keyed: sent with a key.
    quiet: the answer does not say that a commit of its own stands, since there may have been nothing to do.
    """

    kind: Kind
    session: str
    mark: str
    invoked_at: float
    client: str = "client"
    answered_at: float | None = None
    outcome: Outcome = "unknown"
    error: str = ""
    detail: str = ""
    version: int | None = None
    sent: tuple[Sent, ...] = ()
    seqs: tuple[int, ...] = ()
    duplicates: int = 0
    expected: int | None = None
    min_version: int | None = None
    after: int = 0
    limit: int = 0
    lines: tuple[Line, ...] | None = None
    state: str | None = None
    shown: int | None = None
    exact: bool = True
    stale: bool = False
    calm: bool = False
    pid: str | None = None
    epoch: int = 0
    number: int | None = None
    position: int | None = None
    keyed: bool = False
    quiet: bool = False

    def is_write(self) -> bool:
        return self.kind not in READS

    def commits(self) -> bool:
        """Whether this acknowledged write says that a visible commit of its own stands."""
        if self.outcome != "ok" or not self.is_write() or self.kind in INVISIBLE:
            return False
        return not (self.quiet and self.kind in PRESENCE) and not self.adds_nothing()

    def adds_nothing(self) -> bool:
        return self.kind == "append" and bool(self.sent) and self.duplicates == len(self.sent)

    def __str__(self) -> str:
        until = "never" if self.answered_at is None else f"{self.answered_at:.4f}"
        answer = self.error or self.outcome
        return f"{self.kind} {self.mark} of {self.client} [{self.invoked_at:.4f}, {until}] {answer} v{self.version}"


@dataclass(kw_only=True)
class Ending:
    """A session when everything has come to rest.

    log: all of its lines, read through the service from whatever tier; None where it is erased or never was.
    states: version → the public head that a replay of the log up to it makes; state: the public head itself.
    owed: what ought to be done and is not, in words. left: bytes that ought to be gone, by name.
    """

    session: str
    log: tuple[Line, ...] | None
    erased: bool = False
    version: int = 0
    entry_count: int = 0
    state: str = ""
    states: Mapping[int, str] = field(default_factory=dict[int, str])
    owed: tuple[str, ...] = ()


class Promise(NamedTuple):
    """What may be expected of a run. `faultless`: no call failed or was lost, so a plain read misses nothing acked.
    `prompt`: where nothing is broken nothing is late either, as on a virtual clock; else a careful client's repeats,
    as a deadline that a busy machine misses asks for them, may bring the answer."""

    lease_seconds: float
    faultless: bool
    prompt: bool = True


class Violation(NamedTuple):
    rule: str
    session: str
    what: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.session}: {self.what}"
