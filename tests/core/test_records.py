"""Records of warm: all of a kind, page after page, and what those of one kind hold."""

from __future__ import annotations

from typing import cast

import pytest
from msgspec import Struct

from sessionmanager.core import records
from sessionmanager.core.records import RecordForm, every_record
from sessionmanager.errors import DataCorrupt, TierUnavailable
from sessionmanager.tiers.warm.protocol import WarmRecords
from tests.support.records import DictRecords

pytestmark = pytest.mark.unit

KIND = "colour"


class Colour(Struct, frozen=True):
    name: str


FORM = RecordForm(Colour, "the record of a colour")


async def kept(*ids: str, tenant: str = "acme") -> DictRecords:
    warm = DictRecords()
    for record_id in ids:
        await warm.put_record(tenant, KIND, record_id, FORM.encode(Colour(record_id)), rev=0)
    return warm


async def ids(warm: DictRecords, prefix: str = "") -> list[str]:
    return [record.id async for record in every_record(cast(WarmRecords, warm), "acme", KIND, prefix=prefix)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
async def test_every_record_comes_once_and_in_order_however_many_pages_there_are(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PAGE", 3)
    warm = await kept(*(f"{i:02d}" for i in reversed(range(count))))
    assert await ids(warm) == [f"{i:02d}" for i in range(count)]
    assert warm.reads == count // 3 + 1


async def test_other_tenants_and_other_prefixes_are_not_told() -> None:
    warm = await kept("a/1", "a/2", "b/1")
    await warm.put_record("other", KIND, "a/3", b"{}", rev=0)
    assert await ids(warm, "a/") == ["a/1", "a/2"]


async def test_a_tier_that_is_away_is_told_and_no_list_passes_for_a_whole_one() -> None:
    warm = await kept("1")
    warm.failures = [("read", TierUnavailable("warm"))]
    with pytest.raises(TierUnavailable):
        await ids(warm)


def test_what_was_written_is_read_and_what_does_not_read_says_what_it_should_be() -> None:
    assert FORM.read(FORM.encode(Colour("red"))) == Colour("red")
    for broken in (b"", b"{", b"{}", b'{"name": 1}', b'{"name": "\xff"}'):
        with pytest.raises(DataCorrupt, match="the record of a colour does not read as one"):
            FORM.read(broken)
