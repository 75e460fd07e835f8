"""Which master key is in use: all processes go over to another one in the same moment, and none wraps with the old."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import json

from sessionmanager.core.keys.hierarchy import RING_ID, TENANT_KEY, SessionKeys, tenant_key_anew
from sessionmanager.core.keys.master import LastingKeys, MasterKey, MasterKeys
from sessionmanager.core.keys.sealing import kek_id_of
from sessionmanager.core.keys.standing import (
    MASTER_KEY,
    STANDING_ID,
    Standing,
    Where,
    admit,
    go_over,
    let_go,
    read_standing,
    standing_of,
    wrap_anew,
    writing,
)
from sessionmanager.errors import (
    Contended,
    DataCorrupt,
    NotFound,
    OutcomeUnknown,
    RevConflict,
    TierUnavailable,
)
from sessionmanager.model.head import KeyRing
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.words import Instant, Key
from tests.support.records import DictRecords

pytestmark = pytest.mark.unit

OLD, NEW, THIRD = (bytes(range(first, first + 32)) for first in (0, 1, 2))
KEY = Key("acme", "call-1")
PLACE = (ALL_TENANTS, MASTER_KEY, STANDING_ID)


def name(key: bytes) -> str:
    return MasterKey(key).id


async def standing(records: Any) -> Standing:
    found = await read_standing(records)
    assert found is not None
    return found[0]


async def wrapped_by(records: Any, tenant: str = "acme") -> set[str]:
    """The master keys that a tenant's keys hang on."""
    masters = MasterKeys(OLD, NEW, THIRD)
    data = records.kept[tenant, TENANT_KEY, RING_ID][0].data
    return {each for each in masters.ids if tenant_key_anew(masters, tenant)(data, _of(masters, each)) is None}


def _of(masters: MasterKeys, key_id: str) -> MasterKey:
    master = masters.find(key_id)
    assert master is not None
    return master


async def anew(records: Any, *roots: bytes, tenant: str = "acme") -> None:
    masters = MasterKeys(*roots)
    where = Where(tenant, TENANT_KEY, RING_ID)
    await wrap_anew(records, masters, where, tenant_key_anew(masters, tenant))


class Meddled(DictRecords):
    """Records of which one write is preceded, or followed, by something that somebody else does."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], Awaitable[None]] | None = None
        self.after: Callable[[], Awaitable[None]] | None = None

    async def put_record(
        self, tenant: str, kind: str, record_id: str, data: bytes | None, *, rev: int, expires_at: Instant | None = None
    ) -> None:
        before, after = self.before, self.after
        self.before = self.after = None
        if before is not None:
            await before()
        await super().put_record(tenant, kind, record_id, data, rev=rev, expires_at=expires_at)
        if after is not None:
            await after()


# -- at a start


async def test_the_first_start_writes_the_first_keys_name_down_and_later_ones_only_read_it() -> None:
    records: Any = DictRecords()
    await admit(records, MasterKeys(OLD, NEW))
    assert records.kept[PLACE][0].data == name(OLD).encode()
    await admit(records, MasterKeys(OLD))
    await admit(records, MasterKeys(NEW, OLD))
    assert (records.writes, await standing(records)) == (1, Standing(current=name(OLD)))


async def test_a_start_without_a_key_that_is_needed_is_refused_and_told_which() -> None:
    records: Any = DictRecords()
    await admit(records, MasterKeys(OLD))
    with pytest.raises(ValueError, match=f"{name(OLD)}: this is another master key.* give both"):
        await admit(records, MasterKeys(NEW))
    before = await go_over(records, await admit(records, MasterKeys(NEW, OLD)))
    with pytest.raises(ValueError, match=f"{name(NEW)}: this is another"):
        await admit(records, MasterKeys(OLD))
    with pytest.raises(ValueError, match=f"{name(OLD)} is not among those given.*sessionmanager rewrap"):
        await admit(records, MasterKeys(NEW))
    assert await let_go(records, before)
    await admit(records, MasterKeys(NEW))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_first_start_whose_write_is_not_known_reads_again(when: str) -> None:
    records: Any = DictRecords()
    records.failures = [(when, OutcomeUnknown())]
    await admit(records, MasterKeys(OLD))
    assert (await standing(records)).current == name(OLD)


async def test_a_first_start_that_cannot_write_is_told() -> None:
    records: Any = DictRecords()
    records.failures = [("before", OutcomeUnknown())] * 9
    with pytest.raises(TierUnavailable):
        await admit(records, MasterKeys(OLD))


# -- going over


async def test_a_process_that_was_not_restarted_wraps_with_the_new_key_from_that_moment_on() -> None:
    records: Any = DictRecords()
    begun_before = SessionKeys(await admit(records, MasterKeys(OLD, NEW)), records)
    ring = await begun_before.create(KEY)
    await go_over(records, await admit(records, MasterKeys(NEW, OLD)))
    assert await wrapped_by(records) == {name(OLD)}
    await begun_before.create(Key("later", "call-1"))
    assert await wrapped_by(records, "later") == {name(NEW)}
    await anew(records, NEW, OLD)
    assert await wrapped_by(records) == {name(NEW)}
    alone = SessionKeys(MasterKeys(NEW), records)
    assert ring.current is not None
    for service in (begun_before, alone):
        assert (await service.unwrap(KEY, ring, ring.current)).id == ring.current


async def test_a_process_without_the_new_key_makes_no_tenants_key_any_more() -> None:
    records: Any = DictRecords()
    left_behind = SessionKeys(await admit(records, MasterKeys(OLD)), records)
    await go_over(records, await admit(records, MasterKeys(NEW, OLD)))
    writes = records.writes
    with pytest.raises(DataCorrupt, match="not given"):
        await left_behind.create(KEY)
    assert records.writes == writes


async def test_whoever_makes_a_key_while_others_go_over_wraps_it_anew_before_using_it() -> None:
    """The other's whole run passes between the look at which key is in use and the write."""
    records: Any = Meddled()
    service = SessionKeys(await admit(records, MasterKeys(OLD, NEW)), records)

    async def whole_run() -> None:
        before = await go_over(records, MasterKeys(NEW, OLD))
        assert await let_go(records, before)

    records.before = whole_run
    ring = await service.create(KEY)
    assert await wrapped_by(records) == {name(NEW)}
    assert ring.current is not None
    alone = SessionKeys(MasterKeys(NEW), records)
    assert await alone.unwrap(KEY, ring, ring.current)


