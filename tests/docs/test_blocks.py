"""Every block of code in every page is in a known language and says what there is; what is run besides says so."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import pytest
import yaml

from sessionmanager import telemetry
from sessionmanager.api.query import query_reader
from sessionmanager.api.routing import RouteTable
from sessionmanager.api.strictjson import reader_of
from sessionmanager.cli.main import cli
from sessionmanager.settings_loader import load_settings
from tests.support import blocks, house
from tests.support.house import DOCS, ROOT
from tests.support.table import unbound_table

pytestmark = pytest.mark.unit

LANGUAGES: Final = frozenset({*blocks.SHELL, "python", "json", "toml", "yaml", "ts", "text"})
"""`python` and `ts` are looked at by test_python_blocks.py and test_typescript_blocks.py beside this; `text` is for
people alone: pictures, and answers that are cut short."""
OPEN_ON_LOOPBACK: Final = "/metrics"
"""Asks for a credential only where others could reach it."""


TABLE: Final = RouteTable(unbound_table())


def ids(of: tuple[blocks.Block, ...]) -> list[str]:
    return [block.place for block in of]


def test_every_block_says_what_it_is() -> None:
    unknown = [
        f"{block.place}: {block.language or 'nothing'}" for block in blocks.blocks() if block.language not in LANGUAGES
    ]
    assert unknown == []
    assert len(blocks.blocks()) > 50


@pytest.mark.parametrize("block", blocks.of("json"), ids=ids(blocks.of("json")))
def test_json_is_json(block: blocks.Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks.of("toml"), ids=ids(blocks.of("toml")))
def test_toml_is_a_file_of_settings_that_the_service_takes(block: blocks.Block, tmp_path: Path) -> None:
    tomllib.loads(block.text)
    config = tmp_path / "sessionmanager.toml"
    config.write_text(block.text)
    load_settings(environ={}, config=config)


@pytest.mark.parametrize("block", blocks.of("yaml"), ids=ids(blocks.of("yaml")))
def test_yaml_is_yaml(block: blocks.Block) -> None:
    assert yaml.safe_load(block.text)


# -- the shell


@pytest.mark.parametrize("block", blocks.of("sh"), ids=ids(blocks.of("sh")))
def test_a_shell_reads_it(block: blocks.Block) -> None:
    read = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True, timeout=30, check=False)
    assert read.returncode == 0, read.stderr


def test_every_command_of_ours_is_one_that_the_command_line_takes() -> None:
    wrong: list[str] = []
    seen = 0
    for place, words in blocks.commands():
        arguments = _of_ours(words)
        if arguments is None:
            continue
        seen += 1
        try:
            _parse(cli, arguments, None)
        except click.ClickException as error:
            wrong.append(f"{place}: {' '.join(words)}: {error.format_message()}")
    assert wrong == []
    assert seen > 10


def _of_ours(words: tuple[str, ...]) -> list[str] | None:
    """The arguments of `sessionmanager …`, also where a container runs it; None for another's command."""
    if words[0].rpartition("/")[2] == "sessionmanager":
        return list(words[1:])
    if words[0] in ("docker", "kubectl") and "exec" in words:
        last = max(n for n, word in enumerate(words) if word == "sessionmanager")
        return list(words[last + 1 :])
    return None


def _parse(command: click.Command, arguments: list[str], parent: click.Context | None) -> None:
    """Read the arguments as the command itself would, and do nothing. Raises click.ClickException."""
    name = command.name or "sessionmanager"
    with command.make_context(name, arguments, parent=parent) as context:
        if isinstance(command, click.Group):
            _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])  # pyright: ignore[reportPrivateUsage]
            assert inner is not None
            _parse(inner, rest, context)


