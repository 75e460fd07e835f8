"""Profiles by signal, of a process that serves."""

from __future__ import annotations

import pstats
import signal
import time
from pathlib import Path

import httpx2
import pytest

from tests.support.process import serving

pytestmark = pytest.mark.fault

PATIENCE_SECONDS = 90.0


def test_a_signal_has_the_next_seconds_measured_while_requests_are_answered(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder) as service:
        service.process.send_signal(signal.SIGUSR2)
        service.process.send_signal(signal.SIGUSR2)  # one at a time
        deadline = time.monotonic() + PATIENCE_SECONDS
        headers = {"Authorization": f"Bearer {service.token}"}
        with httpx2.Client(base_url=service.address, headers=headers, timeout=PATIENCE_SECONDS) as client:
            while not (found := list((folder / "profiles").glob("*.pstats"))):
                assert time.monotonic() < deadline, "no profile was written"
                assert client.get("/sessions").status_code == 200
            assert client.get("/sessions").status_code == 200
    assert len(found) == 1
    names = {name for _, _, name in pstats.Stats(str(found[0])).stats}  # type: ignore[attr-defined]
    assert "_exchange" in names
    assert (folder / "profiles").stat().st_mode & 0o077 == 0
