"""`sessionmanager migrate`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import json_option, print_json

if TYPE_CHECKING:
    from sessionmanager.settings import Settings


@click.command()
@settings_options
@json_option
def migrate(data_dir: str | None, config: Path | None, as_json: bool) -> None:
    """Bring the warm tier to this release: make the tables, collections and indexes that it lacks.

    The service does this when it starts. Run it before, as a user who may, where the service's own user may make no
    indexes, or where making them takes longer than a start should. Repeating it is harmless.
    """
    settings = read_settings(config, data_dir=data_dir)
    asyncio.run(_migrate(settings))
    url = settings.shown("warm_url")
    if as_json:
        print_json({"warm_url": url, "migrated": True})
    else:
        click.echo(f"the warm tier is as this release needs it: {url}")


async def _migrate(settings: Settings) -> None:
    """Open the warm tier, which migrates it, and close it. Raises SettingsInvalid, TierUnavailable."""
    from sessionmanager import logs
    from sessionmanager.opening import options_of
    from sessionmanager.settings_checks import refused
    from sessionmanager.tiers.registry import opener

    logs.configure("warning" if settings.origin("log_level") == "default" else settings.log_level, settings.log_format)
    try:
        tier = opener("warm", settings.warm_url)(settings.warm_url, **options_of(settings, "warm"))
        async with tier:
            pass
    except ValueError as error:
        raise refused(settings, "warm_url", str(error)) from None
