"""Runs a command in this process, as the shell would see it."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from sessionmanager.cli.main import main


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Its exit code, and what it wrote."""
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    out, err = capfd.readouterr()
    return Ran(int(left.value.code or 0), out, err)
