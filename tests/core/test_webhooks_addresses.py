"""Where webhooks may go: no spelling of an address that is not public, no name that leads to one, gets a request."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sessionmanager.core.outgoing.endpoints import NotAllowed
from sessionmanager.core.outgoing.requests import CallFailed
from sessionmanager.core.webhooks.destinations import Destinations, target_of
from tests.support.addresses import NOT_PUBLIC
from tests.support.receiver import Answer, Hooked, Receiver, hooked, receiver

pytestmark = pytest.mark.contract

PUBLIC = "93.184.216.34"


@pytest.fixture
async def world(folder: Path) -> AsyncIterator[Hooked]:
    async with hooked(folder) as running:
        yield running


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_however_its_name_looks(address: str) -> None:
    target = target_of("https://hooks.example.org/x")
    with pytest.raises(NotAllowed):
        Destinations(()).check(target.endpoint, [address])
    with pytest.raises(NotAllowed):
        Destinations(()).check(target.endpoint, [PUBLIC, address])


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946"])
def test_a_public_address_is_taken_over_https_alone(address: str) -> None:
    assert str(Destinations(()).check(target_of("https://example.org").endpoint, [address])) == address
    with pytest.raises(NotAllowed):
        Destinations(()).check(target_of("http://example.org").endpoint, [address])
    assert Destinations([address]).check(target_of("http://example.org").endpoint, [address])


def test_a_network_that_is_listed_is_taken_and_no_other() -> None:
    rule = Destinations(["10.1.0.0/16", "fd00::/64"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::5"):
        assert rule.check(target_of("http://inside").endpoint, [address])
    for address in ("10.2.0.1", "fd00:0:0:1::1", "127.0.0.1"):
        with pytest.raises(NotAllowed):
            rule.check(target_of("https://inside").endpoint, [address])
        with pytest.raises(NotAllowed):
            rule.check(target_of("https://inside").endpoint, ["10.1.2.3", address])
    with pytest.raises(ValueError, match="neither an address nor a network"):
        Destinations(["example.org"])


SPELLINGS = (
    *("https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/"),
    *(
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.0.0.1./",
        "https://localhost/",
        "https://LOCALHOST./",
    ),
    *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[0:0:0:0:0:0:0:1]/"),
    *("https://[::]/", "https://0/", "https://0.0.0.0/", "https://169.254.169.254/latest", "http://127.0.0.1/"),
)


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_spelling_of_this_machine_is_taken(world: Hooked, url: str) -> None:
    with pytest.raises((NotAllowed, CallFailed)):
        await world.sender(()).check(url)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "javascript:alert(1)", "//example.org"),
        *("https://user:secret@example.org/", "https://example.org@127.0.0.1/", "https://example.org#@127.0.0.1/"),
        *(
            "https://",
            "https:///x",
            "https://exa mple.org/",
            "https://example.org/\r\nHost: x",
            "https://example.org:0/",
        ),
        *(
            "https://example.org:99999/",
            "https://exämple.org/",
            "https://example.org/\x00",
            "https://[::1/",
            "x" * 3000,
        ),
        *("https://example.org\\@127.0.0.1/", "https://example.org/ x", 'https://example.org/"', "https://a..b/"),
        *("https://example.org/" + "a" * 2048, "x" * 3000),
    ],
)
def test_what_is_no_plain_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        target_of(url)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "authority", "rest"),
    [
        ("https://example.org", "example.org", "/"),
        ("https://EXAMPLE.org:443/", "example.org", "/"),
        ("https://example.org:8443/a/b/?x=1&y=%20#"[:-1], "example.org:8443", "/a/b/?x=1&y=%20"),
        ("https://example.org?token=1", "example.org", "/?token=1"),
        ("HTTPS://example.org//a", "example.org", "//a"),
    ],
)
def test_path_and_query_go_out_as_they_were_given(url: str, authority: str, rest: str) -> None:
    target = target_of(url)
    assert (target.endpoint.authority, target.rest) == (authority, rest)


async def test_a_name_that_leads_elsewhere_since_it_was_registered_gets_no_request(
    world: Hooked, there: Receiver
) -> None:
    """DNS rebinding: public when it is checked, this machine when it is sent to, and back again."""
    answers: list[Sequence[str]] = [[PUBLIC], ["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["::ffff:127.0.0.1"]]
    asked: list[str] = []

    def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[len(asked) - 1]

    sender = world.sender((), lookup=lookup)
    url = f"https://rebind.example.org:{there.port}/"
    await sender.check(url)
    hook, _ = await world.hook(url)
    for _ in range(3):
        outcome = await sender.send(hook, "evt_1", b"{}")
        assert (outcome.kind, outcome.reason) == ("failed", "not-allowed")
    assert asked == ["rebind.example.org"] * 4, "once for each attempt"
    assert there.got == []


async def test_the_connection_goes_to_the_address_that_was_checked(world: Hooked, there: Receiver) -> None:
    def lookup(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    hook, _ = await world.hook(f"http://no-such-name.invalid:{there.port}/in?a=b")
    outcome = await world.sender(["127.0.0.1"], lookup=lookup).send(hook, "evt_1", b'{"subject":"s"}')
    assert outcome.kind == "delivered"
    assert there.got[0].headers["host"] == f"no-such-name.invalid:{there.port}"
    assert there.got[0].path == "/in?a=b"


async def test_a_redirect_to_this_machine_is_not_followed(world: Hooked, there: Receiver) -> None:
    async with receiver() as inside:
        there.answer = lambda got: Answer(302, [("location", inside.url)])
        hook, _ = await world.hook(there.url)
        assert (await world.sender().send(hook, "evt_1", b"{}")).reason == "status-302"
        assert inside.got == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Answer(hangs=True), "timeout"), (Answer(500, endless=True), "status-500"), (Answer(100), "timeout")],
)
async def test_an_answer_that_never_comes_or_never_ends_is_given_up(
    world: Hooked, there: Receiver, answer: Answer, reason: str
) -> None:
    there.answer = lambda got: answer
    hook, _ = await world.hook(there.url)
    outcome = await world.sender(seconds=0.3).send(hook, "evt_1", b"{}")
    assert (outcome.kind, outcome.reason) == ("failed", reason)


def test_every_address_that_is_refused_is_one() -> None:
    for address in NOT_PUBLIC:
        ipaddress.ip_address(address)
