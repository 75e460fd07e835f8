"""Where requests of our own may go: every spelling that has led elsewhere before, and what operators list."""

from __future__ import annotations

from typing import Final

import pytest

from sessionmanager.core.outgoing.endpoints import LOOPBACK, Endpoints, NotAllowed, parse
from tests.support.addresses import NOT_PUBLIC

pytestmark = pytest.mark.unit

LISTED: Final = Endpoints(["asr.example.org", "*.svc.cluster.local", "10.0.0.0/8", "192.0.2.7", "fd00::/8"])
PUBLIC: Final = "93.184.215.14"


@pytest.mark.parametrize(
    ("url", "addresses", "goes_to"),
    [
        ("https://asr.example.org", [PUBLIC], PUBLIC),
        ("https://ASR.Example.ORG.:8443/base/", [PUBLIC, "2606:4700::1111"], PUBLIC),
        ("https://asr.example.org", ["10.1.2.3"], "10.1.2.3"),
        ("http://asr.example.org", ["10.1.2.3"], "10.1.2.3"),
        ("http://asr.svc.cluster.local", ["10.1.2.3", "fd00::5"], "10.1.2.3"),
        ("http://10.9.9.9:9000", ["10.9.9.9"], "10.9.9.9"),
        ("https://192.0.2.7", ["192.0.2.7"], "192.0.2.7"),
        ("http://[fd00::1]:9000/x", ["fd00::1"], "fd00::1"),
        ("http://some.name", ["10.1.2.3"], "10.1.2.3"),
    ],
)
def test_what_is_listed_is_let_through(url: str, addresses: list[str], goes_to: str) -> None:
    assert str(LISTED.check(parse(url), addresses)) == goes_to


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("https://evil.example.org", [PUBLIC]),
        ("https://asr.example.org.evil.com", [PUBLIC]),
        ("https://evilsvc.cluster.local", [PUBLIC]),
        ("https://svc.cluster.local", [PUBLIC]),
        ("http://asr.example.org", [PUBLIC]),
        # The name is listed, and turned to where it must not lead.
        ("https://asr.example.org", ["127.0.0.1"]),
        ("https://asr.example.org", ["169.254.169.254"]),
        ("https://asr.example.org", ["192.168.1.1"]),
        ("https://asr.example.org", ["0.0.0.0"]),
        ("https://asr.example.org", ["100.64.0.1"]),
        ("https://asr.example.org", ["224.0.0.1"]),
        ("https://asr.example.org", ["255.255.255.255"]),
        ("https://asr.example.org", ["::1"]),
        ("https://asr.example.org", ["::"]),
        ("https://asr.example.org", ["fe80::1%eth0"]),
        ("https://asr.example.org", ["fc00::1"]),
        ("https://asr.example.org", ["ff02::1"]),
        ("https://asr.example.org", ["::ffff:127.0.0.1"]),
        ("https://asr.example.org", ["::ffff:169.254.169.254"]),
        ("https://asr.example.org", ["64:ff9b::7f00:1"]),
        ("https://asr.example.org", ["2002:7f00:1::"]),
        # One good address does not make the other good.
        ("https://asr.example.org", [PUBLIC, "127.0.0.1"]),
        ("http://some.name", ["10.1.2.3", PUBLIC]),
        ("https://asr.example.org", []),
        ("https://asr.example.org", ["not an address"]),
        # Loopback, however it is spelled: the resolver says what it is.
        ("http://127.0.0.1", ["127.0.0.1"]),
        ("http://127.1", ["127.0.0.1"]),
        ("http://2130706433", ["127.0.0.1"]),
        ("http://0x7f000001", ["127.0.0.1"]),
        ("http://0177.0.0.1", ["127.0.0.1"]),
        ("http://[::1]", ["::1"]),
        ("http://[::ffff:127.0.0.1]", ["::ffff:127.0.0.1"]),
        ("http://localhost", ["127.0.0.1"]),
        ("http://169.254.169.254", ["169.254.169.254"]),
        ("https://8.8.8.8", ["8.8.8.8"]),
    ],
)
def test_what_is_not_listed_or_leads_inside_is_refused(url: str, addresses: list[str]) -> None:
    with pytest.raises(NotAllowed):
        LISTED.check(parse(url), addresses)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_listed_name_leads_to_no_address_that_webhooks_may_not_go_to(address: str) -> None:
    """Services and webhooks hold an address to one list of special networks."""
    named = Endpoints(["asr.example.org"])
    for found in ([address], [PUBLIC, address]):
        with pytest.raises(NotAllowed):
            named.check(parse("https://asr.example.org"), found)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "asr.example.org",
        "//asr.example.org",
        "ftp://asr.example.org",
        "file:///etc/passwd",
        "gopher://asr.example.org",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "https://user@asr.example.org",
        "https://user:secret@asr.example.org",
        "https://asr.example.org@10.0.0.1",
        "https://asr.example.org?x=1",
        "https://asr.example.org/?",
        "https://asr.example.org#x",
        "https://asr.example.org:0",
        "https://asr.example.org:99999",
        "https://asr.example.org:x",
        "https://asr.example.org\\@evil.com",
        "https://asr.example.org/../admin",
        "https://asr.example.org/a b",
        "https://asr.example.org/\r\nHost: x",
        "https://asr.example.org/\x00",
        "https://as\u0280.example.org",
        "https://asr..example.org",
        "https://-asr.example.org",
        "https://[broken",
        "https://[::1",
        "https://asr.example.org/" + "x" * 600,
    ],
)
def test_what_is_no_plain_address_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        parse(url)
    assert len(url) < 4 or url not in str(caught.value)


def test_an_endpoint_is_kept_in_one_form() -> None:
    assert parse("HTTPS://Asr.Example.org:443/base/").url == "https://asr.example.org/base"
    assert parse("http://[::FFFF:10.0.0.1]:80").url == "http://10.0.0.1"
    assert parse("http://[FD00:0::1]:9000").authority == "[fd00::1]:9000"


def test_where_nothing_is_listed_nothing_is_let_through() -> None:
    assert not Endpoints([])
    for url, address in (("https://asr.example.org", PUBLIC), ("http://localhost", "127.0.0.1")):
        with pytest.raises(NotAllowed):
            Endpoints([]).check(parse(url), [address])


def test_a_service_on_loopback_may_call_this_machine_alone() -> None:
    here = Endpoints(LOOPBACK)
    assert str(here.check(parse("http://localhost:9000"), ["::1", "127.0.0.1"])) == "::1"
    for url, address in (("https://asr.example.org", PUBLIC), ("http://localhost", "10.0.0.1")):
        with pytest.raises(NotAllowed):
            here.check(parse(url), [address])


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "10.0.0.0/33", "10.0.0.1/8", "http://x", "a b", "*.*.x", "x/y", "1.2.3"]
)
def test_an_entry_that_says_nothing_stops_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        Endpoints([entry])
