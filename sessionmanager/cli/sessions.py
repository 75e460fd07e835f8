"""`sessionmanager sessions …`: what people ask a running service about its sessions, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from sessionmanager.cli.options import DEFAULT_TENANT, local_url, read_settings, settings_options
from sessionmanager.cli.output import json_option, plain, print_json, print_line, shorten, table
from sessionmanager.words import PLACEMENTS, SESSION_TYPES, STATUSES

if TYPE_CHECKING:
    from sessionmanager.client.client import PlainClient

F = TypeVar("F", bound=Callable[..., Any])
TIMEOUT_SECONDS: Final = 10.0
TEXT_WIDTH: Final = 160


def client_options(command: F) -> F:
    """Where the service is and who asks it."""
    options = (
        click.option("--url", envvar="SESSIONMANAGER_URL", help="Address of the service; else as `serve` has it."),
        click.option("--token", envvar="SESSIONMANAGER_TOKEN", help="Better in the environment; else one is made."),
        click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="For the token that is made."),
        click.option("--timeout", type=click.FloatRange(0.1, 600), default=TIMEOUT_SECONDS, show_default=True,
                     metavar="SECONDS", help="Deadline of each call."),
        settings_options,
        json_option,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


class Target:
    """The service that the options name. A token that was not given is made, and made anew before it runs out."""

    def __init__(
        self,
        url: str | None,
        token: str | None,
        tenant: str,
        timeout: float,
        data_dir: str | None,
        config: Path | None,
        *,
        role: str = "viewer",
    ) -> None:
        self._timeout = timeout
        self._role = role
        self._token = token
        self._tenant = tenant
        self._made: tuple[str, float] | None = None
        # Whoever names both needs no settings here, and none of them can be wrong.
        self._settings = read_settings(config, data_dir=data_dir) if url is None or token is None else None
        self.url = url or local_url(self._settings or read_settings(config, data_dir=data_dir))

    def token(self) -> str:
        if self._token is not None:
            return self._token
        import time

        from sessionmanager.cli.token import mint

        assert self._settings is not None
        if self._made is None or self._made[1] - time.time() < 60:
            minted = mint(self._settings, (self._role,), tenant=self._tenant, subject="cli", ttl_seconds=900)
            self._made = minted.token, minted.expires_at
        return self._made[0]

    def run(self, work: Callable[[PlainClient], Awaitable[None]]) -> None:
        from sessionmanager.client.client import PlainClient

        async def whole() -> None:
            async with client:
                await work(client)

        self.token()  # what is wrong with it is said before anything is asked
        try:
            client = PlainClient(self.url, self.token, deadline_seconds=self._timeout)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
        asyncio.run(whole())


@click.group()
def sessions() -> None:
    """List, show, follow and export sessions of a running service."""


@sessions.command("list")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--type", "type_", type=click.Choice(SESSION_TYPES))
@click.option("--placement", type=click.Choice(PLACEMENTS))
@click.option("--caller")
@click.option("--callee")
@click.option("--participant", metavar="IDENTITY")
@click.option("--label")
@click.option("--sort", type=click.Choice(("created_at", "last_activity")), help="Newest first, by this.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@click.option("--cursor", help="Where the last page ended.")
@client_options
def list_(
    status: str | None, type_: str | None, placement: str | None, caller: str | None, callee: str | None,
    participant: str | None, label: str | None, sort: str | None, limit: int, cursor: str | None,
    url: str | None, token: str | None, tenant: str, timeout: float, data_dir: str | None, config: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List sessions, newest first; a page may be up to 10 s old."""

    async def work(client: PlainClient) -> None:
        page = await client.list(
            limit=limit, cursor=cursor, status=status, type=type_, placement=placement, caller=caller, callee=callee,
            participant=participant, label=label, sort=sort,
        )  # fmt: skip
        if as_json:
            print_json(page)
            return
        columns = ("id", "status", "placement", "version", "entry_count", "caller", "last_activity")
        rows = [tuple(plain(str(item.get(name) or "")) for name in columns) for item in page["items"]]
        click.echo(table([("ID", "STATUS", "PLACEMENT", "VERSION", "ENTRIES", "CALLER", "LAST ACTIVITY"), *rows]))
        if page.get("next_cursor"):
            click.echo(f"more: --cursor {page['next_cursor']}", err=True)

    Target(url, token, tenant, timeout, data_dir, config).run(work)


