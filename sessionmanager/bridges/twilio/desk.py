"""What the webhooks of a call leave behind for one another, on any replica: which session it has, and what comes next.

Kept with the call itself at the service (`POST /calls`, `PATCH /calls/{cid}`): the bridge has no memory worth keeping.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Literal, Protocol, TypeVar

from msgspec import Struct

from sessionmanager.client.aio import AsyncClient
from sessionmanager.errors import IllegalTransition, SessionManagerError
from sessionmanager.words import CallState

T = TypeVar("T")
Direction = Literal["inbound", "outbound"]
NEXT: Final = "twilio_next"
_log: Final = logging.getLogger("sessionmanager.bridges.twilio")


class CallFacts(Struct, frozen=True, kw_only=True):
    """What Twilio says of a call: its state, and with `ended` why."""

    call_sid: str
    state: CallState
    end_reason: str | None = None
    direction: Direction = "inbound"
    caller: str | None = None
    callee: str | None = None
    metadata: Mapping[str, Any] = {}


class Next(Struct, frozen=True, kw_only=True):
    """What the bot wants done with a call once its socket is closed. target: of a transfer."""

    do: Literal["hang_up", "dial"]
    target: str | None = None


class Desk(Protocol):
    """Keeps calls. Every method raises the service's own errors."""

    async def session_of(self, facts: CallFacts) -> str:
        """The session of a call, made or found by the tenant's policy; the call is on record afterwards."""
        ...

    async def report(self, facts: CallFacts) -> None:
        """Say what has become of a call; what is known already is no change."""
        ...

    async def plan(self, call_sid: str, next: Next) -> None:
        """Note what comes next."""
        ...

    async def planned(self, call_sid: str) -> Next | None:
        """What was noted last, None = nothing."""
        ...


class ClientDesk:
    """Keeps them at the service."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def session_of(self, facts: CallFacts) -> str:
        state = "initializing" if facts.state in ("ended", "on_hold") else facts.state
        opened = await self._client.open_call(
            "twilio",
            gateway_call_id=facts.call_sid,
            direction=facts.direction,
            caller=facts.caller,
            callee=facts.callee,
            state=state,
            metadata=facts.metadata,
            session={"bridge_type": "twilio", "external_ids": {"twilio_call_sid": facts.call_sid}},
        )
        return opened.session_id

    async def report(self, facts: CallFacts) -> None:
        call = (await self._client.open_call("twilio", gateway_call_id=facts.call_sid, direction=facts.direction)).call
        try:
            if facts.state == "ended":
                reason = facts.end_reason or "normal"
                await self._client.report_call(call.id, state="ended", end_reason=reason)
            elif facts.state != call.state:
                await self._client.report_call(call.id, state=facts.state)
        except IllegalTransition:
            # Callbacks overtake one another: a `ringing` that comes after `in-progress` is old news.
            _log.info("a late report of a call: %s after %s", facts.state, call.state)

    async def plan(self, call_sid: str, next: Next) -> None:
        call = (await self._client.open_call("twilio", gateway_call_id=call_sid)).call
        note = {"do": next.do} if next.target is None else {"do": next.do, "target": next.target}
        await self._client.report_call(call.id, metadata={NEXT: note})

    async def planned(self, call_sid: str) -> Next | None:
        call = (await self._client.open_call("twilio", gateway_call_id=call_sid)).call
        note = call.metadata.get(NEXT)
        if not isinstance(note, Mapping):
            return None
        return _next_of(note)  # pyright: ignore[reportUnknownArgumentType]


def _next_of(note: Mapping[Any, Any]) -> Next | None:
    do, target = note.get("do"), note.get("target")
    if do == "dial" and isinstance(target, str) and target:
        return Next(do="dial", target=target)
    return Next(do="hang_up") if do == "hang_up" else None


class NoDesk:
    """Keeps nothing: each call is its own session, by its `callSid`. For a bridge without the calls registry."""

    async def session_of(self, facts: CallFacts) -> str:
        return facts.call_sid

    async def report(self, facts: CallFacts) -> None:
        return

    async def plan(self, call_sid: str, next: Next) -> None:
        return

    async def planned(self, call_sid: str) -> Next | None:
        return None


async def softly(what: str, doing: Awaitable[T], seconds: float) -> T | None:
    """What the desk answers within `seconds`; None where the service is away, which no caller must hear of: Twilio
    itself waits 15 s for a webhook, and then the call is lost."""
    try:
        async with asyncio.timeout(seconds):
            return await doing
    except SessionManagerError as error:
        _log.warning("%s of a Twilio call: %s", what, error.type)
    except TimeoutError:
        _log.warning("%s of a Twilio call: no answer within %g s", what, seconds)
    return None
