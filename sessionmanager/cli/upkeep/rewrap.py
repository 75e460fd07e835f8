"""`sessionmanager rewrap`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import CONFLICT, DAMAGED, INTERRUPTED, NOT_FOUND, OK, json_option, plain, print_json
from sessionmanager.errors import NotFound, SessionManagerError

if TYPE_CHECKING:
    from sessionmanager.core.keys.rewrap import Looked
    from sessionmanager.core.keys.standing import Standing
    from sessionmanager.opening import Stores
    from sessionmanager.settings import Settings

SHOWN_SECONDS: Final = 0.2
TOLD_SECONDS: Final = 5.0
_WHICH: Final = "give --data-dir or --config of the service"
_KINDS: Final = {"tenant-key": "tenants' keys", "webhook": "webhooks"}


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be wrapped anew; nothing is changed.")
@settings_options
@json_option
def rewrap(dry_run: bool, data_dir: str | None, config: Path | None, as_json: bool) -> int:
    """Go over to the first master key of MASTER_KEY_FILE, and wrap with it everything that hangs on another.

    Every process must have been given both keys before. The service may run; only with embedded tiers it must be
    stopped. Stopped or killed, it goes on when it is called again; at its end it says which keys nothing hangs on any
    more. Exit code 8 if something does not open, and the older keys are needed still.
    """
    settings = read_settings(config, data_dir=data_dir)
    return asyncio.run(_Run(dry_run=dry_run, as_json=as_json)(settings))


class _Run:
    """One run, to its end or until somebody stops it."""

    def __init__(self, *, dry_run: bool, as_json: bool) -> None:
        self._dry_run = dry_run
        self._as_json = as_json
        self._bar = not as_json and sys.stderr.isatty()
        self._counts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._shown_at = time.monotonic()
        self._stop = asyncio.Event()

    async def __call__(self, settings: Settings) -> int:
        from sessionmanager.opening import open_stores, read_masters, standing_in

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        standing = await standing_in(settings)
        if standing is None:
            raise Gone("nothing was written with any master key yet", _WHICH, NOT_FOUND)
        try:
            read_masters(settings)
        except NotFound as error:
            raise Gone(error.detail, _WHICH, NOT_FOUND) from None
        async with open_stores(settings) as stores:
            try:
                return await self._all(settings, stores, standing)
            except SessionManagerError as error:
                error.add_note("what was wrapped anew is: call it again, and it goes on")
                raise

    async def _all(self, settings: Settings, stores: Stores, standing: Standing) -> int:
        from sessionmanager.core.keys.hierarchy import TENANT_KEY
        from sessionmanager.core.keys.rewrap import rewrap
        from sessionmanager.core.keys.standing import go_over, let_go
        from sessionmanager.opening import options_of, tools_of

        if not self._dry_run:
            standing = await go_over(stores.warm, stores.masters)
        walk = tools_of(settings, "warm").walk_tenants(settings.warm_url, TENANT_KEY, **options_of(settings, "warm"))
        async with (
            aclosing(walk) as tenants,
            aclosing(rewrap(stores.warm, stores.masters, tenants, dry_run=self._dry_run)) as looks,
        ):
            async for looked in looks:
                self._looked(looked)
                if self._stop.is_set():
                    return self._end(stores, standing, whole=False)
        sound = not self._counts["damaged"]
        if sound and not self._dry_run and not await let_go(stores.warm, standing):
            told = "somebody has gone over to another master key meanwhile"
            raise Gone(told, "agree on the order in MASTER_KEY_FILE, then call it again", CONFLICT)
        return self._end(stores, standing, whole=True)

    def _looked(self, looked: Looked) -> None:
        self._counts[looked.outcome] += 1
        self._kinds[looked.where.kind] += looked.outcome in ("wrapped", "left")
        if looked.outcome == "damaged":
            self._clear()
            place = looked.where._asdict()
            if self._as_json:
                print_json({"damaged": place, "detail": looked.detail})
            else:
                click.echo(plain(f"damaged  {'/'.join(looked.where)}: {looked.detail}"))
        now = time.monotonic()
        if now - self._shown_at >= (SHOWN_SECONDS if self._bar else TOLD_SECONDS):
            self._shown_at = now
            self._progress()

    def _progress(self) -> None:
        done = self._counts["left" if self._dry_run else "wrapped"]
        if self._as_json:
            print_json({"looked_at": self._counts.total(), "to_wrap" if self._dry_run else "wrapped": done})
            return
        text = f"{self._counts.total():,} looked at, {done:,} {'to wrap' if self._dry_run else 'wrapped'} anew"
        click.echo(f"\r\x1b[K{text}" if self._bar else text, err=True, nl=not self._bar)

    def _end(self, stores: Stores, standing: Standing, *, whole: bool) -> int:
        """The last lines, and the exit code. standing: as it was before everything was looked at."""
        self._clear()
        counts, first = self._counts, stores.masters.first.id
        # Also what nothing hangs on is needed at a start as long as the standing names it.
        let_go = not self._dry_run or (standing.needed == (first,) and not counts["left"])
        clean = whole and not counts["damaged"] and let_go
        older = [each for each in dict.fromkeys((*stores.masters.ids, *standing.needed)) if each != first]
        if self._as_json:
            print_json({
                "done": whole, "dry_run": self._dry_run, "master_key": first, "looked_at": counts.total(),
                "wrapped": counts["wrapped"], "to_wrap": counts["left"], "damaged": counts["damaged"],
                "nothing_hangs_on": older if clean else [],
            })  # fmt: skip
        else:
            self._tell(first, older, whole=whole, clean=clean)
        return DAMAGED if counts["damaged"] else OK if whole else INTERRUPTED

    def _tell(self, first: str, older: list[str], *, whole: bool, clean: bool) -> None:
        kinds = ", ".join(f"{self._kinds[kind]:,} {name}" for kind, name in _KINDS.items())
        what = f"would be wrapped anew by {first}" if self._dry_run else f"wrapped anew by {first}"
        click.echo(f"{self._counts.total():,} looked at; {what}: {kinds}")
        if not whole:
            click.echo("stopped; call it again, and it goes on", err=True)
        elif self._counts["damaged"]:
            click.echo(f"{self._counts['damaged']:,} do not open: every key that is given is still needed")
        elif clean and older:
            click.echo(f"nothing hangs on {', '.join(older)} any more: give it to no process, and keep it with the "
                       "backups of its time")  # fmt: skip
        elif clean:
            click.echo(f"nothing hangs on any other key than {first}")
        elif self._dry_run:
            click.echo("nothing was changed")

    def _clear(self) -> None:
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)
