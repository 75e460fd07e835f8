"""`sessionmanager migrate` and `sessionmanager restored`: what the warm tier needs before it is served from."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import CONFLICT, UNAVAILABLE, json_option, plain, print_json
from sessionmanager.errors import TierUnavailable

if TYPE_CHECKING:
    from sessionmanager.settings import Settings

MOVED_ON: Final = "a session has moved on meanwhile: the service is running"


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


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell which sessions would be erased again.")
@settings_options
@json_option
def restored(dry_run: bool, data_dir: str | None, config: Path | None, as_json: bool) -> None:
    """After warm was put back from a backup, and before the service starts: erase again what was erased since.

    Compares warm with the ledger of erasures in cold, and lets hot forget every copy, since copies of what came after
    the backup must not mix with what comes now. Repeating it is harmless.
    """
    settings = read_settings(config, data_dir=data_dir)
    asyncio.run(_restored(settings, dry_run=dry_run, as_json=as_json))


async def _restored(settings: Settings, *, dry_run: bool, as_json: bool) -> None:
    from sessionmanager.core.assembly import build_core
    from sessionmanager.core.moves.restored import erase_again, erased_since
    from sessionmanager.opening import open_stores, options_of, tools_of
    from sessionmanager.tiers.registry import opener

    again = 0
    walk = tools_of(settings, "warm").walk(settings.warm_url, **options_of(settings, "warm"))
    async with open_stores(settings) as stores, opener("hot", "memory://")("memory://") as no_copies:
        ledger = build_core(no_copies, stores.warm, stores.cold, stores.masters).ledger
        async with aclosing(walk) as keys, aclosing(erased_since(keys, ledger, stores.cold)) as found:
            async for key, stored, line in found:
                if not dry_run and not await erase_again(stored, line, ledger):
                    raise Gone(MOVED_ON, "stop every server and worker, then repeat it", CONFLICT)
                again += 1
                told = {"tenant": key.tenant, "session": key.id, "erased_at": line.erased_at}
                if as_json:
                    print_json(told)
                else:
                    click.echo(plain(f"{key.tenant}  {key.id}  erased at {line.erased_at}"))
    forgotten = 0 if dry_run else await _forget_copies(settings)
    if as_json:
        print_json({"erased_again": again, "hot_keys_forgotten": forgotten, "dry_run": dry_run})
    elif dry_run:
        click.echo(f"{again:,} sessions would be erased again; nothing was changed")
    else:
        click.echo(f"{again:,} sessions erased again, {forgotten:,} keys forgotten by hot; the worker does the rest")


async def _forget_copies(settings: Settings) -> int:
    from sessionmanager.opening import options_of, tools_of

    try:
        return await tools_of(settings, "hot").forget(settings.hot_url, **options_of(settings, "hot"))
    except TierUnavailable as error:
        what = f"erasures are done; the copies in hot could not be forgotten ({error.detail})"
        raise Gone(what, "repeat it when Redis answers, or begin with an empty Redis", UNAVAILABLE) from None
