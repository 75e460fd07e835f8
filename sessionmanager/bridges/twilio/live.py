"""The calls that this process holds now, by `callSid`: a shortcut from webhooks to sockets, right without it, too."""

from __future__ import annotations

import asyncio

from sessionmanager.bridges.carrier import Call


class Holding:
    """A call that is held here. ended: set with the reason once a webhook says that the call is over."""

    def __init__(self, call_sid: str, call: Call) -> None:
        self.call_sid = call_sid
        self.call = call
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)


class LiveCalls:
    """At most one a `callSid`: of two sockets of a call the newer counts."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}

    def hold(self, holding: Holding) -> None:
        self._held[holding.call_sid] = holding

    def release(self, holding: Holding) -> None:
        if self._held.get(holding.call_sid) is holding:
            del self._held[holding.call_sid]

    def find(self, call_sid: str) -> Holding | None:
        return self._held.get(call_sid)

    def __len__(self) -> int:
        return len(self._held)
