"""Print docs/reference/licences.md: what the service is made of, by requirements/runtime.txt, and under which licence.

`.venv/bin/python scripts/licences.py > docs/reference/licences.md`, after `make lock`.
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

RUNTIME = Path(__file__).parent.parent / "requirements" / "runtime.txt"
NAMES_MAX = 60
HEAD = """\
# Licences

Made by `python scripts/licences.py > docs/reference/licences.md`; do not edit. Packages of `requirements/runtime.txt`;
those that another platform or Python needs are marked so. The service itself: `LICENSE`.

| package | version | licence |
|---|---|---|
"""


def locked() -> list[tuple[str, str]]:
    """Name and version of every package in the lock file."""
    return re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", RUNTIME.read_text(encoding="utf-8"), re.MULTILINE)


def licence(name: str) -> str:
    """As the package says it: SPDX where it does, else its classifiers, else the first words of its text."""
    try:
        known = metadata(name)
    except PackageNotFoundError:
        return "(not for this platform)"
    if known.get("License-Expression"):
        return known["License-Expression"]
    classified = [c.rpartition(" :: ")[2] for c in known.get_all("Classifier") or [] if c.startswith("License :: ")]
    text = (known.get("License") or "").strip().splitlines()
    return ", ".join(classified) or (text[0][:NAMES_MAX] if text else "(not told)")


def render() -> str:
    """The page."""
    return HEAD + "".join(f"| {name} | {version} | {licence(name)} |\n" for name, version in locked())


if __name__ == "__main__":
    sys.stdout.write(render())
