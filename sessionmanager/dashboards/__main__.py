"""`python -m sessionmanager.dashboards FOLDER`: write every dashboard as `FOLDER/<name>.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sessionmanager.dashboards.boards import BOARDS
from sessionmanager.dashboards.panels import rendered


def files() -> dict[str, str]:
    """File name → its text."""
    return {f"{board.name}.json": json.dumps(rendered(board, BOARDS), indent=1) + "\n" for board in BOARDS}


def main(arguments: list[str]) -> int:
    """Write them; exit code 2 when it is called otherwise."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m sessionmanager.dashboards FOLDER\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
