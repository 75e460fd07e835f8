"""`python -m sessionmanager` is the command `sessionmanager`."""

from __future__ import annotations

from sessionmanager.cli.main import main

main()
