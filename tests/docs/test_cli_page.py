"""The page of the command line against the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import click
import pytest

from sessionmanager.cli.main import COMMANDS, cli
from sessionmanager.cli.output import EXIT_CODES
from tests.support.house import DOCS

pytestmark = pytest.mark.unit

PAGE: Final = DOCS / "reference" / "cli.md"
SETTINGS: Final = {"--data-dir", "--config"}
CLIENT: Final = {"--url", "--token", "--tenant", "--timeout"}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its whole name; groups are named without their own flags."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in command.commands.items())
        else:
            yield name, command


def flags(command: click.Command) -> dict[str, click.Option]:
    return {
        flag: option
        for option in command.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    }


def sections() -> dict[str, str]:
    parts = re.split(r"^#{2,3} (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def written(section: str) -> dict[str, str]:
    """Flag → default, of the table in a section."""
    rows = re.findall(r"^\| ((?:`-[^`]+` ?)+)\| ([^|]+) \|", sections()[section], re.MULTILINE)
    return {flag: default for cell, default in rows for flag in re.findall(r"`([^`]+)`", cell)}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    named = {name for name, _ in commands()} | {name.split()[0] for name, _ in commands()}
    assert sections().keys() - {"Exit codes", "Flags of every command"} == named


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_every_flag_is_on_the_page_and_no_other(name: str) -> None:
    has = set(flags(dict(commands())[name]))
    said = set(written(name)) | {"--json"}
    if " " in name:
        said |= set(written(name.split()[0]))
    if name.split()[0] not in ("demo", "simulate"):
        said |= SETTINGS
    assert has == said


@pytest.mark.parametrize("name", [name for name, _ in commands()])
def test_a_default_that_help_shows_is_the_one_on_the_page(name: str) -> None:
    said = written(name) | (written(name.split()[0]) if " " in name else {})
    for flag, option in flags(dict(commands())[name]).items():
        if flag in said and option.show_default is True:
            default = option.default[0] if isinstance(option.default, tuple) else option.default
            assert said[flag] == f"`{default}`", flag
        shown = re.search(r"\[default: ([\w.]+)\]", option.help or "")
        if flag in said and shown:
            assert said[flag] in (f"`{shown[1]}`", shown[1], "on"), flag


def test_exit_codes_are_those_of_the_commands() -> None:
    said = re.findall(r"^\| (\d+) \| ([^|]+) \|", sections()["Exit codes"], re.MULTILINE)
    assert {int(code): meaning for code, meaning in said} == EXIT_CODES
