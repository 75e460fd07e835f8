"""`sessionmanager archive`: ask a running service to move quiet sessions to cold, over HTTP."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sessionmanager.cli.output import CONFLICT, OK, plain, print_json
from sessionmanager.cli.reading import patiently
from sessionmanager.cli.sessions import Target, client_options
from sessionmanager.errors import Erased, IllegalTransition, LegalHold, NotFound

if TYPE_CHECKING:
    from sessionmanager.client.client import PlainClient

PAGE: Final = 200
IN_USE: Final = ("waiting_for_services", "ready", "active", "ending")
"""Statuses in which a session is not archived on request."""
BAR_COLUMNS: Final = 30
SHOWN_SECONDS: Final = 0.2
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Span(click.ParamType[timedelta]):
    """A span of time: a whole number and a unit."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhdw])", str(value), re.ASCII)
        if found is None:
            self.fail("a whole number and s, m, h, d or w, such as 365d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command()
@click.option("--older-than", type=_Span(), required=True, metavar="SPAN",
              help="Sessions without activity for so long, such as 365d, 12h or 8w.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only tell which they are.")
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=20.0, show_default=True, metavar="N",
              help="Sessions asked for a second, at most.")  # fmt: skip
@client_options
def archive(
    older_than: timedelta, dry_run: bool, rate: float, url: str | None, token: str | None, tenant: str,
    timeout: float, data_dir: str | None, config: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Ask that the bodies of quiet sessions move to cold now, and do not wait for it: the worker does it.

    Whatever is stopped goes on where it was when it is called again: what has moved is not asked for any more. Exit
    code 4 if some sessions could not be asked for.
    """
    before = (datetime.now(UTC) - older_than).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    run = _Run(before, dry_run=dry_run, pause_seconds=1 / rate, as_json=as_json)
    Target(url, token, tenant, timeout, data_dir, config, role="viewer" if dry_run else "operator").run(run)
    return CONFLICT if run.refused else OK


class _Run:
    """One run against one service."""

    def __init__(self, before: str, *, dry_run: bool, pause_seconds: float, as_json: bool) -> None:
        self.refused = 0
        self._before = before
        self._dry_run = dry_run
        self._pause_seconds = pause_seconds
        self._as_json = as_json
        self._bar = not as_json and sys.stderr.isatty()
        self._found = self._told = self._asked = 0
        self._shown_at = 0.0

    async def __call__(self, client: PlainClient) -> None:
        if self._bar or not self._dry_run:  # a bar needs to know how many there are
            async with aclosing(self._quiet(client)) as sessions:
                async for _ in sessions:
                    self._found += 1
                    self._show(f"{self._found:,} found")
        self._shown_at = 0.0
        async with aclosing(self._quiet(client)) as sessions:
            async for session in sessions:
                if self._dry_run:
                    self._told += 1
                    self._name(session)
                    self._show(f"{self._told:,} of {max(self._told, self._found):,} told", self._told)
                    continue
                began = time.monotonic()
                await self._ask(client, session["id"])
                self._show(f"{self._asked:,} of {self._found:,} asked for", self._asked + self.refused)
                await asyncio.sleep(max(0.0, self._pause_seconds - (time.monotonic() - began)))
        if self._dry_run:
            self._found = self._told
        self._end()

    async def _quiet(self, client: PlainClient) -> AsyncGenerator[dict[str, Any]]:
        """Summaries of sessions in warm without activity since, the newest of them first."""
        cursor: str | None = None
        while True:
            page = await patiently(
                partial(
                    client.list, limit=PAGE, cursor=cursor, sort="last_activity", placement="warm",
                    active_before=self._before,
                )
            )  # fmt: skip
            for item in page["items"]:
                yield item
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    async def _ask(self, client: PlainClient, id: str) -> None:
        try:
            await patiently(partial(client.archive, id))
        except (NotFound, Erased):
            return  # gone since it was listed
        except (IllegalTransition, LegalHold) as error:
            self.refused += 1
            self._clear()
            if self._as_json:
                print_json({"session": id, "refused": error.type, "detail": error.detail})
            else:
                click.echo(plain(f"{id}: {error.type}: {error.detail}"))
            return
        self._asked += 1

    def _name(self, session: dict[str, Any]) -> None:
        if self._as_json:
            told = {"session": session["id"], "last_activity": session["last_activity"], "status": session["status"]}
            print_json(told)
        else:
            self._clear()
            click.echo(plain(f"{session['last_activity']}  {session['status']:<11}  {session['id']}"))

    def _end(self) -> None:
        self._clear()
        if self._as_json:
            counts = {"found": self._found, "asked": self._asked, "refused": self.refused}
            print_json({**counts, "active_before": self._before, "dry_run": self._dry_run})
        elif self._dry_run:
            told = f"{self._found:,} sessions without activity since {self._before}; nothing was asked for"
            click.echo(f"{told}. Those in use ({', '.join(IN_USE)}) would be refused")
        else:
            refused = f", {self.refused:,} refused" if self.refused else ""
            click.echo(f"{self._asked:,} sessions asked for{refused}; the service's worker moves them")

    def _show(self, text: str, done: int | None = None) -> None:
        now = time.monotonic()
        if not self._bar or now - self._shown_at < SHOWN_SECONDS:
            return
        self._shown_at = now
        filled = 0 if done is None else min(BAR_COLUMNS, BAR_COLUMNS * done // max(self._found, 1))
        bar = "" if done is None else f"[{'#' * filled}{'.' * (BAR_COLUMNS - filled)}] "
        click.echo(f"\r\x1b[K{bar}{text}", err=True, nl=False)

    def _clear(self) -> None:
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)