def test_every_target_of_make_is_there_and_every_variable_is_read() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    variables = set(re.findall(r"\b[A-Z_]+\b", makefile + (ROOT / "loadtests" / "run.py").read_text()))
    named = [(place, word) for place, words in blocks.commands() if words[0] == "make" for word in words[1:]]
    wrong = [
        f"{place}: make {word}"
        for place, word in named
        if (word.partition("=")[0] not in variables if "=" in word else word not in targets)
    ]
    assert wrong == []
    assert len(named) > 8
    inline = {
        name for page in house.pages() for name in re.findall(r"`(?:\w+=\S+ )*make ([a-z][a-z-]*)", page.read_text())
    }
    assert inline <= targets


def test_every_file_of_the_project_that_is_named_is_there() -> None:
    folders = "|".join(re.escape(folder) for folder in house.FOLDERS)
    path = re.compile(rf"(?:\./)?((?:{folders})/[\w./*-]+)")  # not kubectl's `deploy/NAME`, which is a kind and a name
    wrong: list[str] = []
    for place, words in blocks.commands():
        for word in () if words[0] == "kubectl" else words:
            found = path.fullmatch(word)
            if found is not None and not any(ROOT.glob(found[1])):
                wrong.append(f"{place}: {word}")
        applied = words[words.index("-k") + 1] if words[0] == "kubectl" and "-k" in words else None
        if applied is not None and not (ROOT / applied / "kustomization.yaml").exists():
            wrong.append(f"{place}: kubectl apply -k {applied}")
    assert wrong == []


# -- requests


def test_every_curl_is_a_request_that_the_service_takes() -> None:
    wrong: list[str] = []
    seen = 0
    for request in blocks.requests():
        seen += 1
        try:
            _send(request)
        except Exception as error:
            told = getattr(error, "detail", "") or error
            wrong.append(f"{request.place}: {request.method} {request.path}: {type(error).__name__}: {told}")
    assert wrong == []
    assert seen > 20


def _send(request: blocks.Request) -> None:
    """What the service does with a request before any handler sees it. Variables stand for something that fits."""
    address = urlsplit(blocks.VARIABLE.sub("x1", request.path))
    route, _ = TABLE.find(request.method, address.path)
    query_reader(route.query).read(address.query.encode())
    if not route.open and address.path != OPEN_ON_LOOPBACK:
        assert {"authorization", "x-api-key"} & request.headers.keys(), "no credential"
    if request.body is not None:
        media = request.headers.get("content-type", "application/x-www-form-urlencoded")
        assert media in route.request_media, f"{media} is not taken"
        reader_of(dict(route.bodies)[media]).read(blocks.VARIABLE.sub("1", request.body).encode())


# -- metrics


def test_every_metric_of_a_page_has_the_labels_that_it_is_asked_by() -> None:
    rows = (*telemetry.METRICS, *telemetry.BRIDGE_METRICS)
    labels = {row.name: {name for name, _ in row.labels} | {"le"} for row in rows}
    recorded = set(re.findall(r"record: (\S+)", (ROOT / "deploy/prometheus/rules.yml").read_text()))
    wrong: list[str] = []
    for page in house.pages():
        if page.is_relative_to(DOCS / "decisions"):
            continue
        text = page.read_text()
        wrong += [
            f"{page.name}: {name}" for name in re.findall(r"\bsessionmanager:\w+:\w+", text) if name not in recorded
        ]
        for grouped, name, filters in re.findall(
            r"(?:by \(([\w, ]+)\) \(rate\()?\b(sessionmanager_[a-z0-9_]+)(?:\{([^}`]*)\})?", text
        ):
            plain = name if name in labels else re.sub(r"_(total|bucket|count|sum)$", "", name)
            asked = {*grouped.split(", "), *re.findall(r'(\w+)(?:=~?|!=|!~)"', filters)} - {""}
            foreign = asked - labels.get(plain, set()) - {"instance", "namespace", "pod"}  # those are Prometheus' own
            wrong += [f"{page.name}: {name} has no label {label}" for label in sorted(foreign)]
    assert wrong == []
