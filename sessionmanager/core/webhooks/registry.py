"""The hooks of all tenants: records in warm, changed by compare-and-set alone, shared by all replicas."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

import structlog
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from sessionmanager.core.command import RequestKey
from sessionmanager.core.keys.sealing import bind
from sessionmanager.core.records import every_record
from sessionmanager.core.tenancy.requests import Begun
from sessionmanager.core.webhooks.hook import FORM, KIND, Hook, HookSecret, Replay, Why, name_of
from sessionmanager.core.webhooks.messages import Secrets
from sessionmanager.core.webhooks.shared import HOOKS_PER_TENANT_MAX, TRIES, Lost, put
from sessionmanager.errors import (
    Contended,
    DataCorrupt,
    NotFound,
    OutcomeUnknown,
    QuotaExceeded,
    RateLimited,
    TierUnavailable,
)
from sessionmanager.model import instants
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Instant

SECRETS_MAX: Final = 5
"""Secrets that a hook signs with at once; of more rotations within their grace the oldest ends early."""
REPLAYS_MAX: Final = 16
REMEMBERED_SECONDS: Final = 2 * 86_400.0
"""What is left of a deleted hook, for repeats of the request that deleted it."""


class Asked(NamedTuple):
    """A request that changes a hook. name: stands for this very request, the same on each repeat; None: it has no key.

    at: when it first came. replayed: it came before.
    """

    name: str | None
    at: Instant
    replayed: bool

    @classmethod
    def of(cls, request: RequestKey | None, begun: Begun) -> Asked:
        if request is None:
            return cls(None, begun.at, begun.replayed)
        # A key may be used anew once it is forgotten, so the moment belongs to the name.
        text = bind(request.scope, begun.at)
        return cls(hashlib.blake2b(text, digest_size=12).hexdigest(), begun.at, begun.replayed)


class WantedHook(NamedTuple):
    """What a hook is to be like; UNSET leaves it as it is."""

    url: str | UnsetType = UNSET
    types: tuple[str, ...] | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class WithSecret(NamedTuple):
    """A hook, and its newest secret where it was made by the request that asks. The text is kept nowhere."""

    hook: Hook
    secret: str | None

    def __repr__(self) -> str:
        return f"WithSecret({self.hook!r}, ***)"


Change = Callable[[Hook, Instant], Hook | None]
log = structlog.get_logger()


class HookRegistry:
    """Every write is a compare-and-set on the hook's record; a change that came before is not made again."""

    def __init__(self, warm: Warm, secrets: Secrets, random_bytes: Callable[[int], bytes]) -> None:
        self._warm = warm
        self._secrets = secrets
        self._random_bytes = random_bytes

    # -- what callers do

    async def create(self, tenant: str, wanted: WantedHook, who: str, asked: Asked) -> WithSecret:
        """A new hook; what is committed from now on is owed to it. The address was checked before.

        Raises QuotaExceeded, Contended, TierUnavailable, OutcomeUnknown; NotFound: a repeat, and it was deleted since.
        Cost: one write of warm, and four reads.
        """
        name = asked.name or self._random_bytes(12).hex()
        hook_id = f"wh_{name}"
        if asked.replayed and await self._find(tenant, hook_id) is not None:
            return self._shown(await self.get(tenant, hook_id), name)
        if len(await self.list(tenant)) >= HOOKS_PER_TENANT_MAX:
            raise QuotaExceeded("webhooks", HOOKS_PER_TENANT_MAX)
        assert wanted.url is not UNSET, "a hook has an address"
        master = await self._secrets.master(self._warm)
        now = self._warm.now()
        enabled = wanted.enabled is UNSET or wanted.enabled
        hook = Hook(
            tenant=tenant,
            id=hook_id,
            url=wanted.url,
            status="enabled" if enabled else "disabled",
            reason=None if enabled else "asked",
            disabled_at=None if enabled else now,
            created_at=now,
            created_by=who,
            changed_at=asked.at,
            from_at=now,
            enabled_at=now,
            secrets=(self._secrets.make(master, tenant, hook_id, f"sec_{name}", now),),
            types=() if wanted.types is UNSET else wanted.types,
            description=None if wanted.description is UNSET else wanted.description,
        )
        if await self._put(hook, 0):
            await self._settle(hook)
            return self._shown(hook, name)
        return self._shown(await self.get(tenant, hook_id), name)  # the same request on another replica

    async def get(self, tenant: str, hook_id: str) -> Hook:
        """One hook. Raises NotFound. Cost: one read of warm."""
        found = await self._find(tenant, hook_id)
        if found is None or found[0].status == "deleted":
            raise NotFound("no such webhook")
        return found[0]

    async def list(self, tenant: str) -> list[Hook]:
        """All of a tenant's, by id. Cost: one read of warm for each 200."""
        return [hook async for hook in self._all(f"{name_of(tenant, '')}") if hook.status != "deleted"]

    async def change(self, tenant: str, hook_id: str, wanted: WantedHook, asked: Asked) -> Hook:
        """Change what is named. Raises NotFound, Contended, TierUnavailable, OutcomeUnknown."""

        def changed(hook: Hook, now: Instant) -> Hook | None:
            if asked.replayed and hook.changed_at >= asked.at:
                return None
            hook = replace(
                hook,
                changed_at=max(asked.at, hook.changed_at),
                url=hook.url if wanted.url is UNSET else wanted.url,
                types=hook.types if wanted.types is UNSET else wanted.types,
                description=hook.description if wanted.description is UNSET else wanted.description,
            )
            if wanted.enabled is UNSET:
                return hook
            return _enabled(hook, now) if wanted.enabled else _disabled(hook, "asked", now)

        return await self._change(tenant, hook_id, changed)

    async def enable(self, tenant: str, hook_id: str, asked: Asked, *, skip: bool) -> Hook:
        """Deliver again, from where it stood, or with `skip` from now on. Raises as `change`."""

        def enabled(hook: Hook, now: Instant) -> Hook | None:
            if asked.replayed and hook.changed_at >= asked.at:
                return None
            hook = _enabled(replace(hook, changed_at=max(asked.at, hook.changed_at)), now)
            return replace(hook, epoch=hook.epoch + 1, from_at=now) if skip else hook

        return await self._change(tenant, hook_id, enabled)

    async def rotate(self, tenant: str, hook_id: str, asked: Asked, *, grace_seconds: float) -> WithSecret:
        """A new secret; those before it are good for `grace_seconds` more, and sign beside it. Raises as `change`."""
        name = asked.name or self._random_bytes(12).hex()
        secret_id = f"sec_{name}"
        master = await self._secrets.master(self._warm)

        def rotated(hook: Hook, now: Instant) -> Hook | None:
            if any(each.id == secret_id for each in hook.secrets):
                return None
            if asked.replayed and any(each.made_at >= asked.at for each in hook.secrets):
                return None  # rotated since, and the one of this request is over
            until = instants.plus(now, grace_seconds)
            older = (_ending(each, until) for each in hook.secrets if each.until is None or each.until > now)
            kept = [each for each in older if each.until is None or each.until > now]
            new = self._secrets.make(master, tenant, hook_id, secret_id, now)
            return replace(hook, secrets=(new, *kept[: SECRETS_MAX - 1]))

        hook = await self._change(tenant, hook_id, rotated)
        await self._settle(hook)
        return self._shown(hook, name)

    async def replay(self, tenant: str, hook_id: str, wish: Replay) -> Hook:
        """Ask for dead letters. A wish that stands is not doubled. Raises as `change`; RateLimited: too many wait."""

        def asked_for(hook: Hook, now: Instant) -> Hook | None:
            if wish.id in hook.fulfilled or any(each.id == wish.id for each in hook.replays):
                return None
            if len(hook.replays) >= REPLAYS_MAX:
                raise RateLimited("too many replays of this webhook wait")
            return replace(hook, replays=(*hook.replays, wish))

        return await self._change(tenant, hook_id, asked_for)

    async def remove(self, tenant: str, hook_id: str) -> None:
        """No delivery begins from now on, within a second on other replicas. Raises NotFound: it is not there.

        What is known of its deliveries is cleared up by whoever is in charge of the tenant.
        """

        def removed(hook: Hook, now: Instant) -> Hook | None:
            return replace(hook, status="deleted", disabled_at=now, replays=(), secrets=(), url="", description=None)

        await self._change(tenant, hook_id, removed)

    async def was_there(self, tenant: str, hook_id: str) -> bool:
        """Whether there is such a hook, or was until lately."""
        return await self._find(tenant, hook_id) is not None

    # -- what deliveries do

    async def everything(self) -> list[Hook]:
        """All hooks of all tenants, deleted ones that are not cleared up among them. Cost: a read for each 200."""
        return [hook async for hook in self._all("") if not hook.cleaned]

    async def disable(self, hook: Hook, why: Why) -> Hook:
        """Take a hook out of service, unless its people have enabled or changed it meanwhile."""

        def disabled(newest: Hook, now: Instant) -> Hook | None:
            if newest.status != "enabled" or newest.enabled_at != hook.enabled_at or newest.url != hook.url:
                return None
            return _disabled(newest, why, now)

        return await self._change(hook.tenant, hook.id, disabled)

    async def replayed(self, hook: Hook, wish: Replay) -> Hook:
        """The wish is fulfilled."""

        def done(newest: Hook, now: Instant) -> Hook | None:
            rest = tuple(each for each in newest.replays if each.id != wish.id)
            if len(rest) == len(newest.replays):
                return None
            return replace(newest, replays=rest, fulfilled=(wish.id, *newest.fulfilled)[:REPLAYS_MAX])

        return await self._change(hook.tenant, hook.id, done)

    async def cleaned(self, hook: Hook) -> None:
        """Nothing of a deleted hook is left but its record, which goes in a while."""
        found = await self._find(hook.tenant, hook.id)
        if found is not None and found[0].status == "deleted":
            await self._put(replace(found[0], cleaned=True), found[1])

    # -- inside

    async def _settle(self, hook: Hook) -> None:
        # Crash here: a secret that nobody was shown; `rewrap` wraps it anew like any other.
        try:
            await self._secrets.settle(self._warm, hook)
        except (Contended, TierUnavailable):
            raise OutcomeUnknown from None  # the hook stands

    def _shown(self, hook: Hook, name: str) -> WithSecret:
        newest: HookSecret | None = next((each for each in hook.secrets if each.id == f"sec_{name}"), None)
        return WithSecret(hook, None if newest is None else self._secrets.shown(hook, newest))

    async def _change(self, tenant: str, hook_id: str, change: Change) -> Hook:
        for _ in range(TRIES):
            found = await self._find(tenant, hook_id)
            if found is None or found[0].status == "deleted":
                raise NotFound("no such webhook")
            after = change(found[0], self._warm.now())
            if after is None:
                return found[0]
            if await self._put(after, found[1]):
                return after
        raise Contended

    async def _find(self, tenant: str, hook_id: str) -> tuple[Hook, int] | None:
        record = await self._warm.get_record(ALL_TENANTS, KIND, name_of(tenant, hook_id))
        return None if record is None else (FORM.read(record.data), record.rev)

    async def _put(self, hook: Hook, rev: int) -> bool:
        until = instants.plus(self._warm.now(), REMEMBERED_SECONDS) if hook.cleaned else None
        try:
            await put(self._warm, ALL_TENANTS, KIND, hook.name, FORM.encode(hook), rev=rev, expires_at=until)
        except Lost:
            return False
        return True

    async def _all(self, prefix: str) -> AsyncIterator[Hook]:
        async for record in every_record(self._warm, ALL_TENANTS, KIND, prefix=prefix):
            try:
                hook = FORM.read(record.data)
            except DataCorrupt:
                # One broken record must not take all other hooks from this replica.
                log.error("webhook.unreadable", kind=KIND)
                continue
            yield hook


def _enabled(hook: Hook, now: Instant) -> Hook:
    if hook.status == "enabled":
        return hook
    return replace(hook, status="enabled", reason=None, disabled_at=None, enabled_at=now)


def _disabled(hook: Hook, why: Why, now: Instant) -> Hook:
    if hook.status != "enabled":
        return hook
    return replace(hook, status="disabled", reason=why, disabled_at=now)


def _ending(secret: HookSecret, until: Instant) -> HookSecret:
    return replace(secret, until=until if secret.until is None else min(secret.until, until))
