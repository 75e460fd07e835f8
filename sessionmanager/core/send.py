"""Send one compare-and-set and find out whether it stands (reliability notes, correction 2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

from sessionmanager.errors import NotFound, OutcomeUnknown, RevConflict, SessionManagerError
from sessionmanager.model.change import Change
from sessionmanager.tiers.warm.protocol import WarmHeads

SENDS_MAX: Final = 4
"""How often the very same compare-and-set is sent before its outcome is told to be unknown."""

Verdict = Literal["stands", "lost", "unmoved"]
Outcome = Literal["committed", "stands", "lost"]
"""`committed`: warm said yes. `stands`: no or another answer came, but a commit with this id is there. `lost`: it can
never land any more."""


class SendEvents(Protocol):
    """What a send tells metrics."""

    def conflict(self) -> None: ...
    def unknown(self, resolved: bool) -> None: ...


async def send(warm: WarmHeads, change: Change, events: SendEvents, pause: Callable[[int], Awaitable[None]]) -> Outcome:
    """Whether the change stands.

    Raises TierUnavailable (nothing was ever sent that could stand) or OutcomeUnknown (nobody can say now; a repeat with
    the same commit id will). Cost: one write; two reads more after a mismatch or a lost answer.
    """
    doubt = False
    for i in range(SENDS_MAX):
        try:
            await warm.commit(change)
            return "committed"
        except RevConflict:
            events.conflict()
        except OutcomeUnknown:
            doubt = True
        except SessionManagerError:
            if doubt:
                break
            raise
        verdict = await _find_out(warm, change)
        if verdict != "unmoved":
            if doubt:
                events.unknown(True)
            return verdict
        await pause(i)
    events.unknown(False)
    raise OutcomeUnknown


async def _find_out(warm: WarmHeads, change: Change) -> Verdict:
    """Read warm exactly: first where `rev` is, then whether our id is among the commits since.

    In that order: once `rev` has moved on, our compare-and-set can never land any more, so not finding it is final.
    """
    try:
        try:
            rev = (await warm.load(change.key)).stored.rev
        except NotFound:
            rev = 0
        if await warm.find_commit(change.key, change.rev, change.commit_id) is not None:
            return "stands"
    except SessionManagerError as error:
        raise OutcomeUnknown from error
    return "lost" if rev > change.rev else "unmoved"
