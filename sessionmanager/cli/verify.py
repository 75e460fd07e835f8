"""`sessionmanager verify`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import click

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.options import DEFAULT_TENANT, read_settings, settings_options
from sessionmanager.cli.output import DAMAGED, INTERRUPTED, NOT_FOUND, OK, json_option, plain, print_json
from sessionmanager.errors import DataCorrupt, NotFound, SessionManagerError
from sessionmanager.waits.pause import pause
from sessionmanager.words import Key

if TYPE_CHECKING:
    from sessionmanager.core.verify import Looked
    from sessionmanager.opening import Stores
    from sessionmanager.settings import Settings

PATIENCE_SECONDS: Final = 60.0
"""How long a tier that was there may be away."""
PAUSE_SECONDS_MAX: Final = 5.0
SHOWN_SECONDS: Final = 0.2
TOLD_SECONDS: Final = 5.0
BAR_COLUMNS: Final = 30


@click.command()
@click.option("--tenant", metavar="TENANT", help="Only the sessions of one tenant.")
@click.option("--session", metavar="ID", help="Only this one, of --tenant or of the tenant `default`.")
@click.option("--after", metavar="TENANT/ID", help="Go on after this session, where a stopped run ended.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000_000), default=500.0, show_default=True, metavar="N",
              help="Bodies read a second, at most.")  # fmt: skip
@click.option("--at-once", type=click.IntRange(1, 64), default=4, show_default=True, metavar="N",
              help="Sessions looked at side by side.")  # fmt: skip
@click.option("--leftovers", is_flag=True, help="Tell also what nothing points to: one list of cold for each session.")
@settings_options
@json_option
def verify(
    tenant: str | None, session: str | None, after: str | None, rate: float, at_once: int, leftovers: bool,
    data_dir: str | None, config: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Compare everything that is stored with everything that points to it. Reads only.

    Walks heads, tails, segments, nodes, archived bodies and attachments in warm and cold, as configured here. Sessions
    may go on meanwhile; only with embedded tiers the service must be stopped. Exit code 8 if anything does not hold.
    """
    last = _key_of(after) if after is not None else None
    if last is not None and tenant not in (None, last.tenant):
        raise click.BadParameter(f"the session is not one of tenant {tenant}", param_hint="--after")
    settings = read_settings(config, data_dir=data_dir)
    only = Key(tenant or DEFAULT_TENANT, session) if session is not None else None
    run = _Run(_Screen(as_json=as_json), tenant, only, rate=rate, at_once=at_once, leftovers=leftovers)
    return asyncio.run(run(settings, last))


def _key_of(text: str) -> Key:
    tenant, slash, id = text.partition("/")
    if not slash:
        raise click.BadParameter("a session is TENANT/ID", param_hint="--after")
    return Key(unquote(tenant), unquote(id))


def place_of(key: Key) -> str:
    """A session as `--after` takes it: neither part holds a slash of its own."""
    return f"{quote(key.tenant, safe='')}/{quote(key.id, safe=':@+=')}"


async def _require(stores: Stores, key: Key) -> None:
    """Raises Gone: there is no such session, and so nothing of it could be whole or damaged."""
    try:
        await stores.warm.load(key)
    except NotFound:
        raise Gone(f"there is no session {place_of(key)}", "give --tenant of its token", NOT_FOUND) from None
    except DataCorrupt:
        return  # what is damaged is told by the look itself


async def _alone(key: Key) -> AsyncGenerator[Key]:
    yield key