async def test_what_is_wrapped_while_somebody_goes_over_once_more_ends_with_the_last_key() -> None:
    records: Any = Meddled()
    await SessionKeys(await admit(records, MasterKeys(OLD)), records).create(KEY)
    await go_over(records, MasterKeys(NEW, OLD))

    async def third() -> None:
        await go_over(records, MasterKeys(THIRD, NEW, OLD))

    for when in ("before", "after"):
        setattr(records, when, third)
        await anew(records, NEW, OLD, THIRD)
        assert await wrapped_by(records) == {name(THIRD)}
        for first in (OLD, NEW):
            await go_over(records, MasterKeys(first, *{OLD, NEW, THIRD} - {first}))
            if first == OLD:
                await anew(records, NEW, OLD, THIRD)


async def test_going_over_needs_data_and_does_nothing_twice() -> None:
    records: Any = DictRecords()
    with pytest.raises(NotFound):
        await go_over(records, MasterKeys(OLD))
    await admit(records, MasterKeys(OLD))
    assert await go_over(records, MasterKeys(OLD, NEW)) == Standing(current=name(OLD))
    assert records.writes == 1
    wanted = await go_over(records, MasterKeys(NEW, OLD))
    assert await go_over(records, MasterKeys(NEW, OLD)) == wanted
    assert records.writes == 2
    assert (wanted.current, wanted.older) == (name(NEW), (name(OLD),))


async def test_one_may_go_over_again_before_all_is_wrapped_and_back_as_well() -> None:
    records: Any = DictRecords()
    await admit(records, MasterKeys(OLD))
    for first, *others in ((NEW, OLD), (THIRD, NEW, OLD), (OLD, NEW, THIRD)):
        await go_over(records, await admit(records, MasterKeys(first, *others)))
    assert (await standing(records)).needed == (name(OLD), name(THIRD), name(NEW))


@pytest.mark.parametrize("failure", [OutcomeUnknown(), RevConflict()])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_write_whose_answer_is_lost_is_looked_up(when: str, failure: Exception) -> None:
    records: Any = DictRecords()
    await SessionKeys(await admit(records, MasterKeys(OLD)), records).create(KEY)
    masters = await admit(records, MasterKeys(NEW, OLD))
    records.failures = [(when, failure)]
    before = await go_over(records, masters)
    records.failures = [(when, failure)]
    await anew(records, NEW, OLD)
    assert await wrapped_by(records) == {name(NEW)}
    records.failures = [(when, failure)]
    assert await let_go(records, before)
    assert (await standing(records)).needed == (name(NEW),)


