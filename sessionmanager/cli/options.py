"""Options that several commands share, and the settings that they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from sessionmanager.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_TENANT: Final = "default"
"""The tenant of tokens that are made here without `--tenant`, the one that `serve` prints included."""

data_dir_option: Final = click.option("--data-dir", metavar="DIR", help="Directory of the embedded tiers.")
config_option: Final = click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="TOML file.")


def local_url(settings: Settings) -> str:
    """Where a service with these settings answers, for who is on the same machine."""
    host = settings.server_host
    if host in ("0.0.0.0", "::"):  # noqa: S104  # everywhere, so on loopback, too
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.server_port}"


def settings_options(command: F) -> F:
    return data_dir_option(config_option(command))


def read_settings(config: Path | None, **flags: Any) -> Settings:
    """The settings of this process. Raises SettingsInvalid."""
    import os

    from sessionmanager.settings_loader import load_settings

    return load_settings(flags, environ=os.environ, config=config)
