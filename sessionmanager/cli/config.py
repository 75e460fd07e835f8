"""`sessionmanager config`."""

from __future__ import annotations

from pathlib import Path

import click

from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import json_option, plain, print_json, table


@click.command()
@settings_options
@json_option
def config(data_dir: str | None, config: Path | None, as_json: bool) -> None:
    """Show every setting, its value and where it came from; secrets and credentials in URLs are masked."""
    from sessionmanager.settings import rows

    settings = read_settings(config, data_dir=data_dir)
    listed = [(row.env, settings.shown(name), settings.origin(name)) for name, row in rows().items()]
    if as_json:
        print_json([{"setting": name, "value": value, "from": origin} for name, value, origin in listed])
        return
    body = [(name, plain(value), plain(origin)) for name, value, origin in listed]
    click.echo(table([("SETTING", "VALUE", "FROM"), *body]))
