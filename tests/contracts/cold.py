"""What every cold tier promises."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from sessionmanager.errors import AlreadyExists, NotFound
from sessionmanager.tiers.cold.protocol import Cold

NAME = "t-mfrgg/s-4f2a/segment-1-400.1"
BAD_NAMES = (
    "", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "./a", "/etc/passwd", "a\\b", "A",
    "a_b", "_temp/a", "a b", "a\nb", "a\n", "a\0b", "é", "a%2e", "a+", "~", "a:b", "x" * 513,
)  # fmt: skip
GOOD_NAMES = ("a", "...", ".hidden", "..a", "a..", "-", "-rf", "a.b-c", "0/1/2/3/4/5/6/7/8/9", "x" * 512)
BIG_BYTES = 16 * 1024 * 1024


class ColdContract:
    """What every cold tier promises. A subclass gives the fixture `cold`, empty and open."""

    async def test_what_was_put_comes_back(self, cold: Cold) -> None:
        for data in (b"", b"\0", bytes(range(256)) * 5, b"_temp\n"):
            name = f"back/{len(data)}"
            await cold.put_once(name, data)
            assert await cold.get(name) == data

    async def test_an_attachment_of_the_greatest_size_comes_back(self, cold: Cold) -> None:
        data = bytes(range(256)) * (BIG_BYTES // 256)
        await cold.put_once(NAME, data)
        assert await cold.get(NAME) == data
        await cold.put_once(NAME, data)
        with pytest.raises(AlreadyExists):
            await cold.put_once(NAME, data[:-1] + b"\0")

    async def test_what_was_never_put_is_not_found(self, cold: Cold) -> None:
        await cold.put_once("a/b/c", b"1")
        for name in ("b", "a", "a/b", "a/b/d", "a/b/c/d", "a/bc", "b/b/c"):
            with pytest.raises(NotFound):
                await cold.get(name)

    async def test_the_same_bytes_again_are_fine(self, cold: Cold) -> None:
        await cold.put_once(NAME, b"first")
        await cold.put_once(NAME, b"first")
        assert await cold.get(NAME) == b"first"

    async def test_other_bytes_are_refused_and_the_first_stay(self, cold: Cold) -> None:
        await cold.put_once(NAME, b"first")
        for other in (b"other", b"", b"firs", b"first and more"):
            with pytest.raises(AlreadyExists):
                await cold.put_once(NAME, other)
        assert await cold.get(NAME) == b"first"

    async def test_of_many_rivals_for_one_name_one_wins(self, cold: Cold) -> None:
        bodies = [f"rival {number}".encode() * 100 for number in range(20)]
        rivals = [cold.put_once(NAME, body) for body in bodies]
        ends = await asyncio.gather(*rivals, return_exceptions=True)
        lost = [type(end) for end in ends if end is not None]
        assert lost == [AlreadyExists] * 19
        assert await cold.get(NAME) == bodies[ends.index(None)]

    async def test_many_who_put_the_same_all_succeed(self, cold: Cold) -> None:
        await asyncio.gather(*(cold.put_once(NAME, b"the same") for _ in range(20)))
        assert await cold.get(NAME) == b"the same"
        assert await cold.list("t-mfrgg/") == [NAME]

    async def test_many_objects_at_once_all_stand(self, cold: Cold) -> None:
        names = [f"many/{number % 3}/{number % 5}/{number}" for number in range(60)]
        await asyncio.gather(*(cold.put_once(name, name.encode()) for name in names))
        assert await asyncio.gather(*(cold.get(name) for name in names)) == [name.encode() for name in names]
        assert await cold.list("many/") == sorted(names)

    async def test_what_is_no_name_is_refused_everywhere(self, cold: Cold) -> None:
        for name in BAD_NAMES:
            for call in (cold.put_once(name, b"x"), cold.get(name), cold.remove(name), cold.list(f"{name}/")):
                with pytest.raises(ValueError, match="is no name"):
                    await call

    async def test_every_allowed_name_is_a_name_of_its_own(self, cold: Cold) -> None:
        for name in GOOD_NAMES:
            await cold.put_once(name, name.encode())
            await cold.put_once(f"in/{name}"[:512], name.encode())
        assert [(await cold.get(name)).decode() for name in GOOD_NAMES] == list(GOOD_NAMES)
        assert await cold.list("in/") == sorted(f"in/{name}"[:512] for name in GOOD_NAMES)
        for name in GOOD_NAMES:
            await cold.remove(name)
        assert len(await cold.list("in/")) == len(GOOD_NAMES)

    async def test_a_name_may_begin_with_another_name(self, cold: Cold) -> None:
        names = ["a", "a/b", "a/b/c", "a-", "a.b", "ab"]
        for name in names:
            await cold.put_once(name, name.encode())
        for shorter, longer in pairwise(names):
            assert await cold.get(shorter) == shorter.encode()
            await cold.remove(shorter)
            assert await cold.get(longer) == longer.encode()

    async def test_a_list_holds_all_names_below_its_prefix_in_order_and_no_others(self, cold: Cold) -> None:
        for name in ("a/c", "a/b/2", "a/b/10", "a/b", "a-b/1", "ab/1", "a", "b/a/b/1"):
            await cold.put_once(name, b"x")
        assert await cold.list("a/") == ["a/b", "a/b/10", "a/b/2", "a/c"]
        assert await cold.list("a/b/") == ["a/b/10", "a/b/2"]
        assert await cold.list("c/") == []
        assert await cold.list("a/b/10/") == []

    async def test_a_prefix_ends_in_a_slash(self, cold: Cold) -> None:
        for prefix in ("a", "", "/"):
            with pytest.raises(ValueError, match="is no"):
                await cold.list(prefix)

    async def test_a_list_of_many_names_is_whole(self, cold: Cold) -> None:
        names = sorted(f"long/{number}" for number in range(130))
        for first in range(0, len(names), 50):
            await asyncio.gather(*(cold.put_once(name, b"") for name in names[first : first + 50]))
        assert await cold.list("long/") == names

    async def test_what_was_removed_is_gone_and_removing_it_again_is_fine(self, cold: Cold) -> None:
        await cold.put_once(NAME, b"first")
        await cold.put_once("t-mfrgg/s-4f2a/segment-401-800.1", b"second")
        await cold.remove(NAME)
        await cold.remove(NAME)
        await cold.remove("never/put")
        with pytest.raises(NotFound):
            await cold.get(NAME)
        assert await cold.list("t-mfrgg/") == ["t-mfrgg/s-4f2a/segment-401-800.1"]

    async def test_a_removed_name_may_be_put_anew(self, cold: Cold) -> None:
        await cold.put_once(NAME, b"first")
        await cold.remove(NAME)
        await cold.put_once(NAME, b"second")
        assert await cold.get(NAME) == b"second"

    async def test_putting_and_removing_at_once_never_lose_a_neighbour(self, cold: Cold) -> None:
        for number in range(10):
            await cold.put_once(f"near/{number}/old", b"old")
            old, new = cold.remove(f"near/{number}/old"), cold.put_once(f"near/{number}/new", b"new")
            await asyncio.gather(old, new)
        assert await cold.list("near/") == [f"near/{number}/new" for number in range(10)]
