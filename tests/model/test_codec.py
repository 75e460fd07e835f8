"""Stored bytes: round trips, and every flip and cut is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessionmanager.errors import DataCorrupt
from sessionmanager.model.codec import (
    Stored,
    decode_tombstone,
    encode_head,
    encode_tombstone,
    frame,
    join_lines,
    split_lines,
    unframe,
)
from sessionmanager.model.head import PARTS, Tombstone
from tests.model.test_fold import KEY, LATER, a_head, commit, said

pytestmark = pytest.mark.unit


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_a_flipped_bit_is_found(payload: bytes, where: int) -> None:
    data = bytearray(frame(payload))
    data[where // 8 % len(data)] ^= 1 << where % 8
    with pytest.raises(DataCorrupt):
        unframe(bytes(data))


@given(st.binary(max_size=200), st.integers(1, 205))
def test_a_truncation_is_found(payload: bytes, cut: int) -> None:
    data = frame(payload)
    with pytest.raises(DataCorrupt):
        unframe(data[: max(0, len(data) - cut)])


@given(st.binary(max_size=200))
def test_a_frame_gives_its_payload_back(payload: bytes) -> None:
    assert unframe(frame(payload)) == payload


def test_a_format_of_the_future_is_not_guessed() -> None:
    with pytest.raises(DataCorrupt):
        unframe(b"\x02" + frame(b"x")[1:])


def test_a_head_comes_back_as_it_was() -> None:
    head = commit(a_head(labels='["vip"]', metadata='{"n":1.50}', context="[1e5]"), (said("hello"),))
    stored, changed = encode_head(head, None)
    assert changed == PARTS
    again = Stored(KEY, stored.rev, stored.version, stored.parts)
    assert again.head == head
    assert b"1.50" in stored.parts["profile"]
    assert stored.parts["context"] == b"[1e5]"


def test_an_append_encodes_two_small_parts_and_no_other() -> None:
    head = a_head(context='{"x":"' + "y" * 10_000 + '"}')
    before, _ = encode_head(head, None)
    after, changed = encode_head(commit(head, (said("hello"),)), before)
    assert changed == ("pulse", "work")
    assert after.parts["context"] is before.parts["context"]
    assert len(after.parts["pulse"]) + len(after.parts["work"]) < 1_000


def test_an_unknown_status_is_corrupt_not_another_status() -> None:
    stored, _ = encode_head(a_head(), None)
    parts = {**stored.parts, "pulse": stored.parts["pulse"].replace(b"initiated", b"paused")}
    with pytest.raises(DataCorrupt):
        _ = Stored(KEY, 1, 1, parts).head


def test_a_head_that_breaks_an_invariant_is_corrupt() -> None:
    stored, _ = encode_head(a_head(), None)
    with pytest.raises(DataCorrupt):
        _ = Stored(KEY, 0, 1, stored.parts).head


def test_a_tombstone_comes_back_as_it_was() -> None:
    tombstone = Tombstone(erasure_id="era_1", erased_at=LATER, request="ab")
    assert decode_tombstone(encode_tombstone(tombstone)) == tombstone
    assert decode_tombstone(encode_tombstone(replace(tombstone, done=True))).done
    with pytest.raises(DataCorrupt):
        decode_tombstone(b"{}")


def test_lines_of_a_segment_come_back_one_by_one() -> None:
    assert split_lines(join_lines([b'{"a":1}', b"2"])) == [b'{"a":1}', b"2"]
    assert split_lines(b"") == []
