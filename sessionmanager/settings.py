"""Every setting, in one table: the fields of `Settings`, which are those of `setting_tables/`.

A row says name, type, default, unit, meaning, place in the TOML file and what is allowed; the loader
(`settings_loader.py`), the checks (`settings_checks.py`), the `config` command and `docs/reference/settings.md`
(`python -m sessionmanager.settings`) all read it from here. A setting called `server_port` answers to the environment
variables SESSIONMANAGER_SERVER_PORT and SERVER_PORT (the first wins); a secret also to both with `_FILE` behind, which
name a file that holds it.

Settings are values: frozen, read once, checked whole at start, handed on through constructors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from sessionmanager.setting_tables.conversing import ConversingSettings
from sessionmanager.setting_tables.serving import ServingSettings
from sessionmanager.setting_tables.storing import StoringSettings
from sessionmanager.settings_rows import Row, is_loopback, shown

EMBEDDED_SCHEMES: Final = {"hot": "memory", "warm": "sqlite", "cold": "file"}
"""The URL scheme of each tier's embedded backend: what needs no server and lives in this one process."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings(ConversingSettings, StoringSettings, ServingSettings):
    """What the service runs with. Made by `load_settings`, which fills in what depends on other settings."""

    origins: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    """Where each value came from, by the setting's name; what is missing is the default."""

    def origin(self, name: str) -> str:
        return self.origins.get(name, "default")

    def shown(self, name: str) -> str:
        """The value as people may see it: secrets and the credentials in URLs masked."""
        return shown(rows()[name], getattr(self, name))

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={self.shown(name)}' for name in rows())})"

    @property
    def embedded_tiers(self) -> tuple[str, ...]:
        """The tiers that live in this process or on its disk, of hot, warm and cold."""
        urls = {"hot": self.hot_url, "warm": self.warm_url, "cold": self.cold_url}
        return tuple(tier for tier, url in urls.items() if urlsplit(url).scheme == EMBEDDED_SCHEMES[tier])

    @property
    def embedded(self) -> bool:
        """All three tiers are embedded: the one case in which a master key may be made."""
        return len(self.embedded_tiers) == len(EMBEDDED_SCHEMES)

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the service."""
        return is_loopback(self.server_host)


@cache
def rows() -> Mapping[str, Row]:
    """The table, in the order of the fields."""
    return {f.name: f.metadata["row"]._replace(name=f.name) for f in fields(Settings) if "row" in f.metadata}


if __name__ == "__main__":
    from sessionmanager.settings_reference import main

    main()
