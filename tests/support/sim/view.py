"""All that is known of one session of a run, put in order once; what the rules of the checker look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from tests.support.sim.history import Ending, Line, Operation, Promise
from tests.support.sim.stage import Stage

NEVER: Final = float("inf")
MS: Final = 0.001
"""Instants are cut to milliseconds, so a lease may seem this much longer."""


def answered(op: Operation) -> float:
    """When an answer came; never where none did."""
    return NEVER if op.answered_at is None else op.answered_at


class View:
    """All that is known of one session, put in order once."""

    def __init__(self, session: str, operations: Sequence[Operation], ending: Ending | None, promise: Promise) -> None:
        self.session = session
        self.operations = sorted(operations, key=lambda op: op.invoked_at)
        self.ending = ending
        self.promise = promise
        self.requests: dict[str, list[Operation]] = defaultdict(list)
        for op in self.operations:
            self.requests[op.mark].append(op)
        self.shown = [(op, line) for op in self.operations for line in op.lines or ()]
        self.is_whole = ending is not None and ending.log is not None
        """Whether the whole log is known; of an erased session only what was read of it is."""
        lines = ending.log if ending is not None and ending.log is not None else [line for _, line in self.shown]
        self.log: dict[int, Line] = {line.seq: line for line in sorted(lines)}
        self.landed: dict[str, list[Line]] = defaultdict(list)
        for line in self.log.values():
            self.landed[line.mark].append(line)
        self.acked = [op for op in self.operations if op.outcome == "ok" and op.answered_at is not None]
        self.commits = [op for op in self.acked if op.commits()]
        self.erasures = [op for op in self.operations if op.kind == "erase"]

    def began(self, mark: str) -> float:
        return min((op.invoked_at for op in self.requests[mark]), default=0.0) if mark in self.requests else 0.0

    def proven(self, before: float, *, acks_only: bool = False) -> tuple[int, Operation | None]:
        """The highest version that an answer before this moment proves to be committed, and that answer."""
        witnesses = [
            op
            for op in self.acked
            if answered(op) <= before and op.version is not None and (op.commits() or not acks_only)
        ]
        best = max(witnesses, key=lambda op: op.version or 0, default=None)
        return (best.version or 0, best) if best is not None else (0, None)

    @cached_property
    def stage(self) -> Stage:
        """What the log says of participants and the floor."""
        return Stage(self.log.values())
