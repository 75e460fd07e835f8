"""`sessionmanager worker`."""

from __future__ import annotations

from pathlib import Path

import click

from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import json_option


@click.command()
@settings_options
@json_option
def worker(data_dir: str | None, config: Path | None, as_json: bool) -> None:
    """Run the worker alone (timers, archive, clean-up), beside servers on shared tiers.

    `serve` runs one inside; with embedded tiers that is the only one there can be.
    """
    settings = read_settings(config, data_dir=data_dir)
    if settings.embedded_tiers:
        from sessionmanager.cli.failures import Gone
        from sessionmanager.cli.output import USAGE

        embedded = " and ".join(settings.embedded_tiers)
        raise Gone(
            f"a worker of its own needs shared tiers, and {embedded} would be embedded in this one process",
            "run `sessionmanager serve`, which has a worker inside",
            USAGE,
        )
    from sessionmanager.running.servers import run_worker

    run_worker(settings)
