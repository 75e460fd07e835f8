"""What every hot tier promises; the letters are the interleavings of correction 3 in the reliability notes.

R reads and fills, A and B write, W is warm, H the tier under test. Warm is not here: what it would have answered is
said by the copies that R fills in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sessionmanager.model.codec import Stored
from sessionmanager.model.head import PARTS, Tombstone
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy, Hot
from sessionmanager.words import Key
from tests.contracts.hot_bell import HotBellContract
from tests.support.hot_builders import AS_OF, KEY, OTHER, a_change, a_copy, a_part, a_stored, an_erasure, fill, lines

Pass = Callable[[float], Awaitable[None]]
LATER = "2026-11-21T12:00:01.500Z"


async def rev_of(hot: Hot, key: Key = KEY) -> int | None:
    copy = await hot.recall(key)
    return copy and copy.stored.rev


class HotContract(HotBellContract):
    """What every hot tier promises.

    A subclass gives the fixtures `hot`, empty and open, and `pass_seconds`, which returns when so much time has gone by
    for the tier; a clock of tests' own stands at `AS_OF` at first.
    """

    # -- copies

    async def test_what_nobody_kept_is_a_miss(self, hot: Hot) -> None:
        assert await hot.recall(KEY) is None

    async def test_a_filled_copy_comes_back_as_it_was(self, hot: Hot) -> None:
        stored = Stored(KEY, 7, 5, {name: a_part(name, 7) for name in HOT_PARTS}, placement="cold")
        await fill(hot, Copy(stored, lines(3, 9), AS_OF))
        copy = await hot.recall(KEY)
        assert copy is not None
        assert (copy.stored.key, copy.stored.rev, copy.stored.version) == (KEY, 7, 5)
        assert (copy.stored.placement, copy.stored.tombstone) == ("cold", None)
        assert dict(copy.stored.parts) == dict(stored.parts)
        assert (copy.tail, copy.as_of) == (lines(3, 9), AS_OF)

    async def test_a_copy_never_holds_keys_or_index(self, hot: Hot) -> None:
        await fill(hot, a_copy(1, stored=a_stored(1, parts=PARTS)))
        filled = await hot.recall(KEY)
        await hot.after_commit(a_change(1, parts=PARTS, changed=PARTS), AS_OF)
        moved = await hot.recall(KEY)
        assert filled is not None
        assert moved is not None
        assert set(filled.stored.parts) == set(moved.stored.parts) == set(HOT_PARTS)

    async def test_sessions_are_kept_apart(self, hot: Hot) -> None:
        near = Key("acme:1", "x"), Key("acme", "1:x"), Key("acme", "1"), Key("1:acme", "1"), Key("a", "cme1")
        for rev, key in enumerate(near, 1):
            await fill(hot, a_copy(rev, key))
        await hot.drop(near[0])
        assert [await rev_of(hot, key) for key in near] == [None, 2, 3, 4, 5]

    async def test_a_copy_is_never_kept_under_another_session(self, hot: Hot) -> None:
        token = await hot.begin_fill(KEY)
        assert token is not None
        await hot.end_fill(KEY, token, a_copy(1, OTHER))
        assert await hot.recall(KEY) is None
        assert await hot.recall(OTHER) is None

    async def test_reads_never_renew_a_copy(self, hot: Hot, pass_seconds: Pass) -> None:
        await fill(hot, a_copy(1))
        for _ in range(3):
            await pass_seconds(0.5)
            copy = await hot.recall(KEY)
            assert copy is not None
            assert copy.as_of == AS_OF

    async def test_dropping_forgets_the_copy(self, hot: Hot) -> None:
        await fill(hot, a_copy(1))
        await hot.drop(KEY)
        await hot.drop(KEY)
        assert await hot.recall(KEY) is None
        await fill(hot, a_copy(1))
        assert await rev_of(hot) == 1

    # -- commits

    async def test_a_commit_moves_the_copy_from_its_predecessor(self, hot: Hot) -> None:
        await fill(hot, a_copy(4, tail=lines(1, 2)))
        await hot.after_commit(a_change(4, entries=lines(3, 5)), LATER)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert (copy.stored.rev, copy.stored.version, copy.as_of) == (5, 5, LATER)
        assert copy.tail == lines(1, 5)
        assert copy.stored.parts["pulse"] == a_part("pulse", 5)
        assert copy.stored.parts["context"] == a_part("context", 4)

    async def test_a_commit_without_entries_leaves_the_tail(self, hot: Hot) -> None:
        await fill(hot, a_copy(4, tail=lines(1, 2)))
        await hot.after_commit(a_change(4), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(1, 2)

    async def test_parts_that_the_writer_did_not_hold_stay_in_the_copy(self, hot: Hot) -> None:
        await fill(hot, a_copy(4))
        await hot.after_commit(a_change(4, parts=("pulse", "work", "keys")), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert dict(copy.stored.parts) == {
            name: a_part(name, 5 if name in ("pulse", "work") else 4) for name in HOT_PARTS
        }

    async def test_parts_that_a_commit_drops_leave_the_copy(self, hot: Hot) -> None:
        await fill(hot, a_copy(4))
        stub = ("pulse", "profile", "work", "keys")
        await hot.after_commit(a_change(4, parts=stub, dropped=("detail", "context", "index")), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert set(copy.stored.parts) == {"pulse", "profile", "work"}

    async def test_of_a_session_that_becomes_a_stub_no_copy_stays_and_none_from_before_comes(self, hot: Hot) -> None:
        await fill(hot, a_copy(4, tail=lines(1, 2)))
        slow = await hot.begin_fill(KEY)
        assert slow is not None
        await hot.after_commit(a_change(4, placement="cold"), AS_OF)
        assert await hot.recall(KEY) is None
        await hot.end_fill(KEY, slow, a_copy(4))
        assert await hot.recall(KEY) is None
        await fill(hot, a_copy(7))
        await hot.after_commit(a_change(5, placement="cold"), AS_OF)
        assert await rev_of(hot) == 7, "it was made whole again meanwhile"

    async def test_sealed_lines_leave_the_tail(self, hot: Hot) -> None:
        await fill(hot, a_copy(4, tail=lines(1, 6)))
        await hot.after_commit(a_change(4, tail_from=5, entries=lines(7, 7)), AS_OF)
        sealed = await hot.recall(KEY)
        await hot.after_commit(a_change(5, tail_from=8), AS_OF)
        archived = await hot.recall(KEY)
        assert sealed is not None
        assert archived is not None
        assert sealed.tail == lines(5, 7)
        assert archived.tail == ()

    async def test_sealed_lines_do_not_come_back_with_the_next_commit(self, hot: Hot) -> None:
        await fill(hot, a_copy(4, tail=lines(1, 6)))
        await hot.after_commit(a_change(4, tail_from=5), AS_OF)
        await hot.after_commit(a_change(5, entries=lines(7, 7)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(5, 7)

    async def test_lines_that_do_not_follow_the_tail_take_its_place(self, hot: Hot) -> None:
        await fill(hot, a_copy(4, tail=lines(1, 3)))
        await hot.after_commit(a_change(4, entries=lines(5, 6)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(5, 6)

    async def test_a_tail_never_ends_before_the_newest_line_however_large_that_is(self, hot: Hot) -> None:
        huge = lines(3, 3, size=1_000_000)
        await fill(hot, a_copy(4, tail=lines(1, 2)))
        await hot.after_commit(a_change(4, entries=huge), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail in ((), huge, (*lines(1, 2), *huge))
        await hot.after_commit(a_change(5, entries=lines(4, 4)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail[-1:] == lines(4, 4)
        assert len(copy.tail) in (1, 2, 4)

    async def test_a_long_talk_leaves_its_newest_lines_in_the_tail(self, hot: Hot) -> None:
        await fill(hot, a_copy(1, tail=lines(1, 40)))
        for rev in range(1, 151):
            await hot.after_commit(a_change(rev, entries=lines(40 + rev, 40 + rev)), AS_OF)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.tail == lines(191 - len(copy.tail), 190)
        assert len(copy.tail) >= 9

    async def test_a_commit_makes_no_copy_where_there_was_none(self, hot: Hot) -> None:
        """e: a writer that slept must not set what it wrote an hour ago."""
        await hot.after_commit(a_change(0), AS_OF)
        await hot.after_commit(a_change(5, OTHER), AS_OF)
        assert await hot.recall(KEY) is None
        assert await hot.recall(OTHER) is None

    async def test_commits_out_of_order_drop_the_copy_and_never_bring_an_older_one_back(self, hot: Hot) -> None:
        """b: H has 5; A makes 6, B makes 7; B tells H first, then A does."""
        await fill(hot, a_copy(5))
        await hot.after_commit(a_change(6), AS_OF)
        assert await hot.recall(KEY) is None
        await hot.after_commit(a_change(5), AS_OF)
        assert await hot.recall(KEY) is None

    async def test_a_late_commit_leaves_a_newer_copy_alone(self, hot: Hot) -> None:
        """e: A made 6 and slept; meanwhile others made 7 to 9 and H has 9."""
        await fill(hot, a_copy(9, tail=lines(1, 9)))
        await hot.after_commit(a_change(5, entries=lines(6, 6)), LATER)
        await hot.after_commit(a_change(8, entries=lines(9, 9)), LATER)
        copy = await hot.recall(KEY)
        assert copy is not None
        assert (copy.stored.rev, copy.tail, copy.as_of) == (9, lines(1, 9), AS_OF)

    # -- fills

    async def test_one_fills_at_a_time(self, hot: Hot) -> None:
        token = await hot.begin_fill(KEY)
        assert token is not None
        assert await hot.begin_fill(KEY) is None
        assert await hot.begin_fill(OTHER) is not None
        await hot.end_fill(KEY, token, a_copy(1))
        assert await hot.begin_fill(KEY) is not None

    async def test_a_token_fills_once_and_only_its_own_session(self, hot: Hot) -> None:
        token, other = await hot.begin_fill(KEY), await hot.begin_fill(OTHER)
        assert token is not None
        assert other is not None
        await hot.end_fill(KEY, other, a_copy(1))
        await hot.end_fill(KEY, "never given", a_copy(1))
        assert await hot.recall(KEY) is None
        await hot.end_fill(KEY, token, a_copy(1))
        await hot.end_fill(KEY, token, a_copy(2))
        assert await rev_of(hot) == 1

    async def test_a_token_lives_three_seconds(self, hot: Hot, pass_seconds: Pass) -> None:
        token = await hot.begin_fill(KEY)
        assert token is not None
        await pass_seconds(3.1)
        second = await hot.begin_fill(KEY)
        assert second is not None
        await hot.end_fill(KEY, token, a_copy(1))
        assert await hot.recall(KEY) is None
        await hot.end_fill(KEY, second, a_copy(2))
        assert await rev_of(hot) == 2

    async def test_a_token_that_nobody_took_over_ends_all_the_same(self, hot: Hot, pass_seconds: Pass) -> None:
        token = await hot.begin_fill(KEY)
        assert token is not None
        await pass_seconds(3.1)
        await hot.end_fill(KEY, token, a_copy(1))
        assert await hot.recall(KEY) is None

    async def test_a_slow_fill_after_a_commit_and_an_eviction_does_nothing(self, hot: Hot) -> None:
        """a: R misses and reads 5 from W; A makes 6; R2 fills 6, H evicts it; R comes with 5."""
        slow = await hot.begin_fill(KEY)
        assert slow is not None
        await hot.after_commit(a_change(5), AS_OF)
        await fill(hot, a_copy(6))
        await hot.drop(KEY)
        await hot.end_fill(KEY, slow, a_copy(5))
        assert await hot.recall(KEY) is None

    async def test_a_commit_voids_the_token_even_for_what_it_wrote(self, hot: Hot) -> None:
        token = await hot.begin_fill(KEY)
        assert token is not None
        await hot.after_commit(a_change(5), AS_OF)
        await hot.end_fill(KEY, token, a_copy(6))
        assert await hot.recall(KEY) is None
        await fill(hot, a_copy(6))
        assert await rev_of(hot) == 6

    async def test_a_late_commit_voids_the_token_too(self, hot: Hot) -> None:
        await hot.after_commit(a_change(6), AS_OF)
        token = await hot.begin_fill(KEY)
        assert token is not None
        await hot.after_commit(a_change(5), AS_OF)
        await hot.end_fill(KEY, token, a_copy(7))
        assert await hot.recall(KEY) is None

    async def test_nothing_under_the_floor_is_kept_whatever_warm_answered(self, hot: Hot) -> None:
        """A warm that answers with the past (a primary that was deposed) to somebody with a good token."""
        await hot.after_commit(a_change(6), AS_OF)
        await hot.after_commit(a_change(4), AS_OF)  # late: the floor never sinks
        await hot.drop(KEY)
        await fill(hot, a_copy(6))
        assert await hot.recall(KEY) is None
        await fill(hot, a_copy(7))
        assert await rev_of(hot) == 7

    async def test_a_fill_with_less_than_is_there_does_nothing(self, hot: Hot) -> None:
        await fill(hot, a_copy(7))
        await fill(hot, a_copy(6))
        assert await rev_of(hot) == 7

    async def test_a_fill_with_the_same_again_renews_the_copy(self, hot: Hot) -> None:
        await fill(hot, a_copy(7))
        await fill(hot, a_copy(7, as_of=LATER))
        copy = await hot.recall(KEY)
        assert copy is not None
        assert copy.as_of == LATER

    # -- erased

    async def test_what_is_dropped_for_ever_is_never_kept_again(self, hot: Hot) -> None:
        """e: the session is erased; then a slow filler, a slow writer and a late creation come."""
        await fill(hot, a_copy(5))
        slow = await hot.begin_fill(KEY)
        assert slow is not None
        await hot.drop_for_ever(KEY)
        assert await hot.recall(KEY) is None
        await hot.end_fill(KEY, slow, a_copy(6))
        await hot.after_commit(a_change(5), AS_OF)
        await hot.after_commit(a_change(0), AS_OF)
        await hot.drop(KEY)
        again = await hot.begin_fill(KEY)
        if again is not None:
            await hot.end_fill(KEY, again, a_copy(7))
        assert await hot.recall(KEY) is None
        await hot.drop_for_ever(KEY)
        assert await hot.recall(KEY) is None

    async def test_ten_leases_later_it_is_still_dropped(self, hot: Hot, pass_seconds: Pass) -> None:
        await hot.drop_for_ever(KEY)
        await hot.after_commit(a_change(8, OTHER), AS_OF)
        await pass_seconds(19.5)
        for copy in (a_copy(9), a_copy(8, OTHER)):
            token = await hot.begin_fill(copy.stored.key)
            if token is not None:
                await hot.end_fill(copy.stored.key, token, copy)
            assert await hot.recall(copy.stored.key) is None

    async def test_a_tombstone_is_no_copy(self, hot: Hot) -> None:
        await fill(hot, a_copy(5))
        await hot.after_commit(an_erasure(5), AS_OF)
        assert await hot.recall(KEY) is None
        token = await hot.begin_fill(KEY)
        if token is not None:
            await hot.end_fill(KEY, token, a_copy(9))
        assert await hot.recall(KEY) is None, "nor is there ever one again"
        tombstone = Tombstone(erasure_id="erasure-2", erased_at=AS_OF)
        await fill(hot, a_copy(3, stored=Stored(OTHER, 3, 3, {}, tombstone=tombstone)))
        assert await hot.recall(OTHER) is None