@sessions.command()
@click.argument("id")
@click.option("--entries", type=click.IntRange(0, 500), default=10, show_default=True, help="How many of the newest.")
@client_options
def show(
    id: str, entries: int, url: str | None, token: str | None, tenant: str, timeout: float, data_dir: str | None,
    config: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Show a session and the newest of what was said."""

    async def work(client: PlainClient) -> None:
        answer = await client.get_raw(id, entries=entries)
        if as_json:
            print_line(answer.body)
            return
        session = answer.json()
        lines = session.pop("entries", [])
        members = [(name, _short(value)) for name, value in session.items() if value not in (None, [], {}, "")]
        members.append(("tier", answer.headers.get("session-tier", "")))
        click.echo(table(members))  # pyright: ignore[reportArgumentType]
        for entry in lines:
            click.echo(entry_line(entry))

    Target(url, token, tenant, timeout, data_dir, config).run(work)


@sessions.command()
@click.argument("id")
@click.option("--entries", type=click.IntRange(0, 200), default=10, show_default=True, help="First so many old ones.")
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, metavar="SECONDS",
              help="Time between two looks.")  # fmt: skip
@click.option("--follow/--no-follow", default=True, help="Go on with what comes.  [default: follow]")
@client_options
def tail(
    id: str, entries: int, interval: float, follow: bool, url: str | None, token: str | None, tenant: str,
    timeout: float, data_dir: str | None, config: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Print the newest entries of a session and then each that comes, until Ctrl-C."""
    from sessionmanager.cli.reading import follow_entries

    def write(line: bytes) -> None:
        if as_json:
            print_line(line)
        else:
            import msgspec

            click.echo(entry_line(msgspec.json.decode(line)))

    async def work(client: PlainClient) -> None:
        await follow_entries(client, id, newest=entries, interval_seconds=interval if follow else None, write=write)

    Target(url, token, tenant, timeout, data_dir, config).run(work)


@sessions.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; else stdout.")
@client_options
def export(
    id: str, output: Path | None, url: str | None, token: str | None, tenant: str, timeout: float,
    data_dir: str | None, config: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write a whole session as JSON lines: its head, then every entry, as they are at one version.

    A file is complete or not there.
    """
    from sessionmanager.cli.reading import export_session, open_export

    async def work(client: PlainClient) -> None:
        with open_export(output) as file:
            await export_session(client, id, file)

    Target(url, token, tenant, timeout, data_dir, config).run(work)


def entry_line(entry: dict[str, Any]) -> str:
    """An entry on one line, for people."""
    data = entry.get("data")
    event = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    who = entry.get("role") or entry.get("name") or entry.get("status") or event.get("event") or ""
    said = next((entry[name] for name in ("content", "output", "arguments") if name in entry), None)
    if said is None:
        said = _happened(event) if event else entry.get("data", "")
    at = str(entry.get("at", ""))[:19].replace("T", " ")
    return plain(f"{entry.get('seq', ''):>7}  {at}  {entry.get('type', '')} {who}  {_short(said)}".rstrip())


def _happened(event: dict[str, Any]) -> Any:
    """What an entry of the service itself says, as short as a person who reads along wants it."""
    participant, floor = event.get("participant"), event.get("floor")
    if isinstance(participant, dict):
        who = cast("dict[str, Any]", participant)
        return f"{who.get('identity')} ({who.get('kind')}, {who.get('id')})"
    if isinstance(floor, dict):
        held = cast("dict[str, Any]", floor)
        return f"number {held.get('number')}, held by {held.get('holder') or 'nobody'}"
    return {name: value for name, value in event.items() if name != "event"}


def _short(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return plain(shorten(text, TEXT_WIDTH))
