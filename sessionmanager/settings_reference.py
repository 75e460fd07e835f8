"""`docs/reference/settings.md`, made from the table by `python -m sessionmanager.settings`."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Final

from sessionmanager.settings import rows
from sessionmanager.settings_rows import Row, shown

_HEAD: Final = """\
# Settings

Made by `python -m sessionmanager.settings > docs/reference/settings.md`; do not edit.

A value comes from the first of these that has it: a flag of the command, the environment, the TOML file
(`--config FILE` or `SESSIONMANAGER_CONFIG`), the default. `sessionmanager config` prints every value and where it came
from, secrets masked. A wrong value, an unknown key of the file and an unknown `SESSIONMANAGER_…` variable stop the
start; all of them are named at once.

- In the environment each setting has two names: as below with `SESSIONMANAGER_` in front, and as below; the first wins.
  An empty variable counts as unset, but for the token secrets.
- A secret may lie in a file: the name with `_FILE` behind (`JWT_SECRET_FILE`, in TOML `jwt.secret_file`).
- Lists are given with commas between, in TOML as arrays. Sizes are bytes, times are in the unit named.
- In TOML `server.port` is the key `port` of the table `[server]`. robot-session's `[logging]` with `level` and `format`
  is taken as well; its other tables have the same names here.
"""
_TITLES: Final = {
    "server": "The server",
    "": "General",
    "hot": "The hot tier",
    "redis": "Redis",
    "warm": "The warm tier",
    "mongo": "MongoDB",
    "cold": "The cold tier",
    "s3": "S3",
    "jwt": "Tokens",
    "log": "The log of a session",
    "lifecycle": "How long things last",
    "calls": "Calls",
    "quotas": "Quotas of a tenant",
    "microservices": "Services that join sessions",
    "webhooks": "Webhooks",
    "streams": "Feeds",
    "livekit": "Rooms at LiveKit",
    "traces": "Traces",
    "vector_log": "Log lines to Vector",
    "limits": "Limits of one request",
}


def render() -> str:
    """The page. Sections are the tables of the TOML file, in the order of the settings."""
    order = {section: place for place, section in enumerate(_TITLES)}
    listed = sorted(rows().values(), key=lambda row: order[_section(row)])
    parts = [_HEAD]
    for section, members in groupby(listed, key=_section):
        parts.append(f"\n## {_TITLES[section]}\n\n")
        parts.append("| setting | in TOML | default | allowed | what it does |\n|---|---|---|---|---|\n")
        parts.extend(_line(row) for row in members)
    return "".join(parts)


def _section(row: Row) -> str:
    return row.toml.rpartition(".")[0]


def _line(row: Row) -> str:
    default = row.default_note or ("unset" if row.default is None else f"`{shown(row, row.default)}`")
    unit = f" ({row.unit})" if row.unit and row.kind != "secret" else ""
    allowed = row.allowed.removesuffix(" (unset: none)")
    return f"| `{row.env}` | `{row.toml}` | {default} | {allowed}{unit} | {row.help} |\n"


def main() -> None:
    sys.stdout.write(render())


if __name__ == "__main__":
    main()
