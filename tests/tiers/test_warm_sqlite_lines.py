"""Lines of the audit trail as bytes: they come back as they were, in few of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessionmanager.errors import DataCorrupt
from sessionmanager.model import instants
from sessionmanager.model.codec import frame
from sessionmanager.tiers.warm.sqlite_lines import Batch, Line, decode

pytestmark = pytest.mark.unit

NUMBERS = st.integers(0, 2**40)
REQUESTS = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.from_regex(r"[0-9a-f]{12}-[0-9a-f]{1,17}", fullmatch=True),
    st.uuids().map(str),
    st.uuids().map(lambda value: str(value).upper()),
)


@st.composite
def line_of(draw: st.DrawFn) -> Line:
    """A line of a commit that was asked for or not, or of what was no commit."""
    session = draw(st.none() | NUMBERS)
    prev = draw(st.none() | st.integers(0, 999)) if session is not None else None
    rev = draw(st.none() | st.integers(1, 2**31)) if session is not None else None
    commit_id = draw(st.binary(min_size=16, max_size=16)) if rev is not None else None
    if draw(st.booleans()):
        return Line(session, prev, rev, commit_id)
    at = instants.from_ms(draw(st.integers(0, 4_102_444_800_000)))
    named = draw(st.none() | st.text(max_size=20)) if session is None else None
    version = draw(st.none() | st.integers(0, 2**53))
    return Line(session, prev, rev, commit_id, at, draw(NUMBERS), draw(NUMBERS), version, draw(REQUESTS), named)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lines=st.lists(line_of(), max_size=8), cut=st.integers(0, 8))
def test_lines_come_back_as_they_were_also_from_a_batch_that_was_stored_between(lines: list[Line], cut: int) -> None:
    batch = Batch(1000)
    for line in lines[:cut]:
        batch.add(line)
    batch = Batch.of(1000, batch.data())
    for line in lines[cut:]:
        batch.add(line)
    assert decode(1000, batch.data()) == lines
    assert batch.count == len(lines)


def test_a_commit_costs_some_twenty_bytes_beside_its_id() -> None:
    batch = Batch(1)
    for i in range(1000):
        at = instants.from_ms(1_795_262_400_000 + 40 * i)
        batch.add(Line(7, i or None, i + 5, bytes(16), at, 3, 4, i + 4, f"36cb05db3beb-{i + 1:x}"))
    assert len(batch.data()) / 1000 < 16 + 26


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xdc\x00\x02\x90", b"\xdc\x00\x01\x92\xa1x\x00"])
def test_bytes_that_are_no_lines_are_corrupt(data: bytes) -> None:
    with pytest.raises(DataCorrupt):
        decode(1, frame(data))
