"""Dead letters sent again because somebody asked: beside what is new, each once, the oldest first.

A letter that gets through is taken away; one that does not stays, and a receiver that fails three in a row is left
alone: what is not sent stays as well. A session is worked on by one task at a time here too.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from sessionmanager.core.feed.events import event_of
from sessionmanager.core.webhooks.hook import Replay
from sessionmanager.core.webhooks.lane import Lane
from sessionmanager.core.webhooks.letters import Letter, Letters
from sessionmanager.core.webhooks.outbox import Outbox
from sessionmanager.errors import DataCorrupt, Erased, NotFound

FAILURES_MAX: Final = 3


class Stopped(Exception):
    """The hook may not be sent to at this moment; whoever may goes on."""


async def replay(wish: Replay, lane: Lane, letters: Letters, outbox: Outbox) -> None:
    """Send what was wished for. Raises Stopped; TierUnavailable, OutcomeUnknown, Contended: go on later.

    Crash anywhere: what was taken away was sent; the rest is sent when the wish is taken up again.
    """
    if wish.letter is not None:
        found = await letters.get(lane.hook.tenant, lane.hook.id, wish.letter)
        if found is not None:
            await _again(*found, lane, letters, outbox)
        return
    failures, after = 0, ""
    while page := await letters.records(lane.hook.tenant, lane.hook.id, after=after):
        after = page[-1][0].id
        for letter, rev in page:
            if letter.dead_at > wish.asked_at or (wish.since is not None and letter.at < wish.since):
                continue
            failures = 0 if await _again(letter, rev, lane, letters, outbox) else failures + 1
            if failures >= FAILURES_MAX:
                return


async def _again(letter: Letter, rev: int, lane: Lane, letters: Letters, outbox: Outbox) -> bool:
    """One letter; whether its receiver took it, or it is owed to nobody any more."""
    hook = lane.hook
    async with lane.alone_with(letter.session):
        if not lane.may_send:
            raise Stopped
        try:
            lines = await outbox.lines(letter.session, letter.seq - 1, 1)
        except (NotFound, Erased):
            lines = []
        except DataCorrupt:
            return False
        if lines and lines[0].seq == letter.seq:
            async with lane.post.room:
                outcome = await lane.post.send(event_of(letter.session, lines[0], ""))
            if outcome.kind != "delivered":
                told = replace(letter, attempts=letter.attempts + 1, reason=outcome.reason, status=outcome.status)
                await letters.keep(hook.tenant, hook.id, told, rev)
                return False
            lane.post.pace.delivered()
        # Crash here: it was sent, and is sent once more when the wish is taken up again.
        await letters.drop(hook.tenant, hook.id, letter, rev)
        lane.post.letters -= 1
        return True
