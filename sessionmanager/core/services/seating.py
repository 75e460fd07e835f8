"""Filling the seats of sessions: what the worker does when `services` is due, and who is told what.

    1 the registry is read, the next step is decided and committed: it claims the step, and names the request
    2 the instance is asked over the network, in a task of its own, so that no slow one keeps the worker waiting
    3 its answer is committed, if the seat still waits for it

Nothing but the head remembers. After a kill between 1 and 3 the seat is due again within `TELL_SECONDS`, and whoever
comes then asks again: the same participant, so that one that was told twice has joined once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import Final

import structlog

from sessionmanager.core.command import Command, Decided, Who, Written
from sessionmanager.core.ledger import Ledger
from sessionmanager.core.services.asking import Asking, Invitation
from sessionmanager.core.services.registry import ServiceRegistry
from sessionmanager.errors import NotFound, SessionManagerError
from sessionmanager.model import service_steps, services
from sessionmanager.model.head import Head, Participant, Seat
from sessionmanager.model.participants import Join, draft, find
from sessionmanager.model.service_steps import Answer
from sessionmanager.words import Instant, Key

SYSTEM: Final = Who("system:services")
TELLING_MAX: Final = 512
TELLING_PER_TENANT_MAX: Final = 64
"""Instances that are being told; beyond it a seat waits until it is due again. No tenant's slow services take all."""

log = structlog.get_logger()


class Seating:
    """One a process; `close` before the ledger drains. client_seconds: how long a session waits for a client. prepare:
    awaited before an instance is told, so that there is a room for it to come into; must not raise."""

    def __init__(
        self,
        ledger: Ledger,
        registry: ServiceRegistry,
        asking: Asking,
        *,
        client_seconds: float,
        new_pid: Callable[[], str],
        prepare: Callable[[Key, Head], Awaitable[object]],
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._asking = asking
        self._client_seconds = client_seconds
        self._new_pid = new_pid
        self._prepare = prepare
        self._telling: set[asyncio.Task[None]] = set()
        self._of_tenant = Counter[str]()
        self._closed = False

    @property
    def telling(self) -> int:
        """Instances that are being told now."""
        return len(self._telling)

    async def run(self, key: Key) -> None:
        """Do what is due for a session's services. Safe to repeat, anywhere.

        Cost: one warm read, one of the registry where somebody must be asked, one commit, and one for each answer.
        """
        seats = (await self._ledger.exact(key)).stored.head.detail.services
        candidates = None
        if any(seat.status == "disconnected" for seat in seats):
            candidates = await self._registry.candidates(key.tenant, [seat.type for seat in seats])

        def choose(seat: Seat) -> str | None:
            return services.choose(key, seat, candidates or ())

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(
                service_steps.step(
                    head,
                    now,
                    client_seconds=self._client_seconds,
                    choose=choose if candidates is not None else None,
                    new_pid=self._new_pid,
                )
            )

        written = await self._ledger.commit(key, SYSTEM, Command("services", decided), None)
        # Crash here: the seats are asked for and nobody is told; they are due again soon.
        if not written.committed or written.stored is None:
            return
        after = written.stored.head
        for seat in after.detail.services:
            if seat.status == "registered" and seat.asked_version == written.version:
                self._tell(key, seat, after)

    async def lose(self, key: Key, service: str, asked_before: Instant, reason: str) -> None:
        """An instance is gone: whoever counts on it asks another."""

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(service_steps.lost(head, service, asked_before, reason, now))

        await self._ledger.commit(key, SYSTEM, Command("services", decided), None)

    async def expect(self, key: Key, who: Who, wanted: Join) -> tuple[Written, Participant]:
        """Let somebody in who has yet to come: `joining` until its first heartbeat. Whoever is there stays as it is.

        Raises as a join does. Cost: as a join.
        """
        pid = wanted.id

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            nonlocal pid
            for one in head.detail.participants:
                if one.identity == wanted.identity and one.kind == wanted.kind and one.status != "left":
                    pid = one.id
                    return Decided((), participant=pid)
            person = service_steps.expected(head, wanted, now)
            pid = person.id
            return Decided((draft("expected", person),), participant=person.id)

        written = await self._ledger.commit(key, who, Command("participant.join", decided), None)
        assert written.stored is not None, "a commit without a key is no replay"
        return written, find(written.stored.head, pid)

    async def close(self) -> None:
        """Tell nobody more. Whoever was not told by now is told by the next process."""
        self._closed = True
        tasks = tuple(self._telling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- inside

    def _tell(self, key: Key, seat: Seat, head: Head) -> None:
        person = services.person_of(head, seat)
        full = len(self._telling) >= TELLING_MAX or self._of_tenant[key.tenant] >= TELLING_PER_TENANT_MAX
        if self._closed or full or person is None or seat.service is None:
            return
        name = services.effect_name(key, seat)
        has_room = head.detail.room is not None
        invitation = Invitation(
            key, seat.type, seat.asked_version, seat.service, person.id, person.epoch, name, has_room
        )
        # A context of its own: the deadline of whoever woke the worker is not the call's.
        task = asyncio.get_running_loop().create_task(self._told(invitation, head), context=Context())
        self._telling.add(task)
        self._of_tenant[key.tenant] += 1

        def done(task: asyncio.Task[None]) -> None:
            self._telling.discard(task)
            self._of_tenant[key.tenant] -= 1
            if not self._of_tenant[key.tenant]:
                del self._of_tenant[key.tenant]

        task.add_done_callback(done)

    async def _told(self, invitation: Invitation, head: Head) -> None:
        try:
            await self._prepare(invitation.key, head)
            await self.tell(invitation)
        except SessionManagerError as error:
            log.warning("services.not_told", error=type(error).__name__)
        except Exception as error:
            log.error("services.failed", error=type(error).__name__)

    async def tell(self, invitation: Invitation) -> None:
        """Ask an instance to join, and write down what it said."""
        try:
            service = await self._registry.get(invitation.key.tenant, invitation.service)
        except NotFound:
            answer = Answer("refused", "not-registered")
        else:
            answer = await self._asking.join(service, invitation)
        # Crash here: the instance knows, the session does not; it is told again under the same participant.

        def decided(head: Head, known: Mapping[str, int], now: Instant) -> Decided:
            return Decided(service_steps.answered(head, invitation.type, invitation.version, answer, now))

        await self._ledger.commit(invitation.key, SYSTEM, Command("services", decided), None)
