"""API keys: never above their maker, hashed at rest, void at once, and no way to wear warm out with invented ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from sessionmanager.core.tokens import api_keys
from sessionmanager.core.tokens.api_keys import FRESH_SECONDS, KIND, OF_TENANT, ApiKeys, Made
from sessionmanager.errors import Forbidden, Invalid, NotFound, QuotaExceeded, TierUnavailable, Unauthenticated
from sessionmanager.model.roles import ALL_TENANTS, Actor
from sessionmanager.tiers.warm.sqlite import open_sqlite
from tests.support.faulty import Faulty
from tests.support.scenes import Clock

pytestmark = pytest.mark.contract

ADMIN: Final = Actor("acme", "anna", frozenset(("admin",)))


class Desk:
    """Keys over a warm tier; `other` is a second replica."""

    def __init__(self, warm: Any) -> None:
        self.clock = Clock()
        self.warm = Faulty(warm)
        self.revoked: set[str] = set()
        self.keys, self.other = self.replica(), self.replica()

    def replica(self) -> ApiKeys:
        return ApiKeys(
            self.warm,  # pyright: ignore[reportArgumentType]
            b"k" * 32,
            random_bytes=random.SystemRandom().randbytes,
            revoked=lambda actor: actor.subject in self.revoked,
            wall=self.clock,
            clock=self.clock,
        )

    async def make(self, *roles: str, actor: Actor = ADMIN, ttl_seconds: float | None = None) -> Made:
        return await self.keys.make(
            actor, name="bot", subject="bot", roles=roles or ("agent",), ttl_seconds=ttl_seconds
        )


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock = Clock()
    async with open_sqlite(f"sqlite:///{tmp_path}/warm.db", commit_in="loop", clock=clock) as warm:
        made = Desk(warm)
        made.clock = clock
        made.keys, made.other = made.replica(), made.replica()
        yield made


async def test_a_key_speaks_for_its_subject_with_its_roles_in_its_makers_tenant(desk: Desk) -> None:
    made = await desk.make("agent", "service")
    actor = await desk.other.verify(made.text)
    assert (actor.tenant, actor.subject, actor.roles) == ("acme", "bot", frozenset(("agent", "service")))
    assert (actor.sid, actor.pid, actor.jti) == (None, None, made.key.id)
    assert desk.other.recall(made.text) is not None


async def test_nothing_of_a_key_but_a_hash_is_kept_or_shown(desk: Desk) -> None:
    made = await desk.make()
    secret = made.text[-64:]
    for tenant, kind in ((ALL_TENANTS, KIND), ("acme", OF_TENANT)):
        record = await desk.warm.get_record(tenant, kind, made.key.id)
        assert secret.encode() not in record.data
        assert made.text.encode() not in record.data
    assert secret not in repr(made)


async def test_a_key_is_never_above_its_maker(desk: Desk) -> None:
    operator = Actor("acme", "otto", frozenset(("operator",)))
    await desk.make("service", actor=operator)
    for role in ("admin", "agent", "bridge"):
        with pytest.raises(Forbidden):
            await desk.make(role, actor=operator)
    with pytest.raises(Forbidden):
        await desk.make("viewer", actor=Actor("acme", "vera", frozenset(("viewer",))))
    for bad in (("participant",), ("teleporter",), ("agent", "participant")):
        with pytest.raises(Invalid):
            await desk.make(*bad)
    with pytest.raises(Forbidden):
        await desk.make(actor=Actor(ALL_TENANTS, "root", frozenset(("admin",))))


async def test_a_revoked_key_is_void_at_once_here_and_elsewhere_within_the_promise(desk: Desk) -> None:
    made, kept = await desk.make(), await desk.make()
    for keys in (desk.keys, desk.other):
        await keys.verify(made.text)
    await desk.keys.revoke("acme", made.key.id)
    assert desk.keys.recall(made.text) is None
    with pytest.raises(Unauthenticated):
        await desk.keys.verify(made.text)
    desk.clock.seconds += FRESH_SECONDS
    assert desk.other.recall(made.text) is None
    with pytest.raises(Unauthenticated):
        await desk.other.verify(made.text)
    await desk.keys.verify(kept.text)
    assert [key.id for key in await desk.keys.list("acme")] == [kept.key.id]


async def test_a_revocation_that_was_cut_off_can_be_made_again(desk: Desk) -> None:
    made = await desk.make()
    desk.warm.fail_after("put_record", TierUnavailable("warm"))
    with pytest.raises(TierUnavailable):
        await desk.keys.revoke("acme", made.key.id)
    with pytest.raises(Unauthenticated):
        await desk.other.verify(made.text)
    await desk.keys.revoke("acme", made.key.id)
    with pytest.raises(NotFound):
        await desk.keys.revoke("acme", made.key.id)


async def test_a_key_whose_making_was_cut_off_is_good_for_nothing_and_can_be_revoked(desk: Desk) -> None:
    desk.warm.fail_after("put_record", TierUnavailable("warm"))
    with pytest.raises(TierUnavailable):
        await desk.make()
    (left,) = await desk.keys.list("acme")
    await desk.keys.revoke("acme", left.id)
    assert await desk.keys.list("acme") == []


async def test_another_tenants_key_cannot_be_revoked_or_seen(desk: Desk) -> None:
    made = await desk.make()
    with pytest.raises(NotFound):
        await desk.keys.revoke("umbrella", made.key.id)
    assert await desk.keys.list("umbrella") == []
    await desk.keys.verify(made.text)


async def test_a_key_with_an_end_is_void_then(desk: Desk) -> None:
    made = await desk.make(ttl_seconds=10)
    actor = await desk.keys.verify(made.text)
    assert actor.expires_at == desk.clock.seconds + 10
    desk.clock.seconds += 10
    assert desk.keys.recall(made.text) is None
    with pytest.raises(Unauthenticated):
        await desk.keys.verify(made.text)


async def test_a_subject_whose_tokens_are_revoked_has_no_keys_either(desk: Desk) -> None:
    made = await desk.make()
    await desk.keys.verify(made.text)
    desk.revoked.add("bot")
    assert desk.keys.recall(made.text) is None
    with pytest.raises(Unauthenticated):
        await desk.keys.verify(made.text)


async def test_an_invented_key_is_refused_without_a_look_into_warm(desk: Desk) -> None:
    made = await desk.make()
    text = made.text
    looks = len(desk.warm.begun)
    other_id, other_tag = text[:4] + "f" * 16 + text[20:], text[:20] + "0" * 16 + text[36:]
    shapes = (
        "",
        "x",
        "smk_",
        text[:-1],
        text + "0",
        text.upper(),
        "smk_" + "0" * 96,
        f" {text}",
        f"{text}\n",
        "\udc80",
    )
    for bad in (*shapes, text.replace("smk_", "smx_"), other_id, other_tag):
        with pytest.raises(Unauthenticated):
            await desk.keys.verify(bad)
    assert len(desk.warm.begun) == looks
    with pytest.raises(Unauthenticated):
        await desk.keys.verify(text[:-1] + ("0" if text[-1] != "0" else "1"))


async def test_a_known_key_costs_one_look_in_half_a_minute(desk: Desk) -> None:
    made = await desk.make()
    looks = len(desk.warm.begun)
    for _ in range(100):
        assert desk.other.recall(made.text) or await desk.other.verify(made.text)
    assert len(desk.warm.begun) == looks + 1


async def test_while_warm_is_down_a_known_key_goes_on_and_an_unknown_one_is_told_to_wait(desk: Desk) -> None:
    made = await desk.make()
    await desk.keys.verify(made.text)
    desk.clock.seconds += 10 * FRESH_SECONDS
    desk.warm.fail_before("get_record", TierUnavailable("warm"), times=2)
    assert (await desk.keys.verify(made.text)).subject == "bot"
    with pytest.raises(TierUnavailable):
        await desk.other.verify(made.text)


async def test_the_number_of_keys_and_of_those_in_memory_is_bounded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "KEYS_PER_TENANT_MAX", 3)
    monkeypatch.setattr(api_keys, "KNOWN_MAX", 2)
    made = [await desk.make() for _ in range(3)]
    with pytest.raises(QuotaExceeded):
        await desk.make()
    for one in made:
        await desk.keys.verify(one.text)
    assert desk.keys.recall(made[0].text) is None
    assert desk.keys.recall(made[2].text) is not None
