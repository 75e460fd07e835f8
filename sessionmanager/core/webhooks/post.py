"""One line at a time: sent, to be tried again, or given up; and what that says of the hook."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from sessionmanager.core.feed.events import Event
from sessionmanager.core.webhooks.hook import Hook, Why
from sessionmanager.core.webhooks.letters import Letters, letter_of
from sessionmanager.core.webhooks.messages import body_of, message_id
from sessionmanager.core.webhooks.pace import Pace
from sessionmanager.core.webhooks.places import Place
from sessionmanager.core.webhooks.sender import Outcome, Sending
from sessionmanager.core.webhooks.shared import WebhookEvents, WebhookLimits
from sessionmanager.model import instants
from sessionmanager.words import Instant


class Shared(NamedTuple):
    """What all hooks of a process use. clock: seconds that never go back. well, failing: how many sessions may be
    served at once, of hooks that are well and of those that fail; neither takes room from the other."""

    sending: Sending
    letters: Letters
    limits: WebhookLimits
    events: WebhookEvents
    rng: random.Random
    clock: Callable[[], float]
    well: asyncio.Semaphore
    failing: asyncio.Semaphore


class Post:
    """Of one hook. now: warm's clock. letters: how many dead ones there are. ending: why it has to be disabled."""

    def __init__(self, hook: Hook, shared: Shared, now: Callable[[], Instant], failing_since: Instant | None) -> None:
        self.hook = hook
        since = failing_since if failing_since is not None and failing_since >= hook.enabled_at else None
        self.pace = Pace(shared.limits, shared.rng, since)
        self.letters = 0
        self.ending: Why | None = None
        self._shared = shared
        self._now = now

    @property
    def room(self) -> asyncio.Semaphore:
        """What is to be held while a session of the hook is served."""
        return self._shared.failing if self.pace.is_failing else self._shared.well

    async def send(self, event: Event) -> Outcome:
        """One attempt."""
        message = message_id(self.hook.tenant, event.session, event.seq)
        outcome = await self._shared.sending.send(self.hook, message, body_of(self.hook.tenant, event))
        self._shared.events.webhook(outcome.kind)
        if outcome.kind == "gone":
            self.ending = "gone"
        return outcome

    async def deliver(self, event: Event, place: Place) -> tuple[Place, bool]:
        """Try a line; where the session stands then, and whether its next line may be tried at once.

        Raises TierUnavailable, OutcomeUnknown: the letter could not be written.
        """
        outcome = await self.send(event)
        now = self._now()
        if outcome.kind == "delivered":
            self.pace.delivered()
            self._shared.events.webhook_lag(instants.seconds_between(event.at, now))
            return Place(seq=event.seq), True
        self.pace.failed(now, outcome.wait_seconds)
        if outcome.kind == "gone":
            return place, False
        place = self._failed(place, outcome, now)
        assert place.failing_since is not None, "it has just failed"
        if instants.seconds_between(place.failing_since, now) >= self._shared.limits.retry_seconds:
            await self._give_up(event, place, outcome, now)
            # Crash here: the letter is written, the place is not; the line is tried and given up again, as one letter.
            # What comes next has failed for as long: it is tried once, unless something gets through before.
            place = Place(seq=event.seq, failing_since=place.failing_since)
        if self.pace.failing_for(now) >= self._shared.limits.disable_seconds:
            self.ending = "failing"
        return place, False

    def _failed(self, place: Place, outcome: Outcome, now: Instant) -> Place:
        """The place after one more failure; its line is tried for the last time when its time is over."""
        since = place.failing_since
        if since is None or since < self.hook.enabled_at:
            since = now
        failures = place.failures + 1
        wait = max(self.pace.gap(failures), outcome.wait_seconds)
        next_at, last = instants.plus(now, wait), instants.plus(since, self._shared.limits.retry_seconds)
        next_at = min(next_at, last) if last > now else now
        return replace(place, failures=failures, failing_since=since, next_at=next_at)

    async def _give_up(self, event: Event, place: Place, outcome: Outcome, now: Instant) -> None:
        letter = letter_of(
            self.hook.tenant, event, now, attempts=place.failures, reason=outcome.reason, status=outcome.status
        )
        await self._shared.letters.keep(self.hook.tenant, self.hook.id, letter)
        self._shared.events.webhook("dead")
        self.letters += 1
        if self.letters >= self._shared.limits.letters_max:
            self.ending = "dead-letters"
