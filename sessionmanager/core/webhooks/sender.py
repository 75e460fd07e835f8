"""One attempt: a signed request, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple, Protocol

from sessionmanager.core.outgoing.endpoints import Endpoint, NotAllowed
from sessionmanager.core.outgoing.requests import CallFailed, Outgoing, TheirAnswer
from sessionmanager.core.webhooks.destinations import target_of
from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.core.webhooks.messages import Secrets, headers
from sessionmanager.model import instants
from sessionmanager.words import Instant

GONE: Final = 410
WAIT_SECONDS_MAX: Final = 86_400.0
AGENT: Final = "sessionmanager-webhooks"


class Outcome(NamedTuple):
    """What came of an attempt. `reason`: a word of ours. wait_seconds: how long the receiver wants to be left alone."""

    kind: Literal["delivered", "failed", "gone"]
    status: int | None = None
    reason: str | None = None
    wait_seconds: float = 0.0


class Sending(Protocol):
    """Who sends. Deliveries know no more of it."""

    async def check(self, url: str) -> None:
        """Whether deliveries may go there, as it resolves now. Raises NotAllowed; CallFailed: it does not resolve."""
        ...

    async def send(self, hook: Hook, message_id: str, body: bytes) -> Outcome:
        """Sign and send one message; whatever happens is told by the outcome. Raises DataCorrupt: no secret opens."""
        ...


class Sender:
    """Sends by HTTP. now: the clock that timestamps are taken from."""

    def __init__(self, outgoing: Outgoing, secrets: Secrets, now: Callable[[], Instant]) -> None:
        self._outgoing = outgoing
        self._secrets = secrets
        self._now = now

    async def check(self, url: str) -> None:
        await self._outgoing.check(target_of(url).endpoint)

    async def send(self, hook: Hook, message_id: str, body: bytes) -> Outcome:
        now = self._now()
        signed = headers(self._secrets.good(hook, now), message_id, now, body)
        try:
            target = target_of(hook.url)
            reply = await self._post(target.endpoint, target.rest, body, {**signed, "User-Agent": AGENT})
        except NotAllowed:
            return Outcome("failed", reason="not-allowed")
        except CallFailed as failure:
            if failure.status is None:
                return Outcome("failed", reason=failure.reason)
            # The status is the answer; that its body is none that we take changes nothing.
            reply = TheirAnswer(failure.status, b"")
        return outcome_of(reply, now)

    async def _post(self, endpoint: Endpoint, rest: str, body: bytes, given: dict[str, str]) -> TheirAnswer:
        return await self._outgoing.send("POST", endpoint, rest, body=body, headers=given)


def outcome_of(reply: TheirAnswer, now: Instant) -> Outcome:
    """What an answer means: any 2xx is a yes, 410 is a farewell, a redirect is a failure like any other."""
    if reply.is_fine:
        return Outcome("delivered", reply.status)
    if reply.status == GONE:
        return Outcome("gone", reply.status, "gone")
    return Outcome("failed", reply.status, f"status-{reply.status}", wait_of(reply.retry_after, now))


def wait_of(text: str | None, now: Instant) -> float:
    """`Retry-After`, seconds or a date (RFC 9110 section 10.2.3), at most a day; 0 where it says nothing."""
    if text is None or len(text) > 64 or not text.isascii():
        return 0.0
    text = text.strip()
    if text.isdecimal():
        return min(float(text), WAIT_SECONDS_MAX)
    try:
        until = parsedate_to_datetime(text)
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        seconds = (until - datetime.fromtimestamp(instants.to_ms(now) / 1000, UTC)).total_seconds()
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), WAIT_SECONDS_MAX)
