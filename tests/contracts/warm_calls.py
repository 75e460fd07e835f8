"""What every warm tier promises about the rows of calls."""

from __future__ import annotations

import asyncio

import pytest

from sessionmanager.errors import RevConflict
from sessionmanager.model import instants
from sessionmanager.model.change import CallRow
from sessionmanager.tiers.warm.protocol import CallQuery, CallSort, FoundCall, Warm
from sessionmanager.words import Instant, Key
from tests.support.builders import KEY, T0, T1, T2, T3, a_call_row, a_change, a_tombstone

PAGES_MAX = 100


async def made(warm: Warm, *rows: CallRow, key: Key = KEY, rev: int = 0) -> None:
    """Claim these calls for a session and have one commit write them."""
    for row in rows:
        assert await warm.claim_call(key.tenant, row.id, key.id) == key.id
    await warm.commit(a_change(key, rev=rev, calls=rows))


async def called(warm: Warm, query: CallQuery) -> list[str]:
    """Ids on all pages, one after the other. Pages may be short, but never too long, and come to an end."""
    found: list[str] = []
    for _ in range(PAGES_MAX):
        page = await warm.list_calls(query)
        assert len(page.items) <= query.limit
        assert page.complete_until <= warm.now()
        found += [row.id for row in page.items]
        if page.next is None:
            return found
        query = query._replace(after=page.next)
    raise AssertionError("a list without an end")


class WarmCallsContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_a_call_is_whose_it_was_claimed_for_first(self, warm: Warm) -> None:
        assert await warm.find_call("acme", "c1") is None
        assert await warm.claim_call("acme", "c1", "s1") == "s1"
        assert await warm.claim_call("acme", "c1", "s2") == "s1"
        assert await warm.claim_call("acme", "c1", "s1") == "s1"
        assert await warm.find_call("acme", "c1") == FoundCall("s1", None)
        assert await warm.claim_call("other", "c1", "s2") == "s2"
        assert await called(warm, CallQuery("acme", 10)) == []

    async def test_of_many_claims_at_once_one_is_kept(self, warm: Warm) -> None:
        owners = await asyncio.gather(*(warm.claim_call("acme", "c1", f"s{n}") for n in range(20)))
        assert len(set(owners)) == 1
        found = await warm.find_call("acme", "c1")
        assert found is not None
        assert found.session == owners[0]

    async def test_a_claim_that_nothing_came_of_can_be_taken_over_and_no_other(self, warm: Warm) -> None:
        await warm.claim_call("acme", "c1", "s1")
        assert await warm.claim_call("acme", "c1", "s2", instead_of="s3") == "s1"
        assert await warm.claim_call("acme", "c1", "s2", instead_of="s1") == "s2"
        await made(warm, a_call_row("c2"))
        assert await warm.claim_call("acme", "c2", "s2", instead_of=KEY.id) == KEY.id

    async def test_a_row_stands_or_falls_with_its_commit(self, warm: Warm) -> None:
        first, second = a_call_row("c1", 1), a_call_row("c1", 2, settled_at=T1, caller=None)
        await made(warm, first)
        assert await warm.find_call("acme", "c1") == FoundCall(KEY.id, first)
        with pytest.raises(RevConflict):
            await warm.commit(a_change(rev=7, calls=(second,)))
        assert await warm.find_call("acme", "c1") == FoundCall(KEY.id, first)
        await warm.commit(a_change(rev=1, calls=(second,)))
        assert await warm.find_call("acme", "c1") == FoundCall(KEY.id, second)
        assert (await warm.list_calls(CallQuery("acme", 10))).items == (second,)
        assert await warm.live_calls() == {}

    async def test_a_row_that_is_anothers_or_was_never_claimed_is_passed_over(self, warm: Warm) -> None:
        await warm.claim_call("acme", "c1", "elsewhere")
        await warm.commit(a_change(calls=(a_call_row("c1"), a_call_row("c2"))))
        assert await warm.find_call("acme", "c1") == FoundCall("elsewhere", None)
        assert await warm.find_call("acme", "c2") is None
        assert await called(warm, CallQuery("acme", 10)) == []

    async def test_rows_of_many_commits_are_all_kept(self, warm: Warm) -> None:
        await warm.commit(a_change())
        for rev in range(1, 160):
            await made(warm, a_call_row(f"c{rev:03d}", rev + 1, settled_at=T1), rev=rev)
        assert await called(warm, CallQuery("acme", 50, sort="settled_at")) == [f"c{rev:03d}" for rev in range(1, 160)]

    async def test_lists_are_newest_start_first_and_ends_oldest_first(self, warm: Warm) -> None:
        await made(
            warm,
            a_call_row("a", started_at=T1, settled_at=T3),
            a_call_row("b", started_at=T1),
            a_call_row("c", started_at=T2, settled_at=T2),
            a_call_row("d", started_at=T0, settled_at=T2),
        )
        for limit in (1, 2, 3, 10):
            assert await called(warm, CallQuery("acme", limit)) == ["c", "b", "a", "d"]
            assert await called(warm, CallQuery("acme", limit, sort="settled_at")) == ["c", "d", "a"]
        assert await called(warm, CallQuery("other", 10)) == []

    @pytest.mark.parametrize(
        ("equal", "wanted"),
        [
            ({"session": "s1"}, "dba"),
            ({"session": "s2"}, "c"),
            ({"state": "active"}, "db"),
            ({"state": "ended"}, "ca"),
            ({"gateway": "twilio"}, "ba"),
            ({"direction": "outbound"}, "d"),
            ({"caller": "+1"}, "ca"),
            ({"callee": "+2"}, "cb"),
            ({"caller": "+1", "callee": "+2"}, "c"),
            ({"caller": "+1", "session": "s1", "state": "ended", "gateway": "twilio"}, "a"),
            ({"callee": "+2", "state": "active"}, "b"),
            ({"caller": "none"}, ""),
        ],
        ids=str,
    )
    async def test_all_filters_that_are_given_must_match(self, warm: Warm, equal: dict[str, str], wanted: str) -> None:
        await made(
            warm,
            a_call_row("a", gateway="twilio", caller="+1", started_at=T0, settled_at=T3),
            a_call_row("b", gateway="twilio", caller=None, callee="+2", started_at=T1),
            a_call_row("d", caller="+3", direction="outbound", started_at=T3),
            key=Key("acme", "s1"),
        )
        await made(warm, a_call_row("c", caller="+1", callee="+2", started_at=T2, settled_at=T3), key=Key("acme", "s2"))
        for limit in (1, 10):
            query = CallQuery("acme", limit, tuple(equal.items()))
            assert await called(warm, query) == list(wanted)
            ends = [name for name in reversed(wanted) if name in "ac"]
            assert sorted(await called(warm, query._replace(sort="settled_at"))) == sorted(ends)
            assert await called(warm, query._replace(scan_max=1)) == list(wanted)

    @pytest.mark.parametrize("sort", ["started_at", "settled_at"])
    async def test_bounds_begin_with_their_instant_and_end_before_it(self, warm: Warm, sort: str) -> None:
        ends: tuple[Instant | None, ...] = (T1, T2, T3, None)
        for n, (started, ended) in enumerate(zip((T0, T1, T2, T3), ends, strict=True)):
            await made(warm, a_call_row(f"c{n}", started_at=started, settled_at=ended), key=Key("acme", f"s{n}"))
        query = CallQuery("acme", 1, sort="started_at" if sort == "started_at" else "settled_at")

        async def found(**bounds: Instant) -> list[str]:
            return sorted(await called(warm, query._replace(**bounds)))  # pyright: ignore[reportArgumentType]

        assert await found(started_after=T1, started_before=T2) == ["c1"]
        assert await found(settled_after=T2, settled_before=T3) == ["c1"]
        assert await found(settled_after=T2) == ["c1", "c2"]
        assert await found(started_before=T2, settled_after=T2) == ["c1"]

    async def test_live_calls_are_counted_by_state(self, warm: Warm) -> None:
        await made(warm, a_call_row("a"), a_call_row("b", state="ringing"), a_call_row("c", settled_at=T1))
        await made(warm, a_call_row("d"), key=Key("other", "s"))
        assert dict(await warm.live_calls()) == {"active": 2, "ringing": 1}

    async def test_calls_of_an_erased_session_are_not_shown_and_can_be_claimed_anew(self, warm: Warm) -> None:
        await made(warm, *(a_call_row(f"c{n}", settled_at=T1) for n in range(3)))
        other = Key("acme", "other")
        await made(warm, a_call_row("mine"), key=other)
        await warm.commit(a_tombstone(rev=1))
        assert await warm.find_call("acme", "c0") is None
        assert await called(warm, CallQuery("acme", 2)) == ["mine"]
        assert await called(warm, CallQuery("acme", 10, (("session", KEY.id),))) == []
        assert await warm.claim_call("acme", "c0", "anew") == "anew"
        for _ in range(2):
            await warm.purge(KEY)
            assert await warm.find_call("acme", "c0") == FoundCall("anew", None)
            assert await warm.find_call("acme", "c1") is None
            assert await called(warm, CallQuery("acme", 10)) == ["mine"]
        assert dict(await warm.live_calls()) == {"active": 1}

    @pytest.mark.parametrize("sort", ["started_at", "settled_at"])
    async def test_a_page_that_is_short_after_an_erasure_still_leads_to_all_that_is_left(
        self, warm: Warm, sort: CallSort
    ) -> None:
        """Also one that nothing is left of: an empty page ends no list."""
        times = [instants.plus(T1, number) for number in range(12)]
        gone = [a_call_row(f"g{n:02d}", started_at=times[n], settled_at=times[n]) for n in (0, 2, 3, 4, 5, 6, 9)]
        left = [a_call_row(f"k{n:02d}", started_at=times[n], settled_at=times[n]) for n in (1, 7, 8, 10, 11)]
        await made(warm, *gone)
        await made(warm, *left, key=Key("acme", "other"))
        query = CallQuery("acme", 2, sort=sort)
        first = await warm.list_calls(query)
        assert first.next is not None
        await warm.commit(a_tombstone(rev=1))
        wanted = [row.id for row in left] if sort == "settled_at" else [row.id for row in reversed(left)]
        for limit in (1, 2, 3, 12):
            assert await called(warm, query._replace(limit=limit)) == wanted
        # A page that was read before the erasure leads on behind what it had, whether that is there still or not.
        beyond = [row.id for row in left if (row.started_at > first.next.at) == (sort == "settled_at")]
        rest = await called(warm, query._replace(after=first.next))
        assert sorted(rest) == [id for id in beyond if id not in {row.id for row in first.items}]
