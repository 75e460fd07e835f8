"""Rules of the checker about participants and the floor. Each looks at whole logs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tests.support.sim.history import Operation
from tests.support.sim.stage import FLOOR_LEASE_SECONDS, PARTICIPANT_LEASE_SECONDS, Given, Said
from tests.support.sim.view import MS, NEVER, View, answered

BOUND: Final = frozenset({"append", "beat", "claim", "release"})
"""What is asked for with a participant's own token."""


def floor_numbers_grow(view: View) -> Iterator[str]:
    """A number of the floor is given once, to one holder, and is greater than all before it; receipts agree."""
    if not view.is_whole:
        return
    yield from view.stage.misgiven
    for op in view.acked:
        if op.kind == "claim" and op.number is not None and op.position is None:
            given = view.stage.given.get(op.number)
            if given is None or given.holder != op.pid:
                yield f"{op} was told number {op.number}, which was given to {given and given.holder}"


def old_numbers_never_speak(view: View) -> Iterator[str]:
    """What carries a number is in the log only while that number is the newest, its holder's, and its lease runs."""
    if not view.is_whole:
        return
    for said in view.stage.said:
        op = next(iter(view.requests.get(said.line.mark, [])), None)
        if op is None:
            continue
        if said.number != said.newest or said.holder != op.pid:
            yield f"{op} said seq {said.line.seq} with number {said.number}; {said.holder} holds {said.newest}"
        elif said.at >= (until := _latest_end(view, op, said)):
            yield f"{op} said seq {said.line.seq} at {said.at:.3f}; its lease was over at {until:.3f} at the latest"


def _latest_end(view: View, op: Operation, said: Said) -> float:
    """When the lease of what was said was over, had every renewal that had begun done as much as it can."""
    given = view.stage.given.get(said.number)
    renewals = [
        min(answered(other), said.at) + FLOOR_LEASE_SECONDS
        for other in view.operations
        if other.pid == op.pid and other.kind in ("beat", "claim") and other.invoked_at <= said.at + MS
    ]
    return max([given.expires_at if given is not None else 0.0, *renewals]) + MS


def the_removed_stay_removed(view: View) -> Iterator[str]:
    """After somebody has left, nothing is written or answered under the token of that stay, and only a new epoch
    brings it back."""
    if not view.is_whole:
        return
    yield from view.stage.returned
    for op in view.operations:
        line = view.stage.gone.get((op.pid or "", op.epoch)) if op.kind in BOUND else None
        if line is None:
            continue
        late = [each.seq for each in view.landed.get(op.mark, []) if each.seq > line.seq]
        if late:
            yield f"{op} wrote seqs {late} after {op.pid} had left at seq {line.seq}"
        elif op.kind == "beat" and op.outcome == "ok" and view.proven(op.invoked_at)[0] >= line.version:
            yield f"{op} was answered though {op.pid} had left at version {line.version}"


def one_identity_is_one_participant(view: View) -> Iterator[str]:
    """Whoever joins under an identity that is known is that participant."""
    if view.is_whole:
        yield from view.stage.twins


def news_is_heard(view: View) -> Iterator[str]:
    """Nobody is given up within half a lease of news that was acknowledged."""
    if not view.is_whole:
        return
    for pid, line, at in view.stage.dropped:
        for op in view.acked:
            heard = op.kind == "beat" and op.pid == pid and answered(op) <= at
            if heard and at < op.invoked_at + PARTICIPANT_LEASE_SECONDS / 2 - MS:
                yield f"{pid} was given up at seq {line.seq}, {at:.3f}, though {op}"


def nobody_is_turned_away_for_nothing(view: View) -> Iterator[str]:
    """A token is void only when its participant has left; the floor is taken, or lost, only if somebody took it."""
    if not view.is_whole:
        return
    for op in view.operations:
        if op.error == "Unauthenticated":
            line = view.stage.gone.get((op.pid or "", op.epoch))
            if line is None or view.began(line.mark) > answered(op):
                yield f"{op}, but {op.pid} had not left"
        elif op.error == "FloorTaken":
            if not any(_claims_before(other, op) for other in view.operations):
                yield f"{op}, but nobody else had claimed"
        elif op.error == "FloorLost" and op.number is not None:
            given = view.stage.given.get(op.number)
            if given is not None and given.holder == op.pid and _holds_until(view, op.number, given) > answered(op):
                yield f"{op}, but {op.pid} held number {op.number}"


def _claims_before(other: Operation, op: Operation) -> bool:
    return other.kind == "claim" and other.pid != op.pid and other.invoked_at <= answered(op)


def _holds_until(view: View, number: int, given: Given) -> float:
    """Until when a number is surely good, if it is never renewed."""
    return min(given.expires_at, view.stage.over.get(number, NEVER)) - MS


Rule = Callable[[View], Iterator[str]]
RULES: Final[tuple[Rule, ...]] = (
    floor_numbers_grow,
    old_numbers_never_speak,
    the_removed_stay_removed,
    one_identity_is_one_participant,
    news_is_heard,
    nobody_is_turned_away_for_nothing,
)
