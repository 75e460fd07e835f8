"""All webhooks of a process: which tenants it is in charge of, and what callers ask of hooks.

Any number of processes may run; each looks at the hooks of all tenants once in `poll_seconds`, and takes charge of
those that nobody is in charge of. Where there is no hook, that look is all it costs.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, NamedTuple

import structlog

from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.outgoing.requests import Outgoing
from sessionmanager.core.reads import Reads
from sessionmanager.core.records import RecordForm
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.core.webhooks.desk import Desk
from sessionmanager.core.webhooks.destinations import Destinations
from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.core.webhooks.lane import Lane
from sessionmanager.core.webhooks.letters import Letters
from sessionmanager.core.webhooks.messages import Secrets, test_body
from sessionmanager.core.webhooks.outbox import Outbox
from sessionmanager.core.webhooks.post import Shared
from sessionmanager.core.webhooks.registry import REMEMBERED_SECONDS, HookRegistry
from sessionmanager.core.webhooks.sender import Outcome, Sender, Sending
from sessionmanager.core.webhooks.shared import WebhookEvents, WebhookLimits
from sessionmanager.errors import SessionManagerError
from sessionmanager.model import instants
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.waits.pause import pause

CLAIM_SECONDS: Final = 3.0
"""Between two looks at whether a tenant of somebody else has been let go of."""
CLAIMS_MAX: Final = 32
"""Tenants that a process takes charge of in one look: those that start together share them."""
TEST_KIND: Final = "webhook-test"

log = structlog.get_logger()
_form = RecordForm(Outcome, "the outcome of a test")


class Means(NamedTuple):
    """What deliveries are made with."""

    warm: Warm
    reads: Reads
    registry: HookRegistry
    sending: Sending
    events: WebhookEvents
    aclose: Callable[[], Awaitable[None]]


def build_webhooks(
    warm: Warm,
    reads: Reads,
    masters: MasterKeys,
    events: WebhookEvents,
    owner: str,
    networks: Sequence[str],
    limits: WebhookLimits,
) -> Webhooks:
    """Webhooks that are sent by HTTP, also to these networks. Raises ValueError: one of them is none."""
    outgoing = Outgoing(Destinations(networks), seconds=limits.request_seconds)
    secrets = Secrets(masters, os.urandom)
    sender = Sender(outgoing, secrets, warm.now)
    means = Means(warm, reads, HookRegistry(warm, secrets, os.urandom), sender, events, outgoing.aclose)
    return Webhooks(means, owner, limits=limits, rng=random.Random())


class Webhooks:
    """One a process; `run` ends when `stop` is set.

    owner: what this process calls itself; where it is the only one there can be, the same after a restart, so that it
    goes on at once.
    """

    def __init__(
        self,
        means: Means,
        owner: str,
        *,
        limits: WebhookLimits = WebhookLimits(),  # noqa: B008 - immutable
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.registry = means.registry
        self.letters = Letters(means.warm, limits.letters_keep_seconds)
        self.disabled = 0
        """Hooks of all tenants that are disabled, at the last look."""
        self.aclose = means.aclose
        self._warm = means.warm
        self._reads = means.reads
        self._owner = owner
        self._limits = limits
        self._rng = rng
        self._shared = Shared(
            means.sending,
            self.letters,
            limits,
            means.events,
            rng,
            clock,
            asyncio.Semaphore(limits.well_at_once),
            asyncio.Semaphore(limits.failing_at_once),
        )
        self._desks: dict[str, Desk] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, float] = {}
        self._blind = self._failed = False  # since a look before this one; at this one

    @property
    def owed(self) -> int:
        """Sessions with lines that receivers of hooks in this process's charge have not got."""
        return sum(lane.owed for lane in self.lanes)

    @property
    def lanes(self) -> list[Lane]:
        """Of every hook in this process's charge."""
        return [lane for desk in self._desks.values() for lane in desk.lanes.values()]

    # -- delivering

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop` is set, then let go of everything. While warm is down nothing is sent."""
        try:
            while not stop.is_set():
                self._blind, self._failed = self._failed, False
                try:
                    await self.turn()
                except SessionManagerError as error:
                    self._cannot_look(error)
                except Exception as error:
                    log.error("webhook.failed", error=type(error).__name__)
                await pause(stop, self._limits.poll_seconds * (0.5 + self._rng.random() / 2))
        finally:
            await self.close()

    async def turn(self) -> None:
        """One look at all hooks. Raises TierUnavailable. Cost: a read of warm for each 200, and what desks write."""
        by_tenant: dict[str, list[Hook]] = {}
        everything = await self.registry.everything()
        for hook in everything:
            by_tenant.setdefault(hook.tenant, []).append(hook)
        self.disabled = sum(hook.status == "disabled" for hook in everything)
        wanted = {tenant for tenant, hooks in by_tenant.items() if _needs_somebody(hooks)}
        for tenant, desk in tuple(self._desks.items()):
            if desk.dead or tenant not in wanted:
                self._let_go(tenant, desk)
        await self._claim(wanted - self._leaving.keys())
        results = await asyncio.gather(
            *(desk.update(by_tenant[tenant]) for tenant, desk in self._desks.items()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, SessionManagerError):
                self._cannot_look(result)
            elif isinstance(result, BaseException):
                raise result

    async def close(self) -> None:
        """Let go of every tenant, what is under way finished where it does not take long."""
        for tenant, desk in tuple(self._desks.items()):
            self._let_go(tenant, desk)
        await asyncio.gather(*self._leaving.values())

    def _let_go(self, tenant: str, desk: Desk) -> None:
        """Close a desk; until that is done nobody here takes charge of its tenant again."""
        self._desks.pop(tenant, None)
        task = asyncio.get_running_loop().create_task(desk.close(), context=Context())
        self._leaving[tenant] = task
        task.add_done_callback(lambda _: self._leaving.pop(tenant, None))

    async def _claim(self, wanted: set[str]) -> None:
        now = self._shared.clock()
        self._tried = {tenant: at for tenant, at in self._tried.items() if tenant in wanted}
        free = [
            tenant
            for tenant in wanted - self._desks.keys()
            if now - self._tried.get(tenant, now - CLAIM_SECONDS) >= CLAIM_SECONDS
        ]
        self._rng.shuffle(free)
        for tenant in free[:CLAIMS_MAX]:
            outbox = Outbox(tenant, self._warm, self._reads, self._limits, self._shared.clock)
            desk = Desk(tenant, self._owner, self._warm, outbox, self.registry, self._shared)
            self._tried[tenant] = now
            try:
                if await desk.claim():
                    self._desks[tenant] = desk
            except SessionManagerError as error:
                # Whatever is wrong with one tenant's record must not keep the others waiting.
                self._cannot_look(error)

    def _cannot_look(self, error: SessionManagerError) -> None:
        """Say so, once until there was a look at which nothing was amiss: an outage is two lines of its tier's guard,
        not one a second."""
        if not self._blind and not self._failed:
            log.warning("webhook.cannot_look", error=type(error).__name__)
        self._failed = True

    # -- what callers ask

    async def check(self, url: str) -> None:
        """Whether deliveries may go there, as it resolves now. Raises NotAllowed; CallFailed: it does not resolve."""
        await self._shared.sending.check(url)

    async def test(self, hook: Hook, name: str | None, begun: Begun) -> Outcome:
        """Send something that says of itself that it is a test, now and once, also to a hook that is disabled.

        name: stands for the request, where it has a key; a repeat gets the first outcome. Raises TierUnavailable,
        OutcomeUnknown. Cost: one request; with a key one read and one write of warm.
        """
        message = "test_" + (name or self._rng.randbytes(12).hex())
        if name is not None and begun.replayed:
            record = await self._warm.get_record(hook.tenant, TEST_KIND, message)
            if record is not None:
                return _form.read(record.data)
        body = test_body(hook.tenant, message, hook.id, begun.at)
        outcome = await self._shared.sending.send(hook, message, body)
        if name is not None:
            until = instants.plus(self._warm.now(), REMEMBERED_SECONDS)
            await self._warm.put_record(hook.tenant, TEST_KIND, message, _form.encode(outcome), rev=0, expires_at=until)
        return outcome


def _needs_somebody(hooks: Sequence[Hook]) -> bool:
    """Whether somebody has to be in charge of a tenant with these hooks."""
    return any(hook.status != "disabled" for hook in hooks)
