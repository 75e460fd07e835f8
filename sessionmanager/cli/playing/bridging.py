"""Bridges in processes of their own, which can be killed; and the functions that they answer from a recording."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sessionmanager.bridges.functions import Function, Functions, Invocation
from sessionmanager.cli.playing.processes import OwnProcess
from sessionmanager.cli.playing.recording import read_recording
from sessionmanager.cli.playing.service import OwnService

RECORDING_NAME: Final = "DEMO_RECORDING"
"""Of the variable by which a bridge's process knows the recording."""


class OwnBridge(OwnProcess):
    """`sessionmanager bridge …` before this service, at the same address each time it is started.

    carrier: `audiocodes` or `twilio`. folder: for its log and its outbox. upstream: the model. recording: its functions
    answer as they did there.
    """

    def __init__(self, carrier: str, service: OwnService, folder: Path, upstream: str, recording: Path) -> None:
        super().__init__(f"{carrier} bridge", folder / f"{carrier}.log", {RECORDING_NAME: str(recording.resolve())})
        self._carrier = carrier
        self._service = service
        self._outbox = folder / f"{carrier}-outbox.db"
        self._upstream = upstream
        self._port = 0

    def _command(self) -> Sequence[str]:
        return (
            *("bridge", self._carrier, "--json", "--upstream", self._upstream, "--outbox", str(self._outbox)),
            *("--functions", f"{__name__}:functions", "--port", str(self._port)),
            *("--url", self._service.address, "--data-dir", str(self._service.data_dir)),
        )

    def _listens(self, banner: Mapping[str, Any]) -> None:
        self.address = str(banner["address"])
        self._port = urlsplit(self.address).port or self._port


def functions_of(entries: Sequence[bytes]) -> Functions:
    """Functions that answer what they answered in a recording, by their arguments. Each may be repeated: there is
    nothing else that it does."""
    asked: dict[str, tuple[str, Any]] = {}
    answers: dict[str, list[tuple[Any, Any]]] = {}
    for text in entries:
        entry = msgspec.json.decode(text, type=dict[str, Any])
        if entry["type"] == "function_call":
            asked[entry["call_id"]] = entry["name"], entry.get("arguments", {})
        elif entry["type"] == "function_call_output" and entry["call_id"] in asked:
            name, arguments = asked[entry["call_id"]]
            answers.setdefault(name, []).append((arguments, entry["output"]))
    return Functions([_function(name, known) for name, known in answers.items()])


def _function(name: str, known: Sequence[tuple[Any, Any]]) -> Function:
    async def run(invocation: Invocation) -> Any:
        return next((output for arguments, output in known if arguments == invocation.arguments), known[0][1])

    return Function(name=name, run=run, repeatable=True)


def _known() -> Sequence[bytes]:
    path = os.environ.get(RECORDING_NAME)
    return () if path is None else read_recording(Path(path)).entries


functions: Final = functions_of(_known())
"""By this name the bridge's process finds them."""
