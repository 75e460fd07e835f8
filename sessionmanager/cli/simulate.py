"""`sessionmanager simulate …`: carriers and a model to try a bridge with, without an account."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from sessionmanager.cli.demo import RECORDING
from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import UNAVAILABLE, USAGE, json_option, plain, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sessionmanager.simulate.calling.caller import Telephone, Told
    from sessionmanager.simulate.calling.script import Recording, Step

TURNS: Final = 3
HANG_UP_SECONDS: Final = 2.0
TOLD_SECONDS: Final = 2.0
"""After which it is said that nothing answers; a bridge that is started beside a caller is waited for."""
_recording = click.option(
    "--recording", type=click.Path(path_type=Path, dir_okay=False), default=RECORDING,
    help="A recorded call, see docs/examples/README.md.  [default: the one beside it]",
)  # fmt: skip


def _caller_options(command: Any) -> Any:
    options = (
        click.argument("url"),
        _recording,
        click.option("--turns", type=click.IntRange(1), default=TURNS, show_default=True,
                     help="How many of the caller's turns are played."),
        click.option("--drop", is_flag=True, help="Break the socket after each turn."),
        click.option("--pace", type=click.FloatRange(0.1, 50), default=1.0, show_default=True,
                     help="How many times quicker than it sounds the caller's sound is sent."),
        json_option,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def simulate() -> None:
    """Play a carrier or a realtime model, from a recorded call."""


@simulate.command()
@_recording
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8020, show_default=True,
              help="Port to listen on; 0 takes a free one.")  # fmt: skip
@json_option
def realtime(recording: Path, host: str, port: int, as_json: bool) -> None:
    """Be a realtime model, until Ctrl-C: says what the bot said in a recorded call."""
    from sessionmanager.simulate.realtime.script import read_script

    try:
        script = read_script(recording)
    except ValueError as error:
        raise Gone(str(error), "give --recording another file", USAGE) from None

    async def listen() -> None:
        from sessionmanager.simulate.realtime.server import open_model

        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with open_model(script, host=host, port=port) as model:
            if as_json:
                print_json({"address": model.url})
            else:
                click.echo(f"the model answers at {model.url}")
            await stop.wait()

    asyncio.run(listen())


@simulate.command()
@click.option("--carrier-token", envvar="AUDIOCODES_TOKEN", help="That the bridge expects.")
@click.option("--media-format", "media_formats", multiple=True, default=("raw/lpcm16",), show_default=True,
              help="That are offered; may be given more than once.")  # fmt: skip
@click.option("--conversation", metavar="ID", help="Its id; else a new one.")
@_caller_options
def audiocodes(
    carrier_token: str | None, media_formats: tuple[str, ...], conversation: str | None, url: str, recording: Path,
    turns: int, drop: bool, pace: float, as_json: bool,
) -> None:  # fmt: skip
    """Call a bridge at ws://…/audiocodes as VoiceAI Connect does, and play a recorded caller.

    A socket that is lost is opened again with `session.resume` for a minute: kill the bridge and start it again.
    Exit code 1 where the bridge does what the real one refuses.
    """
    from sessionmanager.simulate.audiocodes.phone import VaicOptions, dial

    _require(url, "ws", "wss")
    played = _read(recording, turns)
    options = VaicOptions(token=carrier_token, supported=media_formats, pace=pace, caller=played.caller, bot=played.bot)
    _play(dial(url, options, conversation), _steps(played.steps, drop=drop), as_json=as_json)


@simulate.command()
@click.option("--auth-token", envvar="TWILIO_AUTH_TOKEN", help="Of the account, to sign with.")
@click.option("--reaches", metavar="URL", help="Where the bridge is found from here, if URL is its public address.")
@_caller_options
def twilio(
    auth_token: str | None, reaches: str | None, url: str, recording: Path,
    turns: int, drop: bool, pace: float, as_json: bool,
) -> None:  # fmt: skip
    """Call a bridge at http://…/twilio/voice as Twilio does, follow its TwiML, and play a recorded caller.

    A socket that is lost is followed by the `action` address, as Twilio does it. Exit code 1 where the bridge does
    what the real one refuses.
    """
    from sessionmanager.simulate.twilio.phone import TwilioOptions, dial

    for address in (url, reaches):
        if address is not None:
            _require(address, "http", "https")
    played = _read(recording, turns)
    options = TwilioOptions(
        auth_token=auth_token, reaches=reaches, pace=pace, caller=played.caller, callee=played.callee
    )
    _play(dial(url, options), _steps(played.steps, drop=drop), as_json=as_json)


def _require(url: str, *schemes: str) -> None:
    """Raises BadParameter: the address is of another kind, so that nothing could ever answer there."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise click.BadParameter(f"the address is {' or '.join(f'{one}://host' for one in schemes)}…", param_hint="URL")


def _read(path: Path, turns: int) -> Recording:
    from sessionmanager.simulate.calling.script import read_recording

    try:
        return read_recording(path, turns)
    except ValueError as error:
        raise Gone(str(error), "give --recording another file", USAGE) from None


def _steps(steps: Sequence[Step], *, drop: bool) -> list[Step]:
    from sessionmanager.simulate.calling.script import Drop, Listen

    if not drop:
        return list(steps)
    dropping: list[Step] = []
    for step in steps:
        dropping += [step, Drop()] if isinstance(step, Listen) else [step]
    return dropping


def _play(dialled: AbstractAsyncContextManager[Any], steps: Sequence[Step], *, as_json: bool) -> None:
    from sessionmanager.simulate.calling.caller import Caller, GaveUp, Refused

    def wait_told() -> None:
        if not as_json:
            click.echo("the call is not answered yet: it is tried again and again, for a minute", err=True)

    async def play() -> None:
        waiting = asyncio.get_running_loop().call_later(TOLD_SECONDS, wait_told)
        async with dialled as phone:
            waiting.cancel()
            try:
                await Caller(phone, _teller(as_json)).play(steps)
            except asyncio.CancelledError:
                await _hang_up(phone)
                raise
        _summary(phone, as_json=as_json)

    try:
        asyncio.run(play())
    except Refused as error:
        raise Gone(f"the carrier refuses: {error}", "the bridge does what the real one would not take") from None
    except GaveUp as error:
        raise Gone(f"the call failed: {error}", "look at the bridge's log", UNAVAILABLE) from None


async def _hang_up(phone: Telephone) -> None:
    """Whoever presses Ctrl-C has put the receiver down: else the bridge would wait for them for hours."""
    with suppress(Exception):
        async with asyncio.timeout(HANG_UP_SECONDS):
            await phone.hang_up()


def _teller(as_json: bool) -> Callable[[Told], None]:
    def tell(told: Told) -> None:
        if as_json:
            print_json(told._asdict())
        else:
            click.echo(f"{told.who:>7}  {plain(told.text)}")

    return tell


def _summary(phone: Telephone, *, as_json: bool) -> None:
    slowest = round(max(phone.resume_seconds, default=0.0), 3)
    if as_json:
        print_json({"ending": phone.ending, "resumes": phone.resumes, "slowest_resume_seconds": slowest})
        return
    again = f"; {phone.resumes} times resumed, the slowest in {slowest:g} s" if phone.resumes else ""
    click.echo(f"{'':>7}  the call is over: {plain(phone.ending)}{again}")
