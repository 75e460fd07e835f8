"""Taking tokens back, through warm records that can fail and replicas that learn of it later."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jwt
import pytest
from structlog.testing import capture_logs

from sessionmanager.core.tokens import revocations
from sessionmanager.core.tokens.minting import TokenMinter
from sessionmanager.core.tokens.revocations import REVOKED_JTI, REVOKED_SUBJECT, Revocations
from sessionmanager.errors import Contended, Forbidden, Invalid, NotFound, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model.instants import from_ms
from sessionmanager.model.roles import Actor
from sessionmanager.tiers.warm.protocol import Record
from tests.support.forge import NOW, SECRET
from tests.support.identity import ADMIN, House, actor
from tests.support.records import DictRecords

pytestmark = pytest.mark.unit

DAY = 86_400


@pytest.fixture
def house() -> House:
    return House()


def bearer_of(jti: str | None = "j1", subject: str = "alice", tenant: str = "acme", issued_at: float = NOW) -> Actor:
    return Actor(tenant, subject, frozenset({"agent"}), jti=jti, issued_at=issued_at)


def claims_of(text: str) -> dict[str, Any]:
    return jwt.decode(text, options={"verify_signature": False})


async def test_a_revocation_holds_at_once_here_and_elsewhere_after_a_refresh(house: House) -> None:
    there = house.replica()
    await there.refresh()
    await house.minter.revoke(ADMIN, jti="j1")
    assert house.revocations.revoked(bearer_of())
    assert not there.revoked(bearer_of())
    await there.refresh()
    assert there.revoked(bearer_of())
    assert not there.revoked(bearer_of(jti="j2"))
    assert not there.revoked(bearer_of(jti=None))


async def test_a_revocation_outlives_a_restart(house: House) -> None:
    await house.minter.revoke(ADMIN, jti="j1")
    await house.minter.revoke(ADMIN, subject="bob")
    fresh = house.replica()
    await fresh.refresh()
    assert fresh.revoked(bearer_of())
    assert fresh.revoked(bearer_of(jti=None, subject="bob"))
    assert len(fresh) == 2


async def test_a_subjects_revocation_voids_what_was_issued_until_then_and_nothing_after(house: House) -> None:
    await house.minter.revoke(ADMIN, subject="alice")
    for replica in (house.revocations, house.replica()):
        await replica.refresh()
        assert replica.revoked(bearer_of(issued_at=NOW - 1))
        assert replica.revoked(bearer_of(issued_at=NOW))
        assert not replica.revoked(bearer_of(issued_at=NOW + 0.001))
        assert not replica.revoked(bearer_of(subject="bob"))
        assert not replica.revoked(bearer_of(tenant="other"))


async def test_a_token_minted_just_after_its_subject_was_revoked_is_good(house: House) -> None:
    house.clock.now = NOW + 0.123456
    await house.minter.revoke(ADMIN, subject="alice")
    house.clock.now += 0.002
    made = house.minter.mint(ADMIN, subject="alice", roles=["agent"], tenant="acme")
    assert not house.revocations.revoked(bearer_of(issued_at=claims_of(made.token)["iat"]))


async def test_a_later_revocation_of_a_subject_never_gives_back_what_an_earlier_one_took(house: House) -> None:
    house.clock.now = NOW + 100
    await house.minter.revoke(ADMIN, subject="alice")
    house.clock.now = NOW + 50  # a replica whose clock is behind
    await house.minter.revoke(ADMIN, subject="alice")
    assert house.revocations.revoked(bearer_of(issued_at=NOW + 99))


async def test_a_tenants_revocation_leaves_the_same_name_elsewhere_alone(house: House) -> None:
    await house.minter.revoke(ADMIN, jti="j1")
    assert not house.revocations.revoked(bearer_of(tenant="other"))
    await house.minter.revoke(actor("admin", tenant="*"), jti="j1", tenant="other")
    fresh = house.replica()
    await fresh.refresh()
    for replica in (house.revocations, fresh):
        assert replica.revoked(bearer_of())
        assert replica.revoked(bearer_of(tenant="other"))


async def test_revoking_twice_is_the_same_as_once(house: House) -> None:
    for _ in range(3):
        await house.minter.revoke(ADMIN, jti="j1")
    assert len([where for where in house.records.kept if where[1] == REVOKED_JTI]) == 1


async def test_revoking_at_once_from_many_replicas_lands(house: House) -> None:
    replicas = [TokenMinter(SECRET, house.replica(), clock=house.clock) for _ in range(5)]
    await asyncio.gather(*(each.revoke(ADMIN, jti="j1") for each in replicas))
    assert len(house.records.kept) == 1


@pytest.mark.parametrize(
    ("maker", "asked", "error"),
    [
        (actor("agent"), {"jti": "j1"}, Forbidden),
        (actor("admin", sid="call-1"), {"jti": "j1"}, Forbidden),
        (actor("operator"), {"subject": "root-2"}, Forbidden),
        (ADMIN, {"jti": "j1", "tenant": "other"}, NotFound),
        (ADMIN, {}, Invalid),
        (ADMIN, {"jti": "j1", "subject": "a"}, Invalid),
        (ADMIN, {"jti": ""}, Invalid),
        (ADMIN, {"subject": "a\x00"}, Invalid),
        (actor("admin", tenant="*"), {"jti": "j1", "tenant": "a/b"}, Invalid),
    ],
    ids=str,
)
async def test_what_may_not_be_revoked_is_not(
    house: House, maker: Actor, asked: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await house.minter.revoke(maker, **asked)
    assert house.records.kept == {}


async def test_an_operator_revokes_a_token_and_all_of_their_own(house: House) -> None:
    await house.minter.revoke(actor("operator"), jti="j1")
    await house.minter.revoke(actor("operator", subject="olga"), subject="olga")
    assert len(house.revocations) == 2


@pytest.mark.parametrize("kind", ["before", "after"])
async def test_a_revocation_that_may_not_stand_is_not_reported_as_done(house: House, kind: str) -> None:
    house.records.failures = [(kind, OutcomeUnknown())]
    with pytest.raises(OutcomeUnknown):
        await house.minter.revoke(ADMIN, jti="j1")
    await house.minter.revoke(ADMIN, jti="j1")
    fresh = house.replica()
    await fresh.refresh()
    assert fresh.revoked(bearer_of())


async def test_a_lost_race_is_tried_again_but_not_for_ever(house: House) -> None:
    house.records.failures = [("before", RevConflict())] * 3
    await house.minter.revoke(ADMIN, jti="j1")
    house.records.failures = [("before", RevConflict())] * 20
    with pytest.raises(Contended):
        await house.minter.revoke(ADMIN, jti="j2")
    house.records.failures = []
    assert not house.revocations.revoked(bearer_of(jti="j2"))


async def test_what_is_revoked_while_a_refresh_runs_is_not_forgotten_by_it(house: House) -> None:
    for i in range(450):
        await house.revocations.add(REVOKED_JTI, "acme", f"old-{i}")
    refreshing = asyncio.create_task(house.revocations.refresh())
    added = 0
    while not refreshing.done():
        await house.minter.revoke(ADMIN, jti=f"new-{added}")
        await house.minter.revoke(ADMIN, subject=f"new-{added}")
        added += 1
    await refreshing
    assert added > 1
    for i in range(added):
        assert house.revocations.revoked(bearer_of(jti=f"new-{i}"))
        assert house.revocations.revoked(bearer_of(jti=None, subject=f"new-{i}"))
    assert house.revocations.revoked(bearer_of(jti="old-449"))


async def test_revocations_are_kept_as_long_as_a_token_may_live_and_then_go(house: House) -> None:
    await house.minter.revoke(ADMIN, jti="j1")
    ((_, expires_at),) = house.records.kept.values()
    assert expires_at == from_ms(int((NOW + 366 * DAY) * 1000))
    house.clock.now = NOW + 365 * DAY
    await house.revocations.refresh()
    assert house.revocations.revoked(bearer_of())
    house.clock.now = NOW + 367 * DAY
    await house.revocations.refresh()
    assert (house.revocations.revoked(bearer_of()), len(house.revocations)) == (False, 0)


async def test_a_tenant_may_keep_only_so_many_and_another_is_not_hindered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "REVOCATIONS_PER_TENANT_MAX", 2)
    for jti in ("j1", "j2", "j2"):
        await house.minter.revoke(ADMIN, jti=jti)
    with pytest.raises(Invalid, match="too many"):
        await house.minter.revoke(ADMIN, jti="j3")
    await house.minter.revoke(ADMIN, subject="alice")
    await house.minter.revoke(actor("admin", tenant="other"), jti="j3")


async def test_while_warm_is_down_the_last_view_goes_on(house: House) -> None:
    await house.minter.revoke(ADMIN, jti="j1")
    house.records.failures = [("read", TierUnavailable("warm"))]
    with pytest.raises(TierUnavailable):
        await house.revocations.refresh()
    assert house.revocations.revoked(bearer_of())


async def test_a_record_that_does_not_read_is_told_and_the_others_hold(house: House) -> None:
    await house.minter.revoke(ADMIN, jti="j1")
    await house.records.put_record("*", REVOKED_SUBJECT, "x", b"{", rev=0)
    fresh = house.replica()
    with capture_logs() as told:
        await fresh.refresh()
    assert fresh.revoked(bearer_of())
    assert [line["event"] for line in told] == ["tokens.unreadable"]


class StopsAfterAWholeRead(DictRecords):
    def __init__(self, stop: asyncio.Event) -> None:
        super().__init__()
        self.stop = stop

    async def list_records(
        self, tenant: str, kind: str, *, after: str = "", prefix: str = "", limit: int = 200
    ) -> list[Record]:
        page = await super().list_records(tenant, kind, after=after, prefix=prefix, limit=limit)
        if kind == REVOKED_SUBJECT:
            self.stop.set()
        return page


async def with_one_revoked(records: StopsAfterAWholeRead, house: House) -> StopsAfterAWholeRead:
    """The same, with a revocation in it that no view has read yet."""
    await TokenMinter(None, Revocations(records, clock=house.clock)).revoke(ADMIN, jti="j1")  # type: ignore[arg-type]
    return records


async def test_the_loop_refreshes_again_after_a_failure_and_ends_when_told(house: House) -> None:
    stop = asyncio.Event()
    records = await with_one_revoked(StopsAfterAWholeRead(stop), house)
    records.failures = [("read", TierUnavailable("warm")), ("read", TierUnavailable("warm"))]
    there = Revocations(records, clock=house.clock, refresh_seconds=0.001)  # type: ignore[arg-type]
    await asyncio.wait_for(there.run(stop), 5)
    assert (records.failures, there.revoked(bearer_of())) == ([], True)


async def test_a_refresh_that_hangs_is_given_up_and_the_next_one_works(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "REFRESH_DEADLINE_SECONDS", 0.001)
    stop = asyncio.Event()
    records = await with_one_revoked(StopsAfterAWholeRead(stop), house)
    there = Revocations(records, clock=house.clock, refresh_seconds=0.001)  # type: ignore[arg-type]
    async with there._refreshing:
        running = asyncio.create_task(there.run(stop))
        await asyncio.wait({running}, timeout=0.01)
        assert not running.done()
    monkeypatch.setattr(revocations, "REFRESH_DEADLINE_SECONDS", 5)
    await asyncio.wait_for(running, 5)
    assert there.revoked(bearer_of())


def test_a_view_may_not_be_older_than_a_minute(house: House) -> None:
    for seconds in (0, -1, 61):
        with pytest.raises(ValueError, match="once a minute"):
            Revocations(house.records, refresh_seconds=seconds)  # type: ignore[arg-type]


async def test_records_hold_no_more_than_they_need(house: House) -> None:
    await house.minter.revoke(ADMIN, jti="j1")
    (record, _) = next(iter(house.records.kept.values()))
    assert set(json.loads(record.data)) == {"tenant", "name", "until"}
