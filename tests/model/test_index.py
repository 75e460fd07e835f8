"""The index of the sealed history: whatever is pushed and folded, each seq is found, and nothing is unbounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from sessionmanager.errors import DataCorrupt
from sessionmanager.model import decide
from sessionmanager.model.entry import Draft, StoredEntry, encode_entry
from sessionmanager.model.head import Index
from sessionmanager.model.index import (
    Body,
    count_warm,
    decode_node,
    find,
    find_in,
    fold_oldest,
    full_level,
    push,
    segment,
)

pytestmark = pytest.mark.unit


def lines(first: int, count: int, kind: str = "message") -> list[StoredEntry]:
    draft = Draft(type=kind, role="user", content=Raw(b'"x"'))
    entries = decide.place(
        [draft] * count, entry_count=first - 1, version=first, now="2026-01-01T00:00:00.000Z", actor="a"
    )
    return [encode_entry(entry) for entry in entries]


def test_a_segment_knows_its_ranges_and_its_types() -> None:
    body = segment([*lines(1, 2), *lines(3, 1, "custom.dtmf")], "b1")
    ref = body.ref
    assert (ref.first_seq, ref.last_seq, ref.count, ref.first_version, ref.last_version) == (1, 3, 3, 1, 3)
    assert ref.types == ("custom.*", "message")
    assert (ref.bytes, ref.level, ref.object) == (len(body.canonical), 0, None)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=60), st.integers(2, 4))
def test_every_seq_is_found_through_however_many_levels(counts: list[int], fanout: int) -> None:
    index, first, bodies = Index(), 1, dict[str, Body]()
    for number, count in enumerate(counts):
        body = segment(lines(first, count), f"s{number}")
        bodies[body.ref.id] = body
        index = push(index, body.ref)
        first += count
        while (level := full_level(index, fanout, lambda ref: True)) is not None:
            index, made = fold_oldest(index, level, fanout, f"n{len(bodies)}")
            bodies[made.ref.id] = made
    assert all(len(refs) < fanout for refs in index.levels)
    assert count_warm(index) == sum(len(refs) for refs in index.levels)
    for seq in range(1, first):
        ref = find(index, seq)
        while ref is not None and ref.level > 0:
            ref = find_in(decode_node(bodies[ref.id].canonical), seq)
        assert ref is not None
        assert ref.first_seq <= seq <= ref.last_seq
    assert find(index, first) is None


def test_an_index_with_a_gap_cannot_be_built() -> None:
    with pytest.raises(AssertionError):
        push(push(Index(), segment(lines(1, 2), "a").ref), segment(lines(4, 1), "b").ref)


def test_a_node_that_does_not_read_as_one_is_corrupt() -> None:
    with pytest.raises(DataCorrupt):
        decode_node(b'[{"id":7}]')
