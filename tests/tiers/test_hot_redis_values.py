"""What Redis holds of a session, and every way in which that may be wrong."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.model.codec import Stored
from sessionmanager.model.entry import StoredEntry
from sessionmanager.tiers.hot.protocol import HOT_PARTS, Copy
from sessionmanager.tiers.hot.redis_values import (
    META,
    Mismatch,
    Seal,
    line_fields,
    names_of,
    read_copy,
    whole_copy,
)
from sessionmanager.words import Key
from tests.support.hot_builders import AS_OF, KEY, OTHER, a_part, lines

pytestmark = pytest.mark.unit

MAC_KEY = bytes(range(32))
ENTRIES_MAX, BYTES_MAX = 100, 64 * 1024


def seal(key: Key = KEY) -> Seal:
    return Seal(MAC_KEY, key)


def a_copy(rev: int = 7, tail: tuple[StoredEntry, ...] = ()) -> Copy:
    return Copy(Stored(KEY, rev, rev - 2, {name: a_part(name, rev) for name in HOT_PARTS}), tail, AS_OF)


def kept(copy: Copy, key: Key = KEY) -> list[bytes]:
    """As HGETALL answers it."""
    return [one for field in whole_copy(seal(key), copy, ENTRIES_MAX, BYTES_MAX) for one in field]


def read(flat: list[bytes], key: Key = KEY) -> Copy | None:
    return read_copy(seal(key), key, flat)


def same(one: Copy, other: Copy) -> bool:
    return (
        one.stored.key == other.stored.key
        and (one.stored.rev, one.stored.version) == (other.stored.rev, other.stored.version)
        and dict(one.stored.parts) == dict(other.stored.parts)
        and one.stored.placement == other.stored.placement
        and (one.tail, one.as_of) == (other.tail, other.as_of)
    )


@given(
    rev=st.integers(min_value=1, max_value=2**53 - 1),
    first=st.integers(min_value=1, max_value=2**53 - 1),
    texts=st.lists(st.binary(min_size=1, max_size=300).filter(lambda data: b"\n" not in data), max_size=60),
    parts=st.dictionaries(st.sampled_from(HOT_PARTS), st.binary(max_size=500)),
)
def test_a_copy_reads_as_it_was_kept(rev: int, first: int, texts: list[bytes], parts: dict[str, bytes]) -> None:
    tail = tuple(StoredEntry(first + place, text) for place, text in enumerate(texts))
    copy = Copy(Stored(KEY, rev, rev, parts, placement="cold"), tail, AS_OF)
    back = read(kept(copy))
    assert back is not None
    assert same(back, copy)


def test_of_a_long_tail_the_newest_lines_are_kept() -> None:
    back = read(kept(a_copy(tail=lines(1, 500))))
    assert back is not None
    assert back.tail == lines(401, 500)
    back = read(kept(a_copy(tail=lines(1, 50, size=10_000))))
    assert back is not None
    assert back.tail == lines(45, 50, size=10_000)


def test_a_newest_line_that_is_too_large_leaves_no_line_before_it() -> None:
    tail = (*lines(1, 3), *lines(4, 4, size=BYTES_MAX + 1))
    back = read(kept(a_copy(tail=tail)))
    assert back is not None
    assert back.tail == ()
    found = line_fields(seal(), tail, ENTRIES_MAX, BYTES_MAX)
    assert (found.first, found.last, found.fields) == (5, 4, ())


def test_every_flipped_bit_is_told_or_changes_nothing_that_matters() -> None:
    """Lines may be missing at the beginning of a tail, as they may always be; nothing that is there is ever wrong."""
    copy = a_copy(tail=lines(3, 40))
    flat = kept(copy)
    told = harmless = 0
    for place, value in enumerate(flat):
        for bit in range(8 * len(value)):
            wrong = bytearray(value)
            wrong[bit // 8] ^= 1 << bit % 8
            try:
                back = read([*flat[:place], bytes(wrong), *flat[place + 1 :]])
            except Mismatch:
                told += 1
                continue
            harmless += 1
            assert flat[place - 1] == META, "only the field in the clear may change unseen"
            assert back is None or same(back._replace(tail=copy.tail), copy)
            assert back is None or copy.tail[len(copy.tail) - len(back.tail) :] == back.tail
    assert told > 50 * harmless > 0


def test_every_truncated_or_missing_field_is_told() -> None:
    flat = kept(a_copy(tail=lines(1, 40)))
    for place in range(1, len(flat), 2):
        if flat[place - 1] != META:
            for length in range(len(flat[place])):
                with pytest.raises(Mismatch):
                    read([*flat[:place], flat[place][:length], *flat[place + 1 :]])
        with pytest.raises(Mismatch):
            read([*flat[: place - 1], *flat[place + 1 :]])


def test_a_field_more_is_told() -> None:
    flat = kept(a_copy(tail=lines(1, 3)))
    name, value = line_fields(seal(), lines(4, 4), ENTRIES_MAX, BYTES_MAX).fields[0]
    for field in ((name, value), (b"keys", seal().shut(b"keys", b"{}")), (b"", b"")):
        with pytest.raises(Mismatch):
            read([*flat, *field])


def test_values_of_another_session_of_another_field_or_under_another_key_are_told() -> None:
    flat = kept(a_copy())
    with pytest.raises(Mismatch):
        read(flat, OTHER)
    with pytest.raises(Mismatch):
        read_copy(Seal(bytes(32), KEY), KEY, flat)
    place = {name: flat[i + 1] for i, name in enumerate(flat[:-1]) if i % 2 == 0}
    place[b"profile"], place[b"context"] = place[b"context"], place[b"profile"]
    with pytest.raises(Mismatch):
        read([one for field in place.items() for one in field])


def test_another_format_is_a_miss_and_no_fault() -> None:
    assert read([]) is None
    assert read([b"m", b"2 whatever it will be", b"h2", b"x"]) is None


def test_garbage_is_told_and_never_kills_the_reader() -> None:
    rng = random.Random(4711)
    flat = kept(a_copy(tail=lines(1, 9)))
    for _ in range(2000):
        wrong = list(flat)
        for _ in range(rng.randint(1, 3)):
            wrong[rng.randrange(len(wrong))] = rng.randbytes(rng.choice((0, 1, 5, 20, 300)))
        with pytest.raises(Mismatch):
            assert read(wrong) is None  # a field twice under one name leaves one too few
            raise Mismatch


@pytest.mark.parametrize("meta", [b"1 7 0 1 3 0", b"1 -7 0 1 3 9 8", b"1 7 0 1 3 9 8 9", b"1", b"1 ", b"x", b""])
def test_a_meta_field_that_does_not_read_as_one_is_told(meta: bytes) -> None:
    flat = kept(a_copy())
    with pytest.raises(Mismatch):
        read([META, meta, *flat[2:]])


def test_no_session_is_called_like_another_and_all_keys_of_one_share_a_hash_tag() -> None:
    keys = [Key(t, i) for t in ("a", "a:1", "1:a", "a}", "{a}", "") for i in ("b", "1:b", "}b", "{b}", "a:b", ":b")]
    names = [name for key in keys for name in names_of("p:", key)]
    assert len(set(names)) == len(names)
    from redis.crc import key_slot

    for key in keys:
        assert len({key_slot(name) for name in names_of("p:", key)}) == 1
