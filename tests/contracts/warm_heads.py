"""What every warm tier promises about heads, their tails, and what makes commits safe to repeat."""

from __future__ import annotations

import asyncio
import re

import pytest

from sessionmanager.errors import NotFound, RevConflict
from sessionmanager.model.head import PARTS, STUB_PARTS
from sessionmanager.tiers.warm.protocol import Warm
from sessionmanager.words import Key
from tests.support.builders import (
    KEY,
    T0,
    T1,
    T2,
    T3,
    a_change,
    a_commit_id,
    a_head,
    a_key_record,
    a_line,
    a_listing,
    a_stored,
    a_tombstone,
    a_trail,
    lines,
)

AWKWARD_IDS = (
    *("a", "a:b", "ab", "a/../b", "1:a", "A", " ", "a\n", "$where", "%", "_", "a'b\"c"),
    *("zażółć", "📞☎️", "e\u0301", "\u00e9", "x" * 128),
)


class WarmHeadsContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_a_created_session_is_loaded_as_it_was_written(self, warm: Warm) -> None:
        head = a_head(bot_name="support", context=b'{"k":1}', entry_count=2)
        change = a_change(head=head, entries=lines(1, 2))
        await warm.commit(change)
        loaded = await warm.load(KEY, tail=10)
        assert (loaded.stored.key, loaded.stored.rev, loaded.stored.version) == (KEY, 1, 1)
        assert dict(loaded.stored.parts) == dict(a_stored(head).parts)
        assert loaded.stored.head == head
        assert loaded.stored.placement == "warm"
        assert loaded.stored.tombstone is None
        assert loaded.tail == lines(1, 2)

    async def test_what_was_never_created_is_not_found(self, warm: Warm) -> None:
        with pytest.raises(NotFound):
            await warm.load(KEY)
        assert await warm.read(KEY, after=0, before=100, limit=10) == []
        assert await warm.find_commit(KEY, 0, a_commit_id("x")) is None
        assert await warm.find_key(KEY, b"scope") is None
        assert await warm.find_entry_ids(KEY, [a_commit_id("x")]) == {}

    async def test_a_session_is_created_once(self, warm: Warm) -> None:
        await warm.commit(a_change(head=a_head(bot_name="first")))
        with pytest.raises(RevConflict):
            await warm.commit(a_change(head=a_head(bot_name="second")))
        assert (await warm.load(KEY)).stored.head.profile.bot_name == "first"

    async def test_of_many_creates_at_once_one_lands(self, warm: Warm) -> None:
        rivals = [warm.commit(a_change(head=a_head(bot_name=f"bot {i}"))) for i in range(20)]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        assert [type(e) for e in results if e is not None] == [RevConflict] * 19
        assert (await warm.load(KEY)).stored.head.profile.bot_name == f"bot {results.index(None)}"

    async def test_of_many_commits_from_one_rev_one_lands(self, warm: Warm) -> None:
        await warm.commit(a_change())
        rivals = [warm.commit(a_change(rev=1, entries=[a_line(1, f"rival {i}")])) for i in range(20)]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        assert [type(e) for e in results if e is not None] == [RevConflict] * 19
        loaded = await warm.load(KEY, tail=10)
        assert loaded.stored.rev == 2
        assert loaded.tail == (a_line(1, f"rival {results.index(None)}"),)

    @pytest.mark.parametrize("rev", [0, 1, 3, 4])
    async def test_a_change_from_another_rev_writes_nothing(self, warm: Warm, rev: int) -> None:
        first, second = a_change(listing=a_listing()), a_change(rev=1, due_at=T3)
        await warm.commit(first)
        await warm.commit(second)
        loser = a_change(
            rev=rev,
            head=a_head(rev=rev + 1, bot_name="loser"),
            changed=PARTS,
            entries=[a_line(rev + 1, "loser")],
            commit_id=a_commit_id("loser"),
            due_at=T0,
            trail=a_trail(actor="loser"),
            idempotency=a_key_record("loser"),
            entry_ids=((a_commit_id("entry"), 1),),
            listing=a_listing("label:loser", status="ended"),
        )
        with pytest.raises(RevConflict):
            await warm.commit(loser)
        loaded = await warm.load(KEY, tail=10)
        assert loaded.stored.rev == 2
        assert loaded.stored.head.profile.bot_name is None
        assert loaded.tail == ()
        assert await warm.find_commit(KEY, 0, a_commit_id("loser")) is None
        assert await warm.find_key(KEY, b"loser") is None
        assert await warm.find_entry_ids(KEY, [a_commit_id("entry")]) == {}
        assert await warm.due(T2, 10) == []
        assert await warm.counts(KEY.tenant) == {("active", "warm"): 1}

    async def test_a_change_of_a_session_that_never_was_is_refused(self, warm: Warm) -> None:
        with pytest.raises(RevConflict):
            await warm.commit(a_change(rev=1))
        with pytest.raises(NotFound):
            await warm.load(KEY)

    async def test_parts_that_a_change_does_not_name_keep_their_bytes(self, warm: Warm) -> None:
        await warm.commit(a_change(head=a_head(context=b'"old"', bot_name="old")))
        after = a_head(rev=2, context=b'"new"', bot_name="new")
        await warm.commit(a_change(rev=1, head=after, changed=("pulse", "context")))
        stored = (await warm.load(KEY)).stored
        assert stored.parts["context"] == b'"new"'
        assert stored.parts["pulse"] == a_stored(after).parts["pulse"]
        assert stored.parts["profile"] == a_stored(a_head(bot_name="old")).parts["profile"]
        assert stored.parts["work"] == a_stored(a_head()).parts["work"]

    async def test_rev_moves_without_version(self, warm: Warm) -> None:
        await warm.commit(a_change())
        await warm.commit(a_change(rev=1, head=a_head(rev=2, version=1)))
        stored = (await warm.load(KEY)).stored
        assert (stored.rev, stored.version) == (2, 1)

    async def test_dropped_parts_are_gone_and_come_back_when_written_again(self, warm: Warm) -> None:
        await warm.commit(a_change(head=a_head(entry_count=3), entries=lines(1, 3)))
        dropped = tuple(name for name in PARTS if name not in STUB_PARTS)
        stub = a_change(rev=1, placement="cold", changed=("pulse",), dropped=dropped, tail_from=4)
        await warm.commit(stub)
        loaded = await warm.load(KEY, tail=10)
        assert set(loaded.stored.parts) == set(STUB_PARTS)
        assert (loaded.stored.placement, loaded.tail) == ("cold", ())
        back = a_change(rev=2, head=a_head(rev=3, entry_count=4), changed=PARTS, entries=lines(2, 4))
        await warm.commit(back)
        loaded = await warm.load(KEY, tail=10)
        assert set(loaded.stored.parts) == set(PARTS)
        assert (loaded.stored.placement, loaded.tail) == ("warm", lines(2, 4))
        await warm.commit(a_change(rev=3, tail_from=3))
        assert (await warm.load(KEY, tail=10)).tail == lines(3, 4)

    async def test_the_tail_is_the_newest_lines_ascending(self, warm: Warm) -> None:
        await warm.commit(a_change(entries=lines(1, 3)))
        await warm.commit(a_change(rev=1, entries=lines(4, 9)))
        assert (await warm.load(KEY)).tail == ()
        assert (await warm.load(KEY, tail=4)).tail == lines(6, 9)
        assert (await warm.load(KEY, tail=100)).tail == lines(1, 9)

    async def test_lines_are_read_between_two_seqs_in_either_order(self, warm: Warm) -> None:
        await warm.commit(a_change(entries=lines(1, 20)))
        assert await warm.read(KEY, after=0, before=1000, limit=1000) == list(lines(1, 20))
        assert await warm.read(KEY, after=4, before=8, limit=10) == list(lines(5, 7))
        assert await warm.read(KEY, after=4, before=20, limit=2) == list(lines(5, 6))
        assert await warm.read(KEY, after=4, before=20, limit=2, descending=True) == list(lines(18, 19))[::-1]
        assert await warm.read(KEY, after=7, before=8, limit=10) == []
        assert await warm.read(KEY, after=20, before=1 << 53, limit=10) == []

    async def test_lines_below_the_tail_leave_it(self, warm: Warm) -> None:
        await warm.commit(a_change(entries=lines(1, 10)))
        await warm.commit(a_change(rev=1, entries=lines(11, 12), tail_from=8))
        assert await warm.read(KEY, after=0, before=1000, limit=1000) == list(lines(8, 12))
        await warm.commit(a_change(rev=2, entries=lines(13, 13), tail_from=8))
        await warm.commit(a_change(rev=3, tail_from=13))
        assert (await warm.load(KEY, tail=10)).tail == lines(13, 13)

    async def test_a_commit_is_found_by_its_id_among_those_after_a_rev(self, warm: Warm) -> None:
        for rev in range(6):
            trail = a_trail() if rev % 2 else None
            await warm.commit(a_change(rev=rev, commit_id=a_commit_id(f"commit {rev}"), trail=trail))
        await warm.note([a_trail(outcome="forbidden")])
        for rev in range(6):
            assert await warm.find_commit(KEY, rev, a_commit_id(f"commit {rev}")) == rev + 1
            assert await warm.find_commit(KEY, 0, a_commit_id(f"commit {rev}")) == rev + 1
            assert await warm.find_commit(KEY, rev + 1, a_commit_id(f"commit {rev}")) is None
        assert await warm.find_commit(KEY, 0, a_commit_id("never")) is None

    async def test_a_commit_that_lost_is_never_found(self, warm: Warm) -> None:
        await warm.commit(a_change())
        ids = [a_commit_id(f"rival {i}") for i in range(10)]
        rivals = [warm.commit(a_change(rev=1, commit_id=commit_id)) for commit_id in ids]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        found = [await warm.find_commit(KEY, 1, commit_id) for commit_id in ids]
        assert found == [2 if result is None else None for result in results]

    async def test_a_key_record_is_found_as_it_was_written(self, warm: Warm) -> None:
        record = a_key_record("scope", request="body", version=1)
        await warm.commit(a_change(idempotency=record))
        await warm.commit(a_change(rev=1, idempotency=a_key_record("other", version=2)))
        assert await warm.find_key(KEY, b"scope") == record
        assert await warm.find_key(KEY, b"scop") is None
        assert await warm.find_key(Key(KEY.tenant, "another"), b"scope") is None

    async def test_a_key_that_is_used_anew_has_its_newest_record(self, warm: Warm) -> None:
        await warm.commit(a_change(idempotency=a_key_record(version=1)))
        again = a_key_record(request="other", version=2)
        await warm.commit(a_change(rev=1, idempotency=again))
        assert await warm.find_key(KEY, b"scope") == again

    async def test_entry_ids_are_known_for_ever(self, warm: Warm) -> None:
        ids = [a_commit_id(f"id {i}") for i in range(300)]
        await warm.commit(a_change(entries=lines(1, 200), entry_ids=tuple((ids[i], i + 1) for i in range(200))))
        await warm.commit(a_change(rev=1, entries=lines(201, 201), entry_ids=((ids[200], 201),), tail_from=201))
        await warm.commit(a_change(rev=2, placement="cold", dropped=("detail", "context", "index")))
        assert await warm.find_entry_ids(KEY, ids) == {ids[i]: i + 1 for i in range(201)}
        assert await warm.find_entry_ids(KEY, []) == {}
        assert await warm.find_entry_ids(Key(KEY.tenant, "another"), ids) == {}

    async def test_an_erased_session_leaves_its_tombstone_alone(self, warm: Warm) -> None:
        await warm.commit(a_change(head=a_head(context=b'"secret"'), entries=lines(1, 2), due_at=T1))
        change = a_tombstone(rev=1, due_at=T2)
        await warm.commit(change)
        loaded = await warm.load(KEY, tail=10)
        assert (loaded.stored.rev, loaded.stored.version) == (2, 2)
        assert loaded.stored.tombstone == change.stored.tombstone
        assert (dict(loaded.stored.parts), loaded.tail) == ({}, ())
        assert await warm.read(KEY, after=0, before=100, limit=10) == []
        assert await warm.due(T1, 10) == []
        assert await warm.due(T2, 10) == [KEY]

    async def test_no_answer_is_kept_of_an_erased_session(self, warm: Warm) -> None:
        await warm.commit(a_change(idempotency=a_key_record()))
        assert await warm.find_key(KEY, b"scope") == a_key_record()
        await warm.commit(a_tombstone(rev=1))
        assert await warm.find_key(KEY, b"scope") is None

    async def test_what_was_erased_is_never_created_again(self, warm: Warm) -> None:
        await warm.commit(a_change())
        await warm.commit(a_tombstone(rev=1))
        for rev in (0, 1):
            with pytest.raises(RevConflict):
                await warm.commit(a_change(rev=rev))
        done = a_tombstone(rev=2)
        await warm.commit(done)
        assert (await warm.load(KEY)).stored.tombstone == done.stored.tombstone

    async def test_due_sessions_come_longest_due_first(self, warm: Warm) -> None:
        owed = {"c": T2, "a": T3, "b": T1, "d": None, "e": T0}
        for session_id, due_at in owed.items():
            await warm.commit(a_change(Key("acme", session_id), due_at=due_at))
        await warm.commit(a_change(Key("other", "b"), due_at=T3))
        assert await warm.due(T2, 10) == [Key("acme", "e"), Key("acme", "b"), Key("acme", "c")]
        assert await warm.due(T2, 2) == [Key("acme", "e"), Key("acme", "b")]
        assert await warm.due("2000-01-01T00:00:00.000Z", 10) == []
        assert set(await warm.due(T3, 10)) >= {Key("acme", "a"), Key("other", "b")}

    async def test_each_commit_says_anew_when_a_session_is_due(self, warm: Warm) -> None:
        await warm.commit(a_change(due_at=T1))
        await warm.commit(a_change(rev=1, due_at=T3))
        assert await warm.due(T2, 10) == []
        assert await warm.due(T3, 10) == [KEY]
        await warm.commit(a_change(rev=2, due_at=T3))
        assert await warm.due(T3, 10) == [KEY]
        await warm.commit(a_change(rev=3, due_at=None))
        assert await warm.due(T3, 10) == []

    async def test_ids_and_tenants_are_data_and_never_meet(self, warm: Warm) -> None:
        keys = [
            Key(tenant, session_id) for tenant in ("acme", "acme:a", "Acme", "zażółć") for session_id in AWKWARD_IDS
        ]
        for number, key in enumerate(keys):
            await warm.commit(
                a_change(key, head=a_head(key, bot_name=f"bot {number}"), entries=[a_line(1, f"{number}")])
            )
        for number, key in enumerate(keys):
            loaded = await warm.load(key, tail=5)
            assert loaded.stored.key == key
            assert loaded.stored.head.profile.bot_name == f"bot {number}"
            assert loaded.tail == (a_line(1, f"{number}"),)

    async def test_sixty_four_writers_at_once_lose_nothing(self, warm: Warm) -> None:
        keys = [Key("acme", f"call-{i}") for i in range(64)]

        async def write(key: Key) -> None:
            await warm.commit(a_change(key))
            for rev in range(1, 6):
                await warm.commit(a_change(key, rev=rev, entries=[a_line(rev, f"{key.id} {rev}")]))

        await asyncio.gather(*[write(key) for key in keys])
        for key in keys:
            loaded = await warm.load(key, tail=100)
            assert loaded.stored.rev == 6
            assert loaded.tail == tuple(a_line(rev, f"{key.id} {rev}") for rev in range(1, 6))

    async def test_a_reader_sees_whole_commits_only(self, warm: Warm) -> None:
        await warm.commit(a_change())
        done = asyncio.Event()

        async def watch() -> list[tuple[int, int]]:
            seen: list[tuple[int, int]] = []
            while not done.is_set():
                loaded = await warm.load(KEY, tail=100)
                assert len(loaded.tail) == 2 * (loaded.stored.rev - 1)
                assert loaded.stored.head.pulse.entry_count == len(loaded.tail)
                seen.append((loaded.stored.rev, len(loaded.tail)))
                await asyncio.sleep(0)  # a turn for the writer, no time
            return seen

        watching = asyncio.create_task(watch())
        for rev in range(1, 21):
            await warm.commit(a_change(rev=rev, entries=lines(2 * rev - 1, 2 * rev)))
        done.set()
        assert sorted(await watching) == await watching

    async def test_huge_values_come_back_whole(self, warm: Warm) -> None:
        context = b'"' + b"c" * 262_144 + b'"'
        big = [a_line(seq, "x" * 65_536) for seq in range(1, 41)]
        await warm.commit(a_change(head=a_head(context=context, entry_count=40), entries=big))
        loaded = await warm.load(KEY, tail=100)
        assert loaded.stored.parts["context"] == context
        assert list(loaded.tail) == big

    async def test_the_clock_never_goes_back(self, warm: Warm) -> None:
        readings = [warm.now() for _ in range(1000)]
        assert readings == sorted(readings)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", readings[0])

    async def test_the_clock_says_by_how_much_it_may_be_off(self, warm: Warm) -> None:
        assert 0.0 <= warm.clock_error() < 60.0
