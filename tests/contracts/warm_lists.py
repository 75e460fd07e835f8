"""What every warm tier promises about lists and counts."""

from __future__ import annotations

from sessionmanager.model.head import SUMMARY_PARTS
from sessionmanager.tiers.warm.protocol import ListQuery, Warm
from sessionmanager.words import Instant, Key
from tests.support.builders import T0, T1, T2, T3, a_change, a_head, a_listing, a_stored, a_tombstone

PAGES_MAX = 100


def at(minute: int) -> Instant:
    return f"2026-11-21T12:{minute:02d}:00.000Z"


async def listed(warm: Warm, query: ListQuery) -> list[str]:
    """Ids on all pages, one after the other. Pages may be short, but never too long, and come to an end."""
    found: list[str] = []
    for _ in range(PAGES_MAX):
        page = await warm.list(query)
        assert len(page.items) <= query.limit
        found += [stored.key.id for stored in page.items]
        if page.next is None:
            return found
        query = query._replace(after=page.next)
    raise AssertionError("a list without an end")


async def make(
    warm: Warm,
    session_id: str,
    *terms: str,
    tenant: str = "acme",
    created_at: Instant = T0,
    last_activity: Instant | None = None,
) -> Key:
    key = Key(tenant, session_id)
    listing = a_listing(*terms, created_at=created_at, last_activity=last_activity or created_at)
    await warm.commit(a_change(key, listing=listing))
    return key


class WarmListsContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_a_list_is_newest_first_and_ids_break_ties(self, warm: Warm) -> None:
        for session_id, created_at in (("b", T1), ("a", T1), ("z", T0), ("c", T2), ("ab", T1)):
            await make(warm, session_id, created_at=created_at)
        assert await listed(warm, ListQuery("acme", 10)) == ["c", "b", "ab", "a", "z"]
        for limit in (1, 2, 3):
            assert await listed(warm, ListQuery("acme", limit)) == ["c", "b", "ab", "a", "z"]

    async def test_an_item_is_a_summary_of_the_newest_head(self, warm: Warm) -> None:
        key = await make(warm, "a")
        after = a_head(key, rev=2, bot_name="support", status="dormant", context=b'"large"')
        await warm.commit(a_change(key, rev=1, head=after, changed=("pulse", "profile", "context")))
        (stored,) = (await warm.list(ListQuery("acme", 10))).items
        assert (stored.key, stored.rev, stored.version, stored.placement) == (key, 2, 2, "warm")
        assert dict(stored.parts) == {name: a_stored(after).parts[name] for name in SUMMARY_PARTS}

    async def test_an_empty_tenant_has_an_empty_list(self, warm: Warm) -> None:
        await make(warm, "a", tenant="other")
        page = await warm.list(ListQuery("acme", 10))
        assert (page.items, page.next) == ((), None)

    async def test_tenants_do_not_see_each_other(self, warm: Warm) -> None:
        for tenant in ("acme", "acme2", "acm"):
            await make(warm, f"of {tenant}", "label:vip", tenant=tenant)
        for query in (ListQuery("acme", 10), ListQuery("acme", 10, ("label:vip",))):
            assert await listed(warm, query) == ["of acme"]
            assert await listed(warm, query._replace(sort="last_activity")) == ["of acme"]

    async def test_all_terms_must_match_exactly(self, warm: Warm) -> None:
        await make(warm, "a", "label:vip", "status:active", "metadata.queue:billing", created_at=at(1))
        await make(warm, "b", "label:vip", "status:ended", created_at=at(2))
        await make(warm, "c", "label:vi", "status:active", created_at=at(3))
        await make(warm, "d", "label:VIP", "label:%", created_at=at(4))
        for terms, expected in (
            (("label:vip",), ["b", "a"]),
            (("label:vip", "status:active"), ["a"]),
            (("status:active", "label:vip"), ["a"]),
            (("status:active", "label:vip", "metadata.queue:billing"), ["a"]),
            (("label:vip", "label:VIP"), []),
            (("label:%",), ["d"]),
            (("label:",), []),
            (("label:vip", "label:vip"), ["b", "a"]),
        ):
            for sort in ("created_at", "last_activity"):
                assert await listed(warm, ListQuery("acme", 10, terms, sort=sort)) == expected, terms

    async def test_bounds_are_inclusive_below_and_exclusive_above(self, warm: Warm) -> None:
        for minute, session_id in enumerate("abcde"):
            await make(warm, session_id, "label:x", created_at=at(minute), last_activity=at(59 - minute))
        for terms in ((), ("label:x",)):
            created = ListQuery("acme", 2, terms, created_after=at(1), created_before=at(3))
            assert await listed(warm, created) == ["c", "b"]
            assert await listed(warm, created._replace(sort="last_activity")) == ["b", "c"]
            active = ListQuery("acme", 2, terms, active_after=at(57), active_before=at(59))
            assert await listed(warm, active) == ["c", "b"]
            assert await listed(warm, active._replace(sort="last_activity")) == ["b", "c"]
            both = active._replace(created_after=at(2))
            assert await listed(warm, both) == ["c"]

    async def test_pages_are_stable_while_sessions_are_made(self, warm: Warm) -> None:
        for minute in range(10):
            await make(warm, f"old {minute}", "label:x", created_at=at(minute))
        for terms in ((), ("label:x",)):
            first = await warm.list(ListQuery("acme", 4, terms))
            assert first.next is not None
            for minute in range(20, 25):
                await make(warm, f"new {minute} {len(terms)}", "label:x", created_at=at(minute))
            rest = await listed(warm, ListQuery("acme", 4, terms, after=first.next))
            expected = [f"old {minute}" for minute in range(5, -1, -1)]
            assert [i for i in rest if i.startswith("old")][-6:] == expected
            assert not set(rest) & {stored.key.id for stored in first.items}

    async def test_by_activity_a_session_moves_up_when_its_listing_says_so(self, warm: Warm) -> None:
        for minute, session_id in enumerate("abc"):
            await make(warm, session_id, "label:x", created_at=at(minute))
        key = Key("acme", "a")
        await warm.commit(a_change(key, rev=1))
        by_activity = ListQuery("acme", 2, sort="last_activity")
        assert await listed(warm, by_activity) == ["c", "b", "a"]
        await warm.commit(a_change(key, rev=2, listing=a_listing("label:x", created_at=at(0), last_activity=at(30))))
        assert await listed(warm, by_activity) == ["a", "c", "b"]
        assert await listed(warm, by_activity._replace(terms=("label:x",))) == ["a", "c", "b"]
        assert await listed(warm, ListQuery("acme", 2)) == ["c", "b", "a"]
        assert await listed(warm, ListQuery("acme", 2, active_after=at(10))) == ["a"]

    async def test_a_new_listing_replaces_the_terms(self, warm: Warm) -> None:
        key = await make(warm, "a", "label:x", "label:y")
        await warm.commit(a_change(key, rev=1, listing=a_listing("label:y", "label:z", status="ended")))
        assert await listed(warm, ListQuery("acme", 10, ("label:x",))) == []
        assert await listed(warm, ListQuery("acme", 10, ("label:y", "label:z"))) == ["a"]
        await warm.commit(a_change(key, rev=2, listing=a_listing()))
        assert await listed(warm, ListQuery("acme", 10, ("label:y",))) == []
        assert await listed(warm, ListQuery("acme", 10)) == ["a"]

    async def test_a_page_ends_at_its_scan_budget_and_goes_on_from_there(self, warm: Warm) -> None:
        for minute in range(30):
            rare = ("label:rare",) if minute % 10 == 0 else ()
            await make(warm, f"{minute:02d}", "label:all", *rare, created_at=at(minute))
        for query in (
            ListQuery("acme", 5, ("label:all", "label:rare"), scan_max=4),
            ListQuery("acme", 5, ("label:rare",), sort="last_activity", scan_max=4),
            ListQuery("acme", 1, ("label:rare",), scan_max=4),
        ):
            assert await listed(warm, query) == ["20", "10", "00"]

    async def test_what_was_never_listed_or_is_erased_is_in_no_list(self, warm: Warm) -> None:
        await warm.commit(a_change(Key("acme", "silent")))
        key = await make(warm, "erased", "label:x")
        await make(warm, "there", "label:x")
        await warm.commit(a_tombstone(key, rev=1))
        for terms in ((), ("label:x",)):
            for sort in ("created_at", "last_activity"):
                assert await listed(warm, ListQuery("acme", 10, terms, sort=sort)) == ["there"]
        assert await warm.counts("acme") == {("active", "warm"): 1}

    async def test_counts_follow_each_change_of_status_and_placement(self, warm: Warm) -> None:
        assert await warm.counts("acme") == {}
        first, second = await make(warm, "a"), await make(warm, "b")
        await make(warm, "c", tenant="other")
        await warm.commit(a_change(first, rev=1, listing=a_listing(status="ended", last_activity=T3)))
        assert await warm.counts("acme") == {("active", "warm"): 1, ("ended", "warm"): 1}
        assert await warm.counts(None) == {("active", "warm"): 2, ("ended", "warm"): 1}
        assert await warm.counts("nobody") == {}
        await warm.commit(a_change(first, rev=2, listing=a_listing(status="ended", placement="cold")))
        await warm.commit(a_change(first, rev=3))
        await warm.commit(a_tombstone(second, rev=1))
        assert await warm.counts("acme") == {("ended", "cold"): 1}
