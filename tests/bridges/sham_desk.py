"""A desk that keeps calls in a dictionary, and can be away."""

from __future__ import annotations

import asyncio

from sessionmanager.bridges.twilio.desk import CallFacts, Next
from sessionmanager.client.problems import Unreachable


class ShamDesk:
    """sessions: by `callSid`, made where there is none. reports: in order. away: every question is an error. silent:
    none is ever answered."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}
        self.reports: list[CallFacts] = []
        self.plans: dict[str, Next] = {}
        self.away = self.silent = False

    async def _ask(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.away:
            raise Unreachable

    async def session_of(self, facts: CallFacts) -> str:
        await self._ask()
        self.reports.append(facts)
        return self.sessions.setdefault(facts.call_sid, f"session-of-{facts.call_sid[-2:]}")

    async def report(self, facts: CallFacts) -> None:
        await self._ask()
        self.reports.append(facts)

    async def plan(self, call_sid: str, next: Next) -> None:
        await self._ask()
        self.plans[call_sid] = next

    async def planned(self, call_sid: str) -> Next | None:
        await self._ask()
        return self.plans.get(call_sid)
