"""The outbox's file: what was kept is there after a kill at any byte, and nothing else is."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from sessionmanager.client import NotKept, OutboxInUse, journal
from sessionmanager.client.journal import FileJournal, Record, line_of, read_lines

pytestmark = pytest.mark.unit


def put(n: int, text: str = "x") -> Record:
    return Record(op="put", n=n, session=f"s{n % 3}", key=f"k{n}", body=Raw(f'{{"entries":["{text}"]}}'.encode()))


def expected(records: list[Record]) -> tuple[dict[int, bytes], set[int]]:
    """What is still to be sent, by number, and which of it is dead: the plainest reading there is."""
    puts: dict[int, bytes] = {}
    dead: set[int] = set()
    for record in records:
        if record.op == "put":
            puts[record.n] = bytes(record.body)
        elif record.op == "sent":
            puts.pop(record.n, None)
            dead.discard(record.n)
        elif record.n in puts:
            dead.add(record.n)
    return puts, dead


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "sent", "dead"]), st.integers(1, 6), st.text(max_size=9))
)


def records_of(operations: list[tuple[Any, int, str]]) -> list[Record]:
    records, n = list[Record](), 0
    for op, number, text in operations:
        if op == "put":
            n += 1
            records.append(put(n, text.encode("unicode_escape").decode().replace("\\", "").replace('"', "")))
        else:
            records.append(Record(op=op, n=number, type="invalid" if op == "dead" else ""))
    return records


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_a_file_cut_at_any_byte_holds_exactly_the_lines_that_were_whole(operations: Any) -> None:
    records = records_of(operations)
    lines = [line_of(record) for record in records]
    data = b"".join(lines)
    ends = [sum(map(len, lines[: i + 1])) for i in range(len(lines))]
    for cut in range(len(data) + 1):
        found, good, damaged = read_lines(data[:cut])
        whole = sum(end <= cut for end in ends)
        puts, dead = expected(records[:whole])
        assert {record.n: bytes(record.body) for record in found.puts} == puts
        assert set(found.dead) == dead
        assert [record.n for record in found.puts] == sorted(puts)
        assert good == (ends[whole - 1] if whole else 0)
        assert damaged == []
        assert all(found.next_n > record.n for record in found.puts)


@settings(max_examples=200, deadline=None)
@given(OPERATIONS, st.integers(0, 10_000), st.integers(1, 255))
def test_a_byte_that_rots_costs_its_line_alone_and_is_told(operations: Any, at: int, flip: int) -> None:
    records = records_of(operations)
    data = bytearray(b"".join(line_of(record) for record in records))
    if not data:
        return
    data[at % len(data)] ^= flip
    found, _, damaged = read_lines(bytes(data))
    whole = {bytes(record.body) for record in records if record.op == "put"}
    assert {bytes(record.body) for record in found.puts} <= whole
    assert len(damaged) <= 2


async def reopened(path: Path) -> list[int]:
    file = FileJournal(path)
    found = await file.open()
    await file.close()
    return [record.n for record in found.puts]


async def test_what_was_added_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    file = FileJournal(tmp_path / "box")
    assert (await file.open()).puts == ()
    await asyncio.gather(*(file.add(put(n), durable=True) for n in range(1, 40)))
    await file.add(Record(op="sent", n=3), durable=False)
    await file.close()
    assert await reopened(tmp_path / "box") == [n for n in range(1, 40) if n != 3]
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o600


async def test_a_torn_end_is_taken_off_before_anything_is_added(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(line_of(put(1)) + line_of(put(2))[:-9])
    file = FileJournal(path)
    assert [record.n for record in (await file.open()).puts] == [1]
    await file.add(put(2), durable=True)
    await file.close()
    assert await reopened(path) == [1, 2]


async def test_lines_that_do_not_check_are_laid_aside_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "box"
    bad = b"00000000" + line_of(put(2))[8:]
    path.write_bytes(line_of(put(1)) + bad + line_of(put(3)))
    file = FileJournal(path)
    found = await file.open()
    await file.close()
    assert ([record.n for record in found.puts], found.damaged) == ([1, 3], 1)
    assert (tmp_path / "box.damaged").read_bytes() == bad


async def test_a_file_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    first = FileJournal(tmp_path / "box")
    await first.open()
    with pytest.raises(OutboxInUse):
        await FileJournal(tmp_path / "box").open()
    await first.close()
    assert await reopened(tmp_path / "box") == []


async def test_a_file_whose_lines_are_sent_shrinks_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "COMPACT_BYTES", 2000)
    path, largest = tmp_path / "box", 0
    file = FileJournal(path)
    await file.open()
    for n in range(1, 200):
        await file.add(put(n, "y" * 50), durable=True)
        if n > 5:
            await file.add(Record(op="dead", n=5, type="invalid", detail="d"), durable=False) if n == 6 else None
            if n - 3 != 5:
                await file.add(Record(op="sent", n=n - 3), durable=False)
        largest = max(largest, path.stat().st_size)
    await file.close()
    reader = FileJournal(path)
    found = await reader.open()
    await reader.close()
    assert [record.n for record in found.puts] == [1, 2, 5, 197, 198, 199]
    assert found.dead[5].type == "invalid"
    assert largest < 6000


async def test_a_full_disk_keeps_nothing_and_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "box"
    file = FileJournal(path)
    await file.open()
    await file.add(put(1), durable=True)
    real, left = os.pwrite, 20

    def full(handle: int, data: Any, at: int) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(handle, data[:left], at)
        left -= written
        return written

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NotKept, match="No space"):
        await file.add(put(2), durable=True)
    monkeypatch.setattr(os, "pwrite", real)
    await file.add(put(3), durable=True)
    await file.close()
    assert await reopened(path) == [1, 3]


async def test_after_a_failed_sync_the_file_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = FileJournal(tmp_path / "box")
    await file.open()
    real = os.fsync

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NotKept):
        await file.add(put(1), durable=True)
    monkeypatch.setattr(os, "fsync", real)
    with pytest.raises(NotKept, match="open the outbox anew"):
        await file.add(put(2), durable=True)
    await file.close()


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotKept):
        await FileJournal(tmp_path / "no" / "box").open()
