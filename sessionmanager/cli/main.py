"""The command `sessionmanager`: which commands there are, and how each may end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from sessionmanager import __version__
from sessionmanager.cli.output import FAILURE, INTERRUPTED, USAGE, exit_codes_help, fail

COMMANDS: Final = {
    "serve": ("serve:serve", "Run the service."),
    "worker": ("worker:worker", "Run the worker alone, beside servers on shared tiers."),
    "loadtest": ("loadtest:loadtest", "Hold many conversations with a service at once, and judge it."),
    "demo": ("demo:demo", "Play a recorded call through crash, resume and archive, and compare."),
    "token": ("token:token", "Make a token and print it alone."),
    "migrate": ("upkeep.migrate:migrate", "Bring the warm tier to this release: tables, collections, indexes."),
    "restored": ("upkeep.migrate:restored", "After warm came back from a backup: erase again what was erased since."),
    "rewrap": ("upkeep.rewrap:rewrap", "Wrap every key anew with the first master key, so that an older one can go."),
    "config": ("config:config", "Show every setting, its value and where it came from."),
    "archive": ("archive:archive", "Ask that quiet sessions move to cold now."),
    "doctor": ("doctor:doctor", "Look at each configured tier from here and say what to mend."),
    "verify": ("verify:verify", "Compare everything that is stored with everything that points to it."),
    "bridge": ("bridge:bridge", "Take calls of AudioCodes or Twilio, talk to a realtime model, keep everything."),
    "simulate": ("simulate:simulate", "Play a carrier or a realtime model, from a recorded call."),
    "sessions": ("sessions:sessions", "List, show, follow and export sessions of a running service."),
}
"""Command → where it lies in `cli/`, and its line of help, which is here so that `--help` imports none of them."""


class _Commands(click.Group):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        return getattr(import_module(f"sessionmanager.cli.{module}"), name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would make it a failure
            return _reader_left()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])


@click.group(cls=_Commands, epilog=exit_codes_help(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sessionmanager", message="%(prog)s %(version)s")
def cli() -> None:
    """A service that owns conversations: every turn durable, every session resumable."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; an error is one line on stderr that ends with what to do next."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        code = cli.main(list(arguments), prog_name="sessionmanager", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "sessionmanager"
        code = fail(error.format_message(), f"{path} --help", USAGE, as_json=as_json)
    except click.ClickException as error:
        code = fail(error.format_message(), "sessionmanager --help", FAILURE, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OSError as error:
        what = f"{error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}"
        code = fail(what, "look at the path and its permissions", FAILURE, as_json=as_json)
    except Exception as error:
        from sessionmanager.cli.failures import explain

        known = explain(error)
        if known is None:
            raise  # a mistake of ours: the traceback is the report
        for line in known.lines[:-1]:
            fail(line, "", known.code, as_json=as_json)
        code = fail(known.lines[-1], known.next_step, known.code, as_json=as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _reader_left() -> int:
    """`… | head` has what it wanted. Python would complain once more when it flushes stdout at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