async def test_a_record_that_never_holds_still_is_given_up() -> None:
    records: Any = DictRecords()
    await SessionKeys(await admit(records, MasterKeys(OLD)), records).create(KEY)
    records.failures = [("before", RevConflict())] * 9
    with pytest.raises(Contended):
        await go_over(records, MasterKeys(NEW, OLD))
    records.failures = []
    before = await go_over(records, MasterKeys(NEW, OLD))
    records.failures = [("before", RevConflict())] * 9
    with pytest.raises(Contended):
        await anew(records, NEW, OLD)
    records.failures = [("before", RevConflict())] * 9
    with pytest.raises(Contended):
        await let_go(records, before)


async def test_an_older_key_is_not_let_go_of_where_somebody_has_gone_over_since() -> None:
    records: Any = DictRecords()
    await admit(records, MasterKeys(OLD))
    before = await go_over(records, MasterKeys(NEW, OLD))
    await go_over(records, MasterKeys(OLD, NEW))
    assert not await let_go(records, before)
    await go_over(records, MasterKeys(THIRD, NEW, OLD))
    again = await go_over(records, MasterKeys(NEW, THIRD, OLD))
    assert not await let_go(records, before)
    assert await let_go(records, again)
    assert await let_go(records, again)


# -- what stays


async def test_lasting_keys_are_those_of_the_first_master_key_for_ever() -> None:
    records: Any = DictRecords()
    first = (await admit(records, MasterKeys(OLD))).lasting
    assert first == MasterKey(OLD).lasting
    for new, old in ((NEW, OLD), (THIRD, NEW)):
        masters = await admit(records, MasterKeys(new, old))
        assert masters.lasting == first
        await let_go(records, await go_over(records, masters))
        assert (await admit(records, MasterKeys(new))).lasting == first
    shown = records.kept[PLACE][0].data.decode()
    assert not any(key.hex() in shown or repr(key)[2:-1] in shown for key in first)


async def test_lasting_keys_that_were_changed_or_moved_are_refused() -> None:
    new = MasterKey(NEW)
    good = new.wrap_lasting(MasterKey(OLD).lasting)
    assert new.unwrap_lasting(good) == MasterKey(OLD).lasting
    for wrapped in (good[:-4] + "AAA=", new.wrap(b"", os.urandom(128)), good.replace(new.id, name(OLD))):
        records: Any = DictRecords()
        data = b'{"current":"%b","lasting":"%b"}' % (new.id.encode(), wrapped.encode())
        await records.put_record(*PLACE, data, rev=0)
        with pytest.raises(DataCorrupt):
            await admit(records, MasterKeys(NEW))


def test_keys_and_standings_show_names_alone() -> None:
    masters = MasterKeys(OLD, NEW)
    assert repr(masters) == f"MasterKeys({name(OLD)}, {name(NEW)})"
    assert repr(masters.lasting) == "LastingKeys(***)"
    wrapped = masters.first.wrap_lasting(masters.lasting)
    assert wrapped not in repr(Standing(current="m1", lasting=wrapped))
    assert kek_id_of(wrapped) == name(OLD)
    assert masters.having(LastingKeys(b"1", b"2", b"3", b"4")).lasting.cursor == b"1"


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"current":1}', b'{"current":"m1","older":"m2"}'])
def test_a_standing_that_does_not_read_is_refused(data: bytes) -> None:
    with pytest.raises(DataCorrupt):
        standing_of(data)


async def test_of_a_tenants_keys_those_that_hang_on_another_are_wrapped_anew_too() -> None:
    records: Any = DictRecords()
    rings: list[KeyRing] = []
    for root in (OLD, NEW):
        records.kept.clear()
        await SessionKeys(MasterKeys(root), records).create(KEY)
        rings.append(json.decode(records.kept["acme", TENANT_KEY, RING_ID][0].data, type=KeyRing))
    both = KeyRing(current=rings[0].current, wrapped=rings[0].wrapped | rings[1].wrapped)
    to = MasterKey(NEW)
    data = tenant_key_anew(MasterKeys(NEW, OLD), "acme")(json.encode(both), to)
    assert data is not None
    ring = json.decode(data, type=KeyRing)
    assert {kek_id_of(each) for each in ring.wrapped.values()} == {to.id}
    assert ring.current == both.current
    assert ring.wrapped.keys() == both.wrapped.keys()
    assert tenant_key_anew(MasterKeys(NEW), "acme")(data, to) is None


async def test_what_hangs_on_the_key_in_use_is_not_written_again() -> None:
    records: Any = DictRecords()
    await SessionKeys(await admit(records, MasterKeys(OLD, NEW)), records).create(KEY)
    writes = records.writes
    await anew(records, OLD, NEW)
    await anew(records, OLD, NEW, tenant="nobody")
    assert records.writes == writes


async def test_where_nothing_was_written_yet_the_first_key_is_the_one_in_use() -> None:
    records: Any = DictRecords()
    assert (await writing(records, MasterKeys(NEW, OLD))).id == name(NEW)
