"""One tenant's hooks, in the process that is in charge of them.

Who is in charge says a record: owner, until when, and how far each hook has come. It is claimed and renewed by
compare-and-set; a process that was paused past its time finds that out before it sends, and could send no more than
what its successor sends in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Final

import structlog
from msgspec import Struct

from sessionmanager.core.records import RecordForm
from sessionmanager.core.webhooks.hook import Hook
from sessionmanager.core.webhooks.lane import Lane
from sessionmanager.core.webhooks.outbox import Mark, Outbox
from sessionmanager.core.webhooks.places import Places
from sessionmanager.core.webhooks.post import Post, Shared
from sessionmanager.core.webhooks.registry import HookRegistry
from sessionmanager.core.webhooks.replays import Stopped, replay
from sessionmanager.core.webhooks.shared import Lost, put
from sessionmanager.errors import NotFound, SessionManagerError
from sessionmanager.model import instants
from sessionmanager.model.change import Trail
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant

KIND: Final = "webhook-desk"
SYSTEM: Final = "system:webhooks"
MARGIN_SECONDS: Final = 2.0
"""Of the lease, beside the time of a request: what is sent has its answer before the lease is over."""

log = structlog.get_logger()


class Stand(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a hook has come: a `Mark`, of this epoch; and since when nothing gets through."""

    epoch: int
    since: Instant
    reached: Instant | None = None
    failing_since: Instant | None = None


class Charge(Struct, frozen=True, kw_only=True):
    """Who delivers for a tenant, until when; and the stands of its hooks."""

    owner: str
    until: Instant
    hooks: dict[str, Stand] = {}


_form = RecordForm(Charge, "the record of who delivers webhooks")


async def stands_of(warm: Warm, tenant: str) -> Mapping[str, Stand]:
    """What is written of a tenant's hooks. Cost: one read of warm."""
    record = await warm.get_record(ALL_TENANTS, KIND, tenant)
    return {} if record is None else _form.read(record.data).hooks


