"""What every warm tier promises about bodies, records and the audit trail."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest

from sessionmanager.errors import AlreadyExists, NotFound, RevConflict
from sessionmanager.model.change import Trail
from sessionmanager.tiers.warm.protocol import Record, TrailQuery, Warm
from sessionmanager.words import Key
from tests.support.builders import (
    KEY,
    T0,
    T1,
    T2,
    T3,
    a_change,
    a_commit_id,
    a_key_record,
    a_tombstone,
    a_trail,
    lines,
)

PAGES_MAX = 100
HASHED = f"sha256:{hashlib.sha256(KEY.id.encode()).hexdigest()}"


async def trailed(warm: Warm, query: TrailQuery) -> list[Trail]:
    """Lines of all pages, one after the other."""
    found: list[Trail] = []
    numbers: list[int] = []
    for _ in range(PAGES_MAX):
        page = await warm.trail(query)
        assert len(page.items) <= query.limit
        found += [line for _, line in page.items]
        numbers += [number for number, _ in page.items]
        if page.next is None:
            assert numbers == sorted(set(numbers), reverse=True)
            return found
        query = query._replace(before=page.next)
    raise AssertionError("a trail without an end")


class WarmBodiesContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_a_body_is_kept_as_it_is_under_an_id_used_once(self, warm: Warm) -> None:
        await warm.put_body(KEY, "segment-1", b"\x00\xff" * 10)
        await warm.put_body(KEY, "segment-1", b"\x00\xff" * 10)
        with pytest.raises(AlreadyExists):
            await warm.put_body(KEY, "segment-1", b"other")
        assert await warm.get_body(KEY, "segment-1") == b"\x00\xff" * 10
        with pytest.raises(NotFound):
            await warm.get_body(KEY, "segment-2")

    async def test_of_many_bodies_under_one_id_one_is_kept(self, warm: Warm) -> None:
        puts = [warm.put_body(KEY, "segment", b"body %d" % i) for i in range(10)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(e) for e in results if e is not None] == [AlreadyExists] * 9
        assert await warm.get_body(KEY, "segment") == b"body %d" % results.index(None)

    async def test_bodies_of_a_session_are_its_own(self, warm: Warm) -> None:
        others = (Key("acme", "call-47"), Key("acme", "call-47111"), Key("other", KEY.id))
        for number, key in enumerate((KEY, *others)):
            await warm.put_body(key, "segment", b"%d" % number)
        await warm.put_body(KEY, "node", b"node")
        assert sorted(await warm.list_bodies(KEY)) == ["node", "segment"]
        await warm.drop_bodies(KEY, ["segment", "never there"])
        assert await warm.list_bodies(KEY) == ["node"]
        for number, key in enumerate(others, 1):
            assert await warm.get_body(key, "segment") == b"%d" % number
        assert await warm.list_bodies(Key("acme", "nobody")) == []

    async def test_many_and_huge_bodies_can_be_dropped(self, warm: Warm) -> None:
        for number in range(50):
            await warm.put_body(KEY, f"segment-{number}", b"x")
        await warm.put_body(KEY, "huge", b"h" * 5_000_000)
        assert await warm.get_body(KEY, "huge") == b"h" * 5_000_000
        await warm.drop_bodies(KEY, await warm.list_bodies(KEY))
        assert await warm.list_bodies(KEY) == []

    async def test_a_purge_removes_all_but_the_tombstone(self, warm: Warm) -> None:
        digest = a_commit_id("entry")
        await warm.commit(
            a_change(entries=lines(1, 1200), idempotency=a_key_record(), entry_ids=((digest, 1),), trail=a_trail())
        )
        for number in range(45):
            await warm.put_body(KEY, f"segment-{number}", b"body")
        await warm.commit(a_tombstone(rev=1))
        for _ in range(2):
            await warm.purge(KEY)
            assert (await warm.load(KEY)).stored.tombstone is not None
            assert await warm.read(KEY, after=0, before=10_000, limit=10) == []
            assert await warm.list_bodies(KEY) == []
            assert await warm.find_key(KEY, b"scope") is None
            assert await warm.find_entry_ids(KEY, [digest]) == {}
        with pytest.raises(RevConflict):
            await warm.commit(a_change())

    async def test_a_purge_touches_no_other_session_and_none_that_lives(self, warm: Warm) -> None:
        neighbours = [Key("acme", "call-4710"), Key("acme", "call-47111"), Key("other", KEY.id)]
        for key in (neighbours[0], KEY, *neighbours[1:]):
            await warm.commit(a_change(key, entries=lines(1, 5), idempotency=a_key_record()))
            await warm.put_body(key, "segment", b"body")
        with contextlib.suppress(ValueError):  # refused or passed over, but not done
            await warm.purge(neighbours[0])
        await warm.commit(a_tombstone(rev=1))
        await warm.purge(KEY)
        await warm.purge(Key("acme", "nobody"))
        for key in neighbours:
            assert (await warm.load(key, tail=10)).tail == lines(1, 5)
            assert await warm.get_body(key, "segment") == b"body"
            assert await warm.find_key(key, b"scope") == a_key_record()


class WarmRecordsContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_a_record_moves_from_rev_to_rev(self, warm: Warm) -> None:
        assert await warm.get_record("acme", "settings", "one") is None
        await warm.put_record("acme", "settings", "one", b"first", rev=0)
        await warm.put_record("acme", "settings", "one", b"second", rev=1)
        for rev in (0, 1, 3):
            with pytest.raises(RevConflict):
                await warm.put_record("acme", "settings", "one", b"loser", rev=rev)
        assert await warm.get_record("acme", "settings", "one") == Record("one", 2, b"second")

    async def test_a_removed_record_is_gone_and_may_be_made_again(self, warm: Warm) -> None:
        await warm.put_record("acme", "settings", "one", b"first", rev=0)
        with pytest.raises(RevConflict):
            await warm.put_record("acme", "settings", "one", None, rev=2)
        await warm.put_record("acme", "settings", "one", None, rev=1)
        assert await warm.get_record("acme", "settings", "one") is None
        with pytest.raises(RevConflict):
            await warm.put_record("acme", "settings", "one", b"second", rev=1)
        await warm.put_record("acme", "settings", "one", b"second", rev=0)
        assert await warm.get_record("acme", "settings", "one") == Record("one", 1, b"second")

    async def test_of_many_writers_of_a_record_one_wins(self, warm: Warm) -> None:
        puts = [warm.put_record("acme", "key", "k", b"%d" % i, rev=0) for i in range(10)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [type(e) for e in results if e is not None] == [RevConflict] * 9
        assert await warm.get_record("acme", "key", "k") == Record("k", 1, b"%d" % results.index(None))

    async def test_records_are_apart_by_tenant_and_kind(self, warm: Warm) -> None:
        places = [("acme", "a"), ("acme", "ab"), ("acm", "ea"), ("", "a")]
        for tenant, kind in places:
            await warm.put_record(tenant, kind, "id", f"{tenant}/{kind}".encode(), rev=0)
        for tenant, kind in places:
            assert await warm.list_records(tenant, kind) == [Record("id", 1, f"{tenant}/{kind}".encode())]
        assert await warm.list_records("nobody", "a") == []

    async def test_records_are_listed_in_the_order_of_their_ids(self, warm: Warm) -> None:
        ids = ["b", "a", "a/2", "a/1", "a/10", "a0", "A", "zażółć", "📞", "a/"]
        for record_id in ids:
            await warm.put_record("acme", "kind", record_id, record_id.encode(), rev=0)

        async def found(after: str = "", prefix: str = "", limit: int = 200) -> list[str]:
            return [r.id for r in await warm.list_records("acme", "kind", after=after, prefix=prefix, limit=limit)]

        assert await found() == sorted(ids)
        assert await found(limit=2) == sorted(ids)[:2]
        assert await found(after="a/1") == [i for i in sorted(ids) if i > "a/1"]
        assert await found(prefix="a/") == ["a/", "a/1", "a/10", "a/2"]
        assert await found(prefix="a/", after="a/1", limit=1) == ["a/10"]
        assert await found(prefix="📞") == ["📞"]
        assert await found(prefix="%") == []

    async def test_a_sweep_forgets_what_is_over_and_nothing_else(self, warm: Warm) -> None:
        await warm.commit(a_change(entries=lines(1, 2), idempotency=a_key_record("old", expires_at=T1)))
        await warm.commit(a_change(rev=1, idempotency=a_key_record("new", expires_at=T3)))
        await warm.put_record("acme", "revoked", "old", b"x", rev=0, expires_at=T1)
        await warm.put_record("acme", "revoked", "new", b"x", rev=0, expires_at=T3)
        await warm.put_record("acme", "revoked", "for ever", b"x", rev=0)
        assert await warm.sweep(T0, 100) == 0
        assert await warm.sweep(T2, 100) == 2
        assert await warm.sweep(T2, 100) == 0
        assert await warm.find_key(KEY, b"old") is None
        assert await warm.find_key(KEY, b"new") is not None
        assert [r.id for r in await warm.list_records("acme", "revoked")] == ["for ever", "new"]
        assert (await warm.load(KEY, tail=10)).tail == lines(1, 2)

    async def test_a_sweep_keeps_to_its_bound(self, warm: Warm) -> None:
        for rev in range(5):
            await warm.commit(a_change(rev=rev, idempotency=a_key_record(f"{rev}", expires_at=T1)))
            await warm.put_record("acme", "revoked", f"{rev}", b"x", rev=0, expires_at=T1)
        assert [await warm.sweep(T2, 4) for _ in range(4)] == [4, 4, 2, 0]

    async def test_a_sweep_of_less_than_its_bound_has_left_nothing(self, warm: Warm) -> None:
        for i in range(120):
            await warm.commit(a_change(key=Key("acme", f"s{i}"), idempotency=a_key_record("old", expires_at=T1)))
        assert [await warm.sweep(T2, 110), await warm.sweep(T2, 110), await warm.sweep(T2, 110)] == [110, 10, 0]

    async def test_a_record_that_is_written_again_has_its_new_expiry(self, warm: Warm) -> None:
        await warm.put_record("acme", "revoked", "id", b"x", rev=0, expires_at=T1)
        await warm.put_record("acme", "revoked", "id", b"x", rev=1, expires_at=None)
        assert await warm.sweep(T3, 10) == 0
        assert await warm.get_record("acme", "revoked", "id") == Record("id", 2, b"x")


class WarmTrailContract:
    """A subclass gives the fixture `warm`, empty and open."""

    async def test_the_trail_is_newest_first_and_whole(self, warm: Warm) -> None:
        created = a_trail(action="session.create", version=1, request_id="request-1")
        appended = a_trail(at=T1, actor="bob", version=2)
        refused = a_trail(None, at=T2, actor="eve", action="token.mint", outcome="forbidden")
        await warm.commit(a_change(trail=created))
        await warm.commit(a_change(rev=1, trail=appended))
        await warm.commit(a_change(rev=2, trail=None))
        await warm.note([refused, a_trail(at=T3, outcome="invalid")])
        expected = [a_trail(at=T3, outcome="invalid"), refused, appended, created]
        for limit in (1, 2, 3, 10):
            assert await trailed(warm, TrailQuery("acme", limit)) == expected

    async def test_each_filter_of_the_trail_matches_exactly(self, warm: Warm) -> None:
        other = Key("acme", "call-47")
        kept = [
            a_trail(at=T0),
            a_trail(other, at=T1, actor="bob"),
            a_trail(at=T2, action="session.patch"),
            a_trail(other, at=T3, outcome="forbidden"),
            a_trail(Key("acme", "never there"), at=T3, outcome="not-found"),
            a_trail(None, at=T3, action="token.mint"),
        ]
        await warm.commit(a_change(trail=kept[0]))
        await warm.commit(a_change(other, trail=kept[1]))
        await warm.commit(a_change(rev=1, trail=kept[2]))
        await warm.note(kept[3:])
        for changes, expected in (
            ({"actor": "bob"}, [1]),
            ({"action": "session.patch"}, [2]),
            ({"outcome": "forbidden"}, [3]),
            ({"session": KEY.id}, [2, 0]),
            ({"session": "call-47"}, [3, 1]),
            ({"session": "never there"}, [4]),
            ({"session": "call"}, []),
            ({"since": T2}, [5, 4, 3, 2]),
            ({"until": T2}, [1, 0]),
            ({"since": T1, "until": T3}, [2, 1]),
            ({"session": KEY.id, "action": "session.append"}, [0]),
            ({"actor": "nobody"}, []),
        ):
            for limit, scan_max in ((1, 100), (10, 1), (10, 100)):
                query = TrailQuery("acme", limit, scan_max=scan_max, **changes)
                assert await trailed(warm, query) == [kept[i] for i in expected], changes

    async def test_the_trail_of_a_session_goes_on_over_pages_with_others_between(self, warm: Warm) -> None:
        other = Key("acme", "other")
        await warm.note([a_trail(outcome="not-found")])
        await warm.commit(a_change(other))
        for rev in range(30):
            await warm.commit(a_change(rev=rev, trail=a_trail(version=rev + 1)))
            await warm.commit(a_change(other, rev=rev + 1, trail=a_trail(other)))
            if rev % 10 == 0:
                await warm.note([a_trail(outcome="forbidden", version=rev), a_trail(None)])
        for limit in (1, 7, 100):
            found = await trailed(warm, TrailQuery("acme", limit, session=KEY.id))
            assert [line.version for line in found if line.outcome == "ok"] == list(range(30, 0, -1))
            assert [line.version for line in found if line.outcome == "forbidden"] == [20, 10, 0]
            assert found[-1].outcome == "not-found"

    async def test_tenants_have_trails_of_their_own(self, warm: Warm) -> None:
        for tenant in ("acme", "acme2", "acm"):
            key = Key(tenant, "same id")
            await warm.commit(a_change(key, trail=a_trail(key, actor=f"of {tenant}")))
            await warm.note([a_trail(None, tenant=tenant, actor=f"of {tenant}")])
        for session in (None, "same id"):
            found = await trailed(warm, TrailQuery("acme", 10, session=session))
            assert {(line.tenant, line.actor) for line in found} == {("acme", "of acme")}
        assert await trailed(warm, TrailQuery("nobody", 10)) == []

    async def test_lines_of_an_erased_session_name_it_by_its_hash(self, warm: Warm) -> None:
        await warm.note([a_trail(outcome="not-found")])
        await warm.commit(a_change(trail=a_trail(action="session.create")))
        await warm.note([a_trail(outcome="forbidden")])
        await warm.commit(a_tombstone(rev=1, trail=a_trail(action="session.erase")))
        await warm.note([a_trail(outcome="erased")])
        await warm.purge(KEY)
        for session in (None, KEY.id, HASHED):
            found = await trailed(warm, TrailQuery("acme", 2, session=session))
            assert [(line.action, line.outcome) for line in found] == [
                ("session.append", "erased"),
                ("session.erase", "ok"),
                ("session.append", "forbidden"),
                ("session.create", "ok"),
                ("session.append", "not-found"),
            ]
            assert {line.session for line in found} == {HASHED}

    async def test_many_lines_are_noted_at_once(self, warm: Warm) -> None:
        noted = [a_trail(None, actor=f"actor {i}") for i in range(700)]
        await warm.note(noted)
        await warm.note([])
        assert await trailed(warm, TrailQuery("acme", 200)) == noted[::-1]
