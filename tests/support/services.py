"""Real servers for tests: those that `make services` shares, or that the environment names, and one's own to break.

A test asks for an address and gets one, or is skipped naming the server, or fails where servers are required:
in the profile `full`, and wherever TEST_SERVERS is `required`.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, NoReturn
from urllib.parse import unquote, urlsplit

import pytest

from tests.services.own import NotHereError, OwnServer, own_server
from tests.services.recipes import RECIPES
from tests.services.state import State, required, variable

REGION: Final = "us-east-1"
REASON: Final = re.compile(r"needs the server (?P<name>[\w-]+)")


class S3Address(NamedTuple):
    """What an S3 client is given. Address objects by path, not by the bucket's name as a host."""

    endpoint_url: str
    key_id: str
    secret: str
    region: str = REGION


def service_url(name: str) -> str:
    """The address of a shared server: from the environment, else from `make services`.

    Others use it too, now and later: keep to names of your own (a random database, prefix or bucket), and break
    nothing; `owned` gives a server to break. Skips or fails the test where the server is missing.

    Args: name: `redis`, `redis-cluster`, `redis-sentinel`, `mongo`, `mongo-memory`, `s3`, `moto`, `toxiproxy` or
            `livekit`.
    Returns: in the form that HOT_URL and WARM_URL take; for `s3` and `moto` see `s3_address`.
    """
    assert name in RECIPES, f"{name} is none of {', '.join(RECIPES)}"
    given = os.environ.get(variable(name))
    if given:
        return given
    shared = State().read().get(name)
    if shared is None or not shared.runs:
        _missing(name, f"make services, or {variable(name)}")
    return shared.url


def s3_address(name: str = "s3") -> S3Address:
    """The same for `s3` or `moto`, taken apart."""
    return parse_s3(service_url(name))


def parse_s3(url: str) -> S3Address:
    """`http://key-id:secret@host:port`, both percent-encoded where they hold other than letters, digits and `-._~`."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return S3Address(f"{parts.scheme}://{place}", unquote(parts.username or ""), unquote(parts.password or ""))


@asynccontextmanager
async def owned(name: str, folder: Path) -> AsyncGenerator[OwnServer]:
    """A server of this test alone, that may be killed, frozen and restarted; see `OwnServer`.

    Skips or fails the test where the server's program is missing, which `make services` installs or builds.
    """
    try:
        async with own_server(name, folder) as server:
            yield server
    except NotHereError:
        _missing(name, "make services")


def need(there: bool, name: str, remedy: str) -> None:
    """Skips or fails the test where something else than a server is missing, by the same rule."""
    if not there:
        _missing(name, remedy)


def _missing(name: str, remedy: str) -> NoReturn:
    reason = f"needs the server {name}: {remedy}"
    if required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def tell_missing(reporter: pytest.TerminalReporter) -> None:
    """The last lines of a run name the servers that were missing, and how many tests each kept from running."""
    counts: dict[str, int] = {}
    for report in reporter.getreports("skipped"):
        told = REASON.search(str(report.longrepr))
        if told is not None:
            counts[told["name"]] = counts.get(told["name"], 0) + 1
    if counts:
        reporter.section("servers that were missing")
        for name, count in sorted(counts.items()):
            reporter.line(f"{name}: {count} test{'s' * (count > 1)} skipped")
        reporter.line("make services starts them")