class Desk:
    """`claim`, then `update` at each look at the hooks, then `close`. dead: it is in charge no more; close it."""

    def __init__(
        self, tenant: str, owner: str, warm: Warm, outbox: Outbox, registry: HookRegistry, shared: Shared
    ) -> None:
        self.tenant = tenant
        self.dead = False
        self.lanes: dict[str, Lane] = {}
        self._owner = owner
        self._warm = warm
        self._outbox = outbox
        self._registry = registry
        self._shared = shared
        self._limits = shared.limits
        self._charge = Charge(owner=owner, until="")
        self._rev = 0
        self._read_at = 0.0
        self._renewed_at = 0.0
        self._writing = asyncio.Lock()
        self._replaying: dict[str, asyncio.Task[None]] = {}

    # -- being in charge

    async def claim(self) -> bool:
        """Take charge, where nobody is or whoever was has not renewed it. Raises TierUnavailable, OutcomeUnknown.

        Cost: one read of warm, and one write.
        """
        record = await self._warm.get_record(ALL_TENANTS, KIND, self.tenant)
        now = self._warm.now()
        if record is not None:
            self._charge, self._rev = _form.read(record.data), record.rev
            if self._charge.owner != self._owner and self._charge.until > now:
                return False
        try:
            await self._write({}, instants.plus(now, self._limits.lease_seconds))
        except Lost:
            return False
        return True

    def holds(self) -> bool:
        """Whether this process may send at this moment."""
        if self.dead or self._shared.clock() - self._read_at > self._limits.news_seconds:
            return False
        margin = min(self._limits.request_seconds + MARGIN_SECONDS, self._limits.lease_seconds / 2)
        return instants.plus(self._warm.now(), margin) < self._charge.until

    async def _renew(self) -> None:
        """Write how far all have come, and stay in charge. What is owed is written before (`Lane.flush`)."""
        stands: dict[str, Stand] = {}
        for hook_id, lane in tuple(self.lanes.items()):
            stands[hook_id] = _stand(lane, await lane.flush())
        # Crash here: records say more than the stand; whoever goes on looks a little further back than it had to.
        await self._write(stands, instants.plus(self._warm.now(), self._limits.lease_seconds))
        self._renewed_at = self._shared.clock()

    async def _write(self, stands: Mapping[str, Stand | None], until: Instant) -> None:
        """Write these stands (None: forget it) beside the others."""
        async with self._writing:
            hooks = {hook: stand for hook, stand in {**self._charge.hooks, **stands}.items() if stand is not None}
            charge = Charge(owner=self._owner, until=until, hooks=hooks)
            self._rev = await put(self._warm, ALL_TENANTS, KIND, self.tenant, _form.encode(charge), rev=self._rev)
            self._charge = charge

    async def close(self) -> None:
        """Stop sending, write how far all have come, and let go. Safe to repeat."""
        await asyncio.gather(*(lane.close() for lane in self.lanes.values()))
        for task in self._replaying.values():
            task.cancel()
        if self._replaying:
            await asyncio.wait(self._replaying.values(), timeout=self._limits.drain_seconds)
        try:
            if not self.dead:
                await self._renew()
                await self._write({}, self._warm.now())
        except (SessionManagerError, Lost):
            pass  # nobody hears of it until the lease is over
        self.dead = True
        self.lanes.clear()

    # -- the hooks

    async def update(self, hooks: Sequence[Hook]) -> None:
        """The tenant's hooks as they are now: begin, change and end what has to be; stay in charge.

        Raises TierUnavailable, OutcomeUnknown: what is not done is done the next time.
        """
        self._read_at = self._shared.clock()
        try:
            results = await asyncio.gather(*map(self._attend, hooks), return_exceptions=True)
            if self._shared.clock() - self._renewed_at >= self._limits.renew_seconds:
                await self._renew()
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        except Lost:
            self.dead = True
        if any(lane.lost for lane in self.lanes.values()):
            log.warning("webhook.lost", tenant=self.tenant)
            self.dead = True

    async def _attend(self, hook: Hook) -> None:
        lane = self.lanes.get(hook.id)
        if lane is not None and lane.post.ending is not None and hook.status == "enabled":
            hook = await self._disable(lane, hook)
        if hook.status == "deleted":
            await self._end(hook.id)
            await self._clear(hook)
        elif hook.status == "disabled":
            await self._end(hook.id)
        elif lane is None or (lane.hook.epoch, lane.hook.enabled_at) != (hook.epoch, hook.enabled_at):
            await self._end(hook.id)
            await self._begin(hook)
        else:
            lane.post.hook = hook
        self._replay(hook)

    async def _begin(self, hook: Hook) -> None:
        stand = self._charge.hooks.get(hook.id)
        places = Places(self._warm, self.tenant, hook.id)
        if stand is None or stand.epoch != hook.epoch:
            await places.clear()
            # Crash here: nothing of what was owed is left, and the stand still has its old epoch: cleared once more.
            stand = Stand(epoch=hook.epoch, since=hook.from_at)
        post = Post(hook, self._shared, self._warm.now, stand.failing_since)
        mark = Mark(stand.since, stand.reached)
        lane = Lane(post, mark, self._outbox, places, self._shared, self.holds)
        await lane.open()
        self.lanes[hook.id] = lane
        lane.start()

    async def _end(self, hook_id: str) -> None:
        lane = self.lanes.get(hook_id)
        if lane is None:
            return
        task = self._replaying.pop(hook_id, None)
        if task is not None:
            task.cancel()
        await lane.close()
        await self._write({hook_id: _stand(lane, await lane.flush())}, self._charge.until)
        del self.lanes[hook_id]

    async def _disable(self, lane: Lane, hook: Hook) -> Hook:
        """What the lane has found out is written, told and noted."""
        why = lane.post.ending
        assert why is not None, "it has to end"
        after = await self._registry.disable(lane.hook, why)
        if after.status == "disabled" and after.reason == why:
            log.warning("webhook.disabled", tenant=self.tenant, hook=hook.id, reason=why)
            now = self._warm.now()
            await self._warm.note([Trail(now, self.tenant, SYSTEM, "webhook.disabled", "allowed")])
        else:
            lane.post.ending = None  # its people have changed it meanwhile: it gets another chance
        return after

    async def _clear(self, hook: Hook) -> None:
        await Places(self._warm, self.tenant, hook.id).clear()
        await self._shared.letters.clear(self.tenant, hook.id)
        await self._write({hook.id: None}, self._charge.until)
        # Crash here: nothing is left; cleared once more, then remembered.
        await self._registry.cleaned(hook)

    # -- replays

    def _replay(self, hook: Hook) -> None:
        lane, task = self.lanes.get(hook.id), self._replaying.get(hook.id)
        if task is not None and task.done():
            del self._replaying[hook.id]
            task = None
        if lane is not None and hook.replays and task is None:
            task = asyncio.get_running_loop().create_task(self._fulfil(hook, lane), context=Context())
            self._replaying[hook.id] = task

    async def _fulfil(self, hook: Hook, lane: Lane) -> None:
        for wish in hook.replays:
            try:
                await replay(wish, lane, self._shared.letters, self._outbox)
                await self._registry.replayed(hook, wish)
            except (Stopped, NotFound):
                return
            except SessionManagerError:
                return  # taken up again at the next look
            except Exception as error:
                log.error("webhook.failed", hook=hook.id, error=type(error).__name__)
                return


def _stand(lane: Lane, mark: Mark) -> Stand:
    return Stand(
        epoch=lane.hook.epoch, since=mark.since, reached=mark.reached, failing_since=lane.post.pace.failing_since
    )
