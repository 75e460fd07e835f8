"""What tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmanager import logs
from sessionmanager.settings import rows


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from this machine, and what making data has to say is no part of what a command says."""
    for row in rows().values():
        for variable in row.env_names:
            monkeypatch.delenv(variable, raising=False)
    for variable in ("SESSIONMANAGER_CONFIG", "SESSIONMANAGER_URL", "SESSIONMANAGER_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    logs.configure("error", "json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data directory with nothing but the master key of `tests/support/scenes.py`."""
    folder = tmp_path / "data"
    folder.mkdir()
    key = folder / "master-key"
    key.write_text(bytes(range(32)).hex())
    key.chmod(0o600)
    return folder
