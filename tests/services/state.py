"""What `make services` has started, as `build/services.json` tells it: name → url, processes, folder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.services.processes import Process, alive

BUILD: Final = Path(__file__).parents[2] / "build"


class Shared(NamedTuple):
    """A server that tests share. folder: its data and its log."""

    url: str
    processes: tuple[Process, ...]
    folder: str

    @property
    def runs(self) -> bool:
        """Whether each of its processes does; what they answer is not asked."""
        return bool(self.processes) and all(alive(process) for process in self.processes)


def variable(name: str) -> str:
    """The environment variable whose address is used in place of a server of ours: TEST_REDIS_CLUSTER_URL."""
    return f"TEST_{name.upper().replace('-', '_')}_URL"


def required() -> bool:
    """Whether a missing server is a failure: in the profile `full`, and where TEST_SERVERS is `required`."""
    return os.environ.get("TEST_PROFILE") == "full" or os.environ.get("TEST_SERVERS") == "required"


class State:
    """The file. build: the folder that holds it and the servers' own folders."""

    def __init__(self, build: Path = BUILD) -> None:
        self.folder = build / "services"
        self.path = build / "services.json"
        self.own = self.folder / "own"

    @contextmanager
    def held(self) -> Generator[None]:
        """One at a time may start and end servers; whoever comes later waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> dict[str, Shared]:
        """Every server in it, whether or not it still runs."""
        try:
            value: dict[str, Any] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        return {
            name: Shared(one["url"], tuple(Process(**process) for process in one["processes"]), one["folder"])
            for name, one in value.items()
        }

    def write(self, servers: Mapping[str, Shared]) -> None:
        """Replace the file in one step."""
        value = {
            name: {"url": one.url, "processes": [p._asdict() for p in one.processes], "folder": one.folder}
            for name, one in servers.items()
        }
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(aside, self.path)
