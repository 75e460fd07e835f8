"""What every warm tier still knows of a session when many commits have come after."""

from __future__ import annotations

import asyncio

from sessionmanager.errors import RevConflict
from sessionmanager.tiers.warm.protocol import TrailQuery, Warm
from tests.support.builders import (
    KEY,
    a_change,
    a_commit_id,
    a_key_record,
    a_line,
    a_tombstone,
    a_trail,
    lines,
)

MANY = 300
"""Commits: more than any backend keeps at hand."""


class WarmFarBackContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_what_hundreds_of_commits_left_is_found_after_the_last(self, warm: Warm) -> None:
        for rev in range(MANY):
            await warm.commit(
                a_change(
                    rev=rev,
                    entries=[a_line(rev + 1)],
                    commit_id=a_commit_id(f"commit {rev}"),
                    trail=a_trail(version=rev + 1) if rev % 3 else None,
                    idempotency=a_key_record(f"scope {rev}", version=rev + 1) if rev % 2 else None,
                    entry_ids=((a_commit_id(f"id {rev}"), rev + 1),),
                )
            )
        for rev in range(MANY):
            assert await warm.find_commit(KEY, rev, a_commit_id(f"commit {rev}")) == rev + 1
        for rev in range(0, MANY, 7):
            assert await warm.find_commit(KEY, 0, a_commit_id(f"commit {rev}")) == rev + 1
            assert await warm.find_commit(KEY, rev + 1, a_commit_id(f"commit {rev}")) is None
            record = a_key_record(f"scope {rev}", version=rev + 1) if rev % 2 else None
            assert await warm.find_key(KEY, f"scope {rev}".encode()) == record
        assert await warm.find_commit(KEY, 0, a_commit_id("never")) is None
        ids = [a_commit_id(f"id {rev}") for rev in range(MANY + 10)]
        assert await warm.find_entry_ids(KEY, ids) == {ids[rev]: rev + 1 for rev in range(MANY)}
        page = await warm.trail(TrailQuery(KEY.tenant, MANY, session=KEY.id))
        assert [line.version for _, line in page.items] == [rev + 1 for rev in range(MANY - 1, -1, -1) if rev % 3]
        assert (await warm.load(KEY, tail=MANY)).tail == lines(1, MANY)

    async def test_a_key_that_comes_again_and_again_has_its_newest_record(self, warm: Warm) -> None:
        for rev in range(MANY):
            record = a_key_record(f"scope {rev % 90}", request=f"{rev}", version=rev + 1)
            await warm.commit(a_change(rev=rev, idempotency=record))
            if rev % 50 == 49:
                for number in range(0, min(rev, 90), 11):
                    newest = rev - (rev - number) % 90
                    expected = a_key_record(f"scope {number}", request=f"{newest}", version=newest + 1)
                    assert await warm.find_key(KEY, f"scope {number}".encode()) == expected

    async def test_the_first_seq_of_an_entry_id_stands_however_late_it_comes_again(self, warm: Warm) -> None:
        digest = a_commit_id("entry")
        await warm.commit(a_change(entry_ids=((digest, 1),)))
        for rev in range(1, MANY):
            again = ((digest, rev + 1),) if rev in (1, 70, 140, MANY - 1) else ()
            await warm.commit(a_change(rev=rev, entry_ids=(*again, (a_commit_id(f"other {rev}"), rev + 1))))
        found = await warm.find_entry_ids(KEY, [digest, a_commit_id(f"other {MANY - 1}")])
        assert found == {digest: 1, a_commit_id(f"other {MANY - 1}"): MANY}

    async def test_commits_of_an_erased_session_are_still_found(self, warm: Warm) -> None:
        for rev in range(70):
            trail = a_trail(version=rev + 1)
            await warm.commit(a_change(rev=rev, commit_id=a_commit_id(f"commit {rev}"), trail=trail))
        burials = [a_tombstone(rev=rev, trail=a_trail(action="erase", version=rev + 1)) for rev in range(70, 73)]
        for change in burials:
            await warm.commit(change)
        await warm.purge(KEY)
        for change in burials:
            assert await warm.find_commit(KEY, 60, change.commit_id) == change.rev + 1
        for rev in (0, 30, 69):
            assert await warm.find_commit(KEY, rev, a_commit_id(f"commit {rev}")) == rev + 1
        page = await warm.trail(TrailQuery(KEY.tenant, 100, session=KEY.id))
        assert [line.version for _, line in page.items] == list(range(73, 0, -1))

    async def test_of_sixty_four_rivals_at_any_rev_one_lands_and_is_found(self, warm: Warm) -> None:
        await warm.commit(a_change())
        for rev in range(1, 4):
            rivals = [a_change(rev=rev, entries=[a_line(rev, f"rival {i}")], trail=a_trail()) for i in range(64)]
            results = await asyncio.gather(*[warm.commit(rival) for rival in rivals], return_exceptions=True)
            assert [type(e) for e in results if e is not None] == [RevConflict] * 63
            winner = results.index(None)
            assert (await warm.load(KEY, tail=1)).tail == rivals[winner].entries
            found = [await warm.find_commit(KEY, rev, rival.commit_id) for rival in rivals]
            assert found == [rev + 1 if i == winner else None for i in range(64)]
        page = await warm.trail(TrailQuery(KEY.tenant, 100))
        assert len(page.items) == 3
