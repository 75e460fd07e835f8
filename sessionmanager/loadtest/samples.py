"""What was written down during a run, as lines of a picture: pure, from rows as they were written."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

import msgspec

LASTING_SHARE: Final = 0.9
"""Who was heard of after this share of the run was there at its end."""

MARKS: Final = "run_marks.jsonl"
"""In the report's directory: whoever does something to the service during the run adds a line, a `Mark`."""

Series = list[tuple[float, float]]
"""Points of a line: seconds since the start, value."""


class Process(msgspec.Struct):
    """A serving process's own figures. started: its birth, by which a process is told from the one before it."""

    started: float
    memory_bytes: float
    processor_seconds: float


class Sample(msgspec.Struct):
    """One second. at: by the clock of the day. requests, failures: since the beginning. server: by process's name."""

    at: float
    users: int
    requests: int
    failures: int
    server: dict[str, Process]


class Mark(msgspec.Struct):
    """Something that was done to the service during the run."""

    at: float
    what: str


_sample: Final = msgspec.json.Decoder(Sample)
_mark: Final = msgspec.json.Decoder(Mark)


class Samples:
    """A run over its time. began: by the clock of the day. memory: serving process → bytes; processor: → share of one
    core. One that was started again is a process of its own."""

    def __init__(self, lines: Iterable[str]) -> None:
        read = [_sample.decode(line) for line in lines if line.endswith("\n")]
        self.began = read[0].at if read else 0.0
        self.seconds = read[-1].at - self.began if read else 0.0
        self.users: Series = [(each.at - self.began, each.users) for each in read]
        self.memory: dict[str, Series] = defaultdict(list)
        self.processor: dict[str, Series] = defaultdict(list)
        self.errors: Series = []
        self.throughput: Series = []
        names: dict[tuple[str, float], str] = {}
        for before, now in pairwise(read):
            at, seconds = now.at - self.began, now.at - before.at
            self.throughput.append((at, (now.requests - before.requests) / seconds))
            self.errors.append((at, (now.failures - before.failures) / seconds))
            for process, told in now.server.items():
                name = names.setdefault((process, told.started), _name(process, names))
                self.memory[name].append((at, told.memory_bytes))
                earlier = before.server.get(process)
                if earlier is not None and earlier.started == told.started:
                    used = told.processor_seconds - earlier.processor_seconds
                    self.processor[name].append((at, used / seconds))

    def lasting(self) -> Mapping[str, list[float]]:
        """The memory of every process that was there at the end, for as long as it lived."""
        return {
            process: [value for _, value in line]
            for process, line in self.memory.items()
            if line[-1][0] >= LASTING_SHARE * self.seconds
        }


def _name(process: str, names: Mapping[tuple[str, float], str]) -> str:
    earlier = sum(known == process for known, _ in names)
    return process if not earlier else f"{process}, start {earlier + 1}"


def latencies(lines: Iterable[str], began: float) -> dict[str, dict[str, Series]]:
    """Of locust's `*_stats_history.csv`: route → {"50%", "99%"} → milliseconds over time."""
    found: dict[str, dict[str, Series]] = defaultdict(lambda: {"50%": [], "99%": []})
    for row in csv.DictReader(lines):
        name = f"{row['Type']} {row['Name']}".strip()
        for share in ("50%", "99%"):
            if row[share] not in ("", "N/A"):
                found[name][share].append((float(row["Timestamp"]) - began, float(row[share])))
    return found


def marks(lines: Iterable[str], began: float) -> list[tuple[float, str]]:
    """Seconds since the start → what was done."""
    return [(mark.at - began, mark.what) for mark in map(_mark.decode, lines)]
