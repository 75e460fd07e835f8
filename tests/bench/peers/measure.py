"""Measures one store in a process of its own: `measure STORE TURNS APPENDS FOLDER` prints one line of JSON.

Needs nothing but the store's own packages. A turn is what a user said and what was answered: two messages, some 250
bytes of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from statistics import quantiles
from typing import Any, Final, Protocol

KEPT: Final = 50
"""Messages that a resume hands out."""
RESUMES: Final = 20
STORES: Final = {
    "sessionmanager (in the process)": "tests.bench.peers.ours:Core",
    "sessionmanager (over HTTP)": "tests.bench.peers.ours:Http",
    "openai-agents SQLiteSession": "tests.bench.peers.others:OpenAiAgents",
    "ADK DatabaseSessionService": "tests.bench.peers.others:Adk",
    "LangGraph AsyncSqliteSaver": "tests.bench.peers.others:LangGraph",
}
USER: Final = "Yes, that is the number on the invoice, thank you. Could you tell me when the money will be there?"
ASSISTANT: Final = (
    "I have sent the correction to your address; you will have the money within three days at the latest."
)


class Store(Protocol):
    """One conversation in one store."""

    async def open(self, folder: Path) -> None:
        """Make the store, and the conversation, empty."""
        ...

    async def fill(self, turns: int) -> None:
        """That many turns at once, by the store's quickest way."""
        ...

    async def append(self) -> None:
        """One turn, durable as the store has it by default."""
        ...

    async def resume(self) -> int:
        """The newest messages, as many as a resume hands out, from the store and no cache of ours; their number."""
        ...

    async def close(self) -> None: ...


def stored(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def written() -> int:
    """Bytes that this process has passed to write calls so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


async def measured(name: str, turns: int, appends: int, folder: Path) -> dict[str, Any]:
    """p50 and p99 of appends and p50 of resumes in milliseconds, bytes a turn."""
    module, _, kind = STORES[name].partition(":")
    store: Store = getattr(import_module(module), kind)()
    await store.open(folder)
    await store.fill(turns)
    before = written()
    took: list[float] = []
    for _ in range(appends):
        began = time.perf_counter()
        await store.append()
        took.append(time.perf_counter() - began)
    bytes_written = written() - before
    resumed: list[float] = []
    for _ in range(RESUMES):
        began = time.perf_counter()
        count = await store.resume()
        resumed.append(time.perf_counter() - began)
        assert count >= min(KEPT, 2 * (turns + appends)), f"{name} handed out {count}"
    await store.close()
    cuts = quantiles(took, n=100)
    return {
        "store": name,
        "turns": turns,
        "append_p50_ms": cuts[49] * 1000,
        "append_p99_ms": cuts[98] * 1000,
        "resume_p50_ms": quantiles(resumed, n=2)[0] * 1000,
        "written_per_turn": None if name.endswith("HTTP)") else bytes_written / appends,
        "stored_per_turn": stored(folder) / (turns + appends),
    }


def main(arguments: list[str]) -> None:
    name, turns, appends, folder = arguments
    print(json.dumps(asyncio.run(measured(name, int(turns), int(appends), Path(folder)))))


if __name__ == "__main__":
    main(sys.argv[1:])