class Pace:
    """At most so many turns a second, evenly; time that nobody used is not made up for."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._next = 0.0

    async def __call__(self) -> None:
        now = time.monotonic()
        self._next = max(self._next + self._step, now)
        if self._next > now:
            await asyncio.sleep(self._next - now)


class _Run:
    """One run, from the first session to the last, or until somebody stops it."""

    def __init__(
        self, screen: _Screen, tenant: str | None, only: Key | None, *, rate: float, at_once: int, leftovers: bool
    ) -> None:
        self._screen = screen
        self._tenant = tenant
        self._only = only
        self._pace = Pace(rate)
        self._at_once = at_once
        self._leftovers = leftovers
        self._stop = asyncio.Event()

    async def __call__(self, settings: Settings, last: Key | None) -> int:
        from sessionmanager.core.verify import SessionVerifier
        from sessionmanager.opening import open_stores, options_of, tools_of

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        walk, options = tools_of(settings, "warm").walk, options_of(settings, "warm")
        first = walk(settings.warm_url, after=last, tenant=self._tenant, **options)
        async with aclosing(first):
            try:
                await anext(first, None)  # a place with nothing in it is told before anything is made there
            except NotFound as error:
                raise Gone(error.detail, "give --data-dir or --config of the service", NOT_FOUND) from None
        async with open_stores(settings) as stores:
            if self._only is not None:
                await _require(stores, self._only)
            self._screen.of = 1 if self._only else sum((await stores.warm.counts(self._tenant)).values())
            verifier = SessionVerifier(
                stores.warm, stores.cold, stores.keys, leftovers=self._leftovers, pace=self._pace
            )
            patience = _Patience()
            while True:
                every = walk(settings.warm_url, after=last, tenant=self._tenant, **options)
                keys = every if self._only is None else _alone(self._only)
                try:
                    async with aclosing(keys), aclosing(verifier.walk(keys, at_once=self._at_once)) as looks:
                        async for looked in looks:
                            last = looked.key
                            patience.renew()
                            self._screen.looked(looked)
                            if self._stop.is_set():
                                return self._screen.end(last, whole=False)
                    return self._screen.end(last, whole=True)
                except SessionManagerError as error:
                    if error.remedy != "wait" or not patience.left():
                        error.add_note(f"go on with --after {place_of(last)}" if last else "nothing was looked at")
                        raise
                    if await pause(self._stop, min(error.retry_after_seconds or 1.0, PAUSE_SECONDS_MAX)):
                        return self._screen.end(last, whole=False)


class _Patience:
    """How long to go on asking a tier that is away."""

    def __init__(self) -> None:
        self._until: float | None = None

    def renew(self) -> None:
        self._until = None

    def left(self) -> bool:
        now = time.monotonic()
        if self._until is None:
            self._until = now + PATIENCE_SECONDS
        return now < self._until


class _Screen:
    """What is said, and where: faults and the end on stdout, how far it is on stderr, or all of it in JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self.of = 0
        self._as_json = as_json
        self._bar = not as_json and sys.stderr.isatty()
        self._sessions = self._bodies = self._bytes = self._busy = 0
        self._faulty = 0
        self._kinds: Counter[str] = Counter()
        self._shown_at = time.monotonic()

    def looked(self, looked: Looked) -> None:
        """One session more."""
        self._sessions += 1
        self._bodies += looked.bodies
        self._bytes += looked.bytes
        self._busy += looked.busy
        self._faulty += bool(looked.faults)
        if looked.faults:
            self._clear()
        for fault in looked.faults:
            self._kinds[fault.kind] += 1
            self._tell(looked.key, fault._asdict())
        now = time.monotonic()
        if now - self._shown_at >= (SHOWN_SECONDS if self._bar else TOLD_SECONDS):
            self._shown_at = now
            self._progress(looked.key)

    def end(self, last: Key | None, *, whole: bool) -> int:
        """The last line, and the exit code."""
        from sessionmanager.core.verify import MEANS

        self._clear()
        faults = self._kinds.total()
        if self._as_json:
            print_json({
                "done": whole, "after": place_of(last) if last else None, "sessions": self._sessions,
                "bodies": self._bodies, "bytes": self._bytes, "busy": self._busy, "faulty": self._faulty,
                "faults": dict(self._kinds),
            })  # fmt: skip
        else:
            for kind in self._kinds:
                click.echo(f"{kind}: {MEANS[kind]}")  # pyright: ignore[reportArgumentType]
            told = f"{faults:,} faults in {self._faulty:,} of them" if faults else "no fault"
            busy = f", {self._busy:,} moved on too fast to be judged" if self._busy else ""
            click.echo(f"{self._sessions:,} sessions, {self._bodies:,} bodies, {self._bytes:,} bytes: {told}{busy}")
            if not whole:
                click.echo(f"stopped; go on with --after {place_of(last)}" if last else "stopped", err=True)
        return DAMAGED if faults else OK if whole else INTERRUPTED

    def _tell(self, key: Key, fault: dict[str, Any]) -> None:
        from sessionmanager.core.verify import MEANS

        if self._as_json:
            print_json({"fault": fault.pop("kind"), "tenant": key.tenant, "session": key.id, **fault})
        else:
            assert fault["kind"] in MEANS
            click.echo(plain(f"{fault['kind']:<8} {place_of(key)}  {fault['where']}: {fault['detail']}"))

    def _progress(self, key: Key) -> None:
        faults = self._kinds.total()
        if self._as_json:
            print_json({"sessions": self._sessions, "of": self.of, "faults": faults, "after": place_of(key)})
            return
        text = f"{self._sessions:,} of {self.of:,} sessions, {self._bodies:,} bodies, {faults:,} faults"
        if self._bar:
            done = min(BAR_COLUMNS, BAR_COLUMNS * self._sessions // max(self.of, 1))
            click.echo(f"\r\x1b[K[{'#' * done}{'.' * (BAR_COLUMNS - done)}] {text}", err=True, nl=False)
        else:
            click.echo(f"{text}; at {place_of(key)}", err=True)

    def _clear(self) -> None:
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)
