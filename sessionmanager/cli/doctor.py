"""`sessionmanager doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlsplit

import click

from sessionmanager.cli.failures import explain
from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import FAILURE, OK, json_option, plain, print_json
from sessionmanager.words import TierName

if TYPE_CHECKING:
    from sessionmanager.model.finding import Finding
    from sessionmanager.settings import Settings

TIER_SECONDS: Final = 60.0
"""Longest look at one tier."""
EXTRAS: Final = {"redis": "redis", "pymongo": "mongo", "bson": "mongo", "aioboto3": "s3", "botocore": "s3"}
"""Driver that may be missing → the extra of ours that brings it."""


@click.command()
@click.option("--tier", "tiers", type=click.Choice(get_args(TierName)), multiple=True, help="Only this tier; may be "
              "given more than once.")  # fmt: skip
@settings_options
@json_option
def doctor(tiers: tuple[str, ...], data_dir: str | None, config: Path | None, as_json: bool) -> int:
    """Look at each configured tier from here and say what to mend.

    Reach, version, rights (by small things that are put and removed), what a server does to data by itself, clocks and
    round trips. A running service is not disturbed. Exit code 1 if something must be mended.
    """
    settings = read_settings(config, data_dir=data_dir)
    return asyncio.run(_look(settings, [tier for tier in get_args(TierName) if not tiers or tier in tiers], as_json))


async def _look(settings: Settings, tiers: list[TierName], as_json: bool) -> int:
    worst = OK
    for tier in tiers:
        url: str = getattr(settings, f"{tier}_url")
        if not as_json:
            click.echo(f"{tier}: {plain(settings.shown(f'{tier}_url'))}")
        async with aclosing(_findings(settings, tier)) as findings:  # whoever reads may leave in the midst (`| head`)
            async for finding in findings:
                if finding.level == "bad":
                    worst = FAILURE
                if as_json:
                    print_json({"tier": tier, "backend": urlsplit(url).scheme, **finding._asdict()})
                else:
                    click.echo(plain(f"  {finding.level:<4}  {finding.check}: {finding.detail}"))
                    if finding.mend:
                        click.echo(plain(f"        → {finding.mend}"))
    if not as_json:
        click.echo("something must be mended" if worst else "nothing must be mended")
    return worst


async def _master(settings: Settings) -> Finding:
    """Whether the master keys that the data needs, without which cold is noise, are there."""
    from sessionmanager.errors import NotFound
    from sessionmanager.model.finding import bad, note, ok
    from sessionmanager.opening import read_masters, standing_in

    check = "master key"
    standing = await standing_in(settings)
    if standing is None:
        return note(check, "nothing was written with any yet")
    try:
        given = read_masters(settings)
    except NotFound as error:
        return bad(check, error.detail, "put it back from its copy: nothing else opens what lies in cold")
    current, first = standing.current, given.ids[0]
    if given.find(current) is None:
        return bad(check, f"the data was written with another one, {current}", "give that one: MASTER_KEY_FILE")
    lacking = [each for each in standing.older if given.find(each) is None]
    if lacking:
        told = f"{', '.join(lacking)} is not given, and something may still hang on it"
        return bad(check, told, "give it as one more line of MASTER_KEY_FILE, then `sessionmanager rewrap`")
    if first != current:
        told = f"{current} is in use; {first}, the first that is given, is not yet"
        return note(check, told, "once every process has been given both: `sessionmanager rewrap`")
    if standing.older:
        told = f"{current} is in use, and something may still hang on {', '.join(standing.older)}"
        return note(check, told, "`sessionmanager rewrap`")
    spare = ", ".join(given.ids[1:])
    if spare:
        told = f"{current} is in use, and nothing hangs on {spare}"
        return ok(check, f"{told}: keep it with the backups of its time, and give it no more")
    return ok(check, f"it is the one that the data was written with, {current}")


async def _findings(settings: Settings, tier: TierName) -> AsyncGenerator[Finding]:
    """What the backend's own doctor finds. Whatever goes wrong with the look itself is a finding, too."""
    from sessionmanager.errors import SessionManagerError
    from sessionmanager.model.finding import bad
    from sessionmanager.opening import options_of, tools_of
    from sessionmanager.settings_checks import SettingsInvalid

    try:
        look = tools_of(settings, tier).diagnose(getattr(settings, f"{tier}_url"), **options_of(settings, tier))
        sound = True
        async with asyncio.timeout(TIER_SECONDS), aclosing(look):
            async for finding in look:
                sound &= finding.level != "bad"
                yield finding
        if tier == "warm" and sound:
            yield await _master(settings)
    except ImportError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        yield bad("driver", f"{error.name} is not installed", f"pip install 'sessionmanager[{extra}]'")
    except TimeoutError:
        yield bad("reach", f"no answer within {TIER_SECONDS:.0f} s", "look at the address and the network between")
    except (SettingsInvalid, SessionManagerError) as error:
        told = explain(error)
        assert told is not None
        yield bad("settings" if isinstance(error, SettingsInvalid) else "reach", "; ".join(told.lines), told.next_step)
