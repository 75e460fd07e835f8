"""One metrics view of several processes: whoever is scraped asks its siblings and shows all, each under its slot.

Every series gets the label `process`, rather than being summed: a sum would fall when a process is started again, and a
rate over it would show a burst that never was. Asked at a scrape and never before, so that counting costs nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client.metrics_core import Metric as Samples

from sessionmanager.running.processes import Place

ANSWER_SECONDS: Final = 1.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
LABEL: Final = "process"


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric of one process. samples: (name, labels, value)."""

    name: str
    documentation: str
    type: str
    unit: str
    samples: list[tuple[str, dict[str, str], float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Family]).decode


class Siblings:
    """The processes that serve beside this one. collect: this process's own metrics."""

    def __init__(self, place: Place, collect: Callable[[], Iterable[Samples]]) -> None:
        self._place = place
        self._collect = collect

    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[None]:
        """Answer the others for as long as this is entered."""
        path = _path(self._place.folder, self._place.slot)
        path.unlink(missing_ok=True)  # of a process that was killed in this slot
        server = await asyncio.start_unix_server(self._answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_encode(_plain(self._collect())))
            async with asyncio.timeout(ANSWER_SECONDS):
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # the one who asked has gone, and will miss this one in its page
        finally:
            writer.close()

    async def all(self) -> list[Samples]:
        """The metrics of every process that answers within a second, labelled by slot; families in one order."""
        slots = sorted(int(path.stem) for path in self._place.folder.glob("*.metrics"))
        others = [slot for slot in slots if slot != self._place.slot]
        answers = await asyncio.gather(*(self._ask(slot) for slot in others))
        said = {self._place.slot: _plain(self._collect()), **dict(zip(others, answers, strict=True))}
        return _merged(said)

    async def _ask(self, slot: int) -> list[Family]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(_path(self._place.folder, slot))
                try:
                    data = await reader.read(-1)
                finally:
                    writer.close()
            return _decode(data)
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return []  # it is starting, stopping or stuck: its series are missing, which is what an alarm sees


def _path(folder: Path, slot: int) -> Path:
    return folder / f"{slot}.metrics"


def _plain(families: Iterable[Samples]) -> list[Family]:
    return [
        Family(
            family.name,
            family.documentation,
            family.type,
            family.unit,
            [(sample.name, dict(sample.labels), sample.value) for sample in family.samples],
        )
        for family in families
    ]


def _merged(said: dict[int, list[Family]]) -> list[Samples]:
    merged: dict[str, Samples] = {}
    for slot, families in sorted(said.items()):
        for family in families:
            page = merged.get(family.name)
            if page is None:
                page = merged[family.name] = Samples(family.name, family.documentation, family.type, family.unit)
            for name, labels, value in family.samples:
                page.add_sample(name, {**labels, LABEL: str(slot)}, value)
    return list(merged.values())
