"""`sessionmanager bridge …`: takes calls from a carrier, joins them to a realtime model, keeps them in the service."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sessionmanager.cli.failures import Gone, explain
from sessionmanager.cli.output import USAGE, print_json
from sessionmanager.cli.sessions import Target, client_options
from sessionmanager.cli.token import await_secret, end_of
from sessionmanager.errors import SessionManagerError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from sessionmanager.bridges.bridge import Bridge
    from sessionmanager.bridges.functions import Functions
    from sessionmanager.client import AsyncClient

F = TypeVar("F", bound=Callable[..., Any])
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
FLAGS: Final = {"tokens": "--carrier-token", "auth_tokens, shared_keys": "--auth-token", "public_url": "--public-url"}
"""Options of a carrier's half → how they are called here."""
SIMULATED: Final = "simulated"
"""In place of an address: a model of this process, which knows the recorded call."""


def _model_options(command: F) -> F:
    """What every bridge has: a model, an address of its own, the service."""
    options = (
        click.option("--upstream", required=True, metavar="URL",
                     help="The realtime model, wss://…; `simulated` is one of this process."),
        click.option("--upstream-token", envvar="OPENAI_API_KEY", help="For it; better in the environment."),
        click.option("--flavour", type=click.Choice(("ga", "beta")), default="ga", show_default=True,
                     help="Generation of its event names."),
        click.option("--instructions", metavar="TEXT", help="Of the system, for the model."),
        click.option("--voice", help="A name that the model knows."),
        click.option("--greeting", metavar="TEXT", default="Greet the caller.", show_default=True,
                     help="What the model is told to say first in a new conversation; empty = it waits."),
        click.option("--functions", "functions_name", metavar="MODULE:NAME",
                     help="Functions that the model may ask for."),
        click.option("--outbox", type=click.Path(path_type=Path, dir_okay=False),
                     help="A file for what is said while the service is away; else memory."),
        click.option("--checkpoint-seconds", type=click.FloatRange(0, 60), default=1.0, show_default=True,
                     envvar="BRIDGE_CHECKPOINT_SECONDS",
                     help="How often the service is given what a caller is saying; 0 = it is given no sound."),
        click.option("--metrics-token", envvar="BRIDGE_METRICS_TOKEN",
                     help="Who shows it may read /metrics; without one only a loopback address has the page."),
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option("--port", type=click.IntRange(0, 65535), default=8010, show_default=True,
                     help="Port to listen on; 0 takes a free one."),
        client_options,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def bridge() -> None:
    """Take calls from a carrier, talk to a realtime model, keep everything in the session."""


@bridge.command()
@click.option("--carrier-token", "carrier_tokens", multiple=True, envvar="AUDIOCODES_TOKEN",
              help="That VoiceAI Connect sends; more than one during a rotation.")  # fmt: skip
@_model_options
def audiocodes(carrier_tokens: tuple[str, ...], **common: Any) -> None:
    """Calls of AudioCodes VoiceAI Connect: the bot's address is ws://HOST:PORT/audiocodes."""
    from sessionmanager.bridges.audiocodes.app import make_app
    from sessionmanager.bridges.audiocodes.options import AudioCodesOptions

    options = _checked(lambda: AudioCodesOptions(tokens=carrier_tokens))
    _warn_if_open(common, carrier_tokens, "--carrier-token")
    _run(common, lambda made, _: make_app(made, options), "ws", "/audiocodes")


@bridge.command()
@click.option("--public-url", metavar="URL", help="Where Twilio finds this bridge: https://voice.example.com.")
@click.option("--auth-token", "auth_tokens", multiple=True, envvar="TWILIO_AUTH_TOKEN",
              help="Of the account; both during a rotation. Without one nothing is checked.")  # fmt: skip
@click.option("--serves", type=click.Choice(("media", "relay")), default="media", show_default=True,
              help="What a call is connected to: a Media Stream, or a ConversationRelay.")  # fmt: skip
@click.option("--twilio-greeting", metavar="TEXT", help="What Twilio itself says first, on a ConversationRelay.")
@_model_options
def twilio(
    public_url: str | None, auth_tokens: tuple[str, ...], serves: Any, twilio_greeting: str | None, **common: Any
) -> None:
    """Calls of Twilio: the voice webhook is http://HOST:PORT/twilio/voice, its status callback /twilio/status."""
    from sessionmanager.bridges.twilio.app import make_app
    from sessionmanager.bridges.twilio.desk import ClientDesk
    from sessionmanager.bridges.twilio.options import TwilioOptions

    options = _checked(
        lambda: TwilioOptions(public_url=public_url, auth_tokens=auth_tokens, serves=serves, greeting=twilio_greeting)
    )
    _warn_if_open(common, auth_tokens, "--auth-token")
    _run(common, lambda made, client: make_app(made, options, desk=ClientDesk(client)), "http", "/twilio/voice")


def _checked(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ValueError as error:
        option, colon, rest = str(error).partition(":")
        raise Gone(f"{FLAGS.get(option, option)}{colon}{rest}", "correct the option", USAGE) from None


def _warn_if_open(common: dict[str, Any], secrets: tuple[str, ...], flag: str) -> None:
    if not secrets and common["host"] not in LOOPBACK:
        click.echo(f"warning: without {flag}, whoever reaches {common['host']} can call", err=True)


def _run(common: dict[str, Any], make: Callable[[Bridge, AsyncClient], Starlette], scheme: str, path: str) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    target = Target(
        common["url"], common["token"], common["tenant"], common["timeout"], common["data_dir"], common["config"],
        role="bridge",
    )  # fmt: skip
    functions = _functions(common["functions_name"])
    if common["token"] is not None:
        _warn_of_end(common["token"])
    asyncio.run(_serve(common, target, functions, make, (scheme, path)))


def _functions(name: str | None) -> Functions | None:
    if name is None:
        return None
    from sessionmanager.bridges.functions import Functions

    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise Gone(f"--functions: {error}", "name a module and a `Functions` in it: mybot:functions", USAGE) from None
    if not isinstance(found, Functions):
        raise Gone(f"--functions: {name} is no `Functions`", "see sessionmanager.bridges.functions", USAGE)
    return found


async def _serve(
    common: dict[str, Any],
    target: Target,
    functions: Functions | None,
    make: Callable[[Bridge, AsyncClient], Starlette],
    place: tuple[str, str],
) -> None:
    from sessionmanager.bridges.doors.metrics import with_metrics
    from sessionmanager.bridges.doors.serving import serve
    from sessionmanager.running.small_server import listen

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await await_secret(target)  # what is wrong with a token is said before anything listens
    async with _opened(common, target, functions) as (made, client):
        app = make(made, client)
        sockets, token = app.state.sockets, common["metrics_token"]
        if token is not None or common["host"] in LOOPBACK:
            app = _checked(lambda: with_metrics(app, made.metrics, token))
        try:
            door = listen(common["host"], common["port"])
        except OSError as error:
            raise _not_listening(common["host"], common["port"], error) from None
        host, port = door.getsockname()[:2]
        address = f"{place[0]}://{f'[{host}]' if ':' in host else host}:{port}{place[1]}"

        def told() -> None:
            if common["as_json"]:
                print_json({"address": address, "service": target.url})
            else:
                click.echo(f"the bridge answers at {address}, and keeps calls at {target.url}")

        looking = asyncio.create_task(_look(client), name="looks at the service")
        try:
            await serve(app, door, sockets, stop, told=told)
        finally:
            looking.cancel()


@asynccontextmanager
async def _opened(
    common: dict[str, Any], target: Target, functions: Functions | None
) -> AsyncGenerator[tuple[Bridge, AsyncClient]]:
    from sessionmanager.bridges.bridge import open_bridge
    from sessionmanager.bridges.options import BridgeOptions
    from sessionmanager.bridges.realtime.connection import RealtimeModel
    from sessionmanager.bridges.upstream import Setup
    from sessionmanager.client import AsyncClient, Retry

    options = BridgeOptions(
        setup=Setup(instructions=common["instructions"], voice=common["voice"]),
        greeting=common["greeting"] or None,
        outbox=common["outbox"],
        checkpoint_seconds=common["checkpoint_seconds"],
    )
    async with AsyncExitStack() as stack:
        url = common["upstream"]
        if url == SIMULATED:
            from sessionmanager.cli.demo import RECORDING
            from sessionmanager.simulate.realtime.script import Script, read_script
            from sessionmanager.simulate.realtime.server import open_model

            script = read_script(RECORDING) if RECORDING.exists() else Script()
            url = (await stack.enter_async_context(open_model(script))).url
        try:
            model = RealtimeModel(url, token=common["upstream_token"], flavour=common["flavour"])
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--upstream") from None
        retry = Retry(try_seconds=common["timeout"])
        try:
            client = AsyncClient(target.url, target.token, retry=retry)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
        await stack.enter_async_context(client)
        yield await stack.enter_async_context(open_bridge(client, model, functions=functions, options=options)), client


# -- what is looked at when it starts, so that the first caller is not the one who finds it out


def _warn_of_end(token: str) -> None:
    """An API key has no end, nor has a token that is made here: that is made anew."""
    ends_at = end_of(token)
    if ends_at is None:
        return
    word = "has run out" if ends_at <= time.time() else "runs out"
    at = datetime.fromtimestamp(ends_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    click.echo(f"warning: the token {word} at {at}, and no call is kept then. An API key need not run out", err=True)


async def _look(client: AsyncClient) -> None:
    """Ask the service once what every bridge may, and say what would keep calls from it; they wait for it all the
    same."""
    try:
        await client.list_calls(limit=1)
    except SessionManagerError as error:
        known = explain(error)
        assert known is not None, "every error of the service is explained"
        click.echo(f"warning: calls wait for now: {known.lines[-1]}; next: {known.next_step}", err=True)


def _not_listening(host: str, port: int, error: OSError) -> Gone:
    why = (error.strerror or type(error).__name__).partition(" (")[0]
    return Gone(f"cannot listen on {host} port {port}: {why}", "give another --host or --port")
