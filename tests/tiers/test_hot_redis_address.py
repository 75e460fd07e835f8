"""Redis URLs: what they may say, and what is never said back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings
from sessionmanager.tiers.hot.redis import open_redis
from sessionmanager.tiers.hot.redis_address import Files, Place, read_address
from sessionmanager.tiers.hot.redis_server import Facts, read_facts, weaknesses
from sessionmanager.tiers.registry import HOT, opener

pytestmark = pytest.mark.unit

MAC_KEY = bytes(32)


def test_a_plain_url_has_all_its_defaults() -> None:
    address = read_address("redis://redis-cluster")
    assert (address.kind, address.places, address.db, address.tls) == (
        "plain",
        (Place("redis-cluster", 6379),),
        0,
        False,
    )
    assert (address.login.username, address.login.password) == (None, None)


def test_user_password_and_database_are_taken_apart() -> None:
    address = read_address("rediss://us%40er:p%3Aw%2F%40@[::1]:7000/3")
    assert (address.places, address.db, address.tls) == ((Place("::1", 7000),), 3, True)
    assert (address.login.username, address.login.password) == ("us@er", "p:w/@")
    assert read_address("redis://:only@h").login.password == "only"
    assert read_address("redis://h?db=4").db == 4


def test_what_is_given_beside_the_url_wins() -> None:
    files = Files(ca=Path("/ca.pem"))
    address = read_address("redis://:one@h/3", password="two", db=0, files=files)
    assert (address.login.password, address.db, address.files) == ("two", 0, files)


def test_sentinels_and_nodes_are_several() -> None:
    sentinel = read_address("redis+sentinel://u:p@a,b:1,[::1]/main/2?tls=true&sentinel_password=s")
    assert sentinel.places == (Place("a", 26379), Place("b", 1), Place("::1", 26379))
    assert (sentinel.service, sentinel.db, sentinel.tls) == ("main", 2, True)
    assert (sentinel.sentinel_login.username, sentinel.sentinel_login.password) == (None, "s")
    cluster = read_address("redis+cluster://a:7000,b")
    assert (cluster.kind, cluster.places) == ("cluster", (Place("a", 7000), Place("b", 6379)))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://h", "begins with"),
        ("redis://", "names a host"),
        ("redis://a,", "names a host"),
        ("redis://a,b", "several hosts"),
        ("redis://h:70000", "port"),
        ("redis://h:x", "port"),
        ("redis://h/one", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h/70000", "database"),
        ("redis://h?ssl_cert_reqs=none", "only db"),
        ("redis://h#x", "%23"),
        ("redis+cluster://h/1", "database 0"),
        ("redis+cluster://h?tls=perhaps", "true or false"),
        ("redis+sentinel://h", "names the service"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_saying_what_can(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_address(url)


@pytest.mark.parametrize(
    "url", ["redis://u:sec%20ret@h:x", "redis://u:secret@h#x", "redis://u:secret@h?password=secret"]
)
def test_no_refusal_and_no_address_shows_a_password(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as refusal:
        read_address(url)
    assert "sec" not in str(refusal.value)
    assert "secret" not in repr(read_address("redis://u:secret@h", password="secret"))


@pytest.mark.parametrize(
    "wrong",
    [{"prefix": "a{b"}, {"prefix": "a}"}, {"mac_key": b"short"}, {"connections_max": 0}, {"timeout_seconds": 0.0},
     {"ttl_seconds": 0.5}, {"tail_entries_max": 0}, {"listeners_max": 0}, {"db": 1}],
)  # fmt: skip
async def test_an_option_that_would_not_hold_is_refused(wrong: dict[str, object]) -> None:
    options: dict[str, object] = {"mac_key": MAC_KEY, **wrong}
    with pytest.raises(ValueError):  # noqa: PT011  # each says something else
        async with open_redis("redis+cluster://127.0.0.1:1", **options):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
def test_the_registry_knows_every_scheme(scheme: str) -> None:
    assert scheme in HOT
    assert opener("hot", f"{scheme}://h") is open_redis


# -- what is said in two settings

SETTINGS = {"REDIS_URL": "redis://:hunter2hunter2@redis/3", "MASTER_KEY_FILE": "/run/keys/master"}


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"REDIS_PASSWORD": "another hunter"}, "REDIS_PASSWORD"),
        ({"REDIS_DB": "4"}, "REDIS_DB"),
        ({"SESSION_PREFIX": "a{b}:"}, "SESSION_PREFIX"),
        ({"REDIS_KEY_FILE": "/k.pem"}, "REDIS_KEY_FILE"),
        ({"REDIS_MAX_CONNECTIONS": "0"}, "REDIS_MAX_CONNECTIONS"),
    ],
)
def test_settings_that_contradict_each_other_are_named_without_a_password(more: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings(environ=SETTINGS | more)
    [line] = str(refusal.value).splitlines()
    assert line.startswith(name)
    assert "hunter" not in line


def test_settings_that_say_the_same_twice_are_no_contradiction() -> None:
    more = {"REDIS_PASSWORD": "hunter2hunter2", "REDIS_DB": "3", "REDIS_CERT_FILE": "/c", "REDIS_KEY_FILE": "/k"}
    settings = load_settings(environ=SETTINGS | more)
    assert settings.redis_key_file == Path("/k")


# -- what a server says of itself

INFO = b"# Server\r\nredis_version:7.0.15\r\n\r\nrole:master\r\nused_memory:10\r\nmaxmemory:0\r\ncluster_enabled:0\r\n"


def test_a_sound_server_is_warned_of_nothing() -> None:
    facts = read_facts(INFO)
    assert (facts.version_text, facts.cluster, facts.sharded_bell) == ("7.0.15", False, True)
    assert weaknesses(facts, cluster=False) == []
    assert weaknesses(facts, cluster=True) == []


@pytest.mark.parametrize(
    ("change", "cluster", "told"),
    [
        ((b"7.0.15", b"5.0.3"), False, "older than 6.2"),
        ((b"7.0.15", b"6.2.14"), True, "no sharded publish"),
        ((b"role:master", b"role:slave"), False, "a replica"),
        ((b"maxmemory:0", b"maxmemory:12\r\nmaxmemory_policy:noeviction"), False, "83 % of maxmemory"),
    ],
)
def test_a_weak_server_is_named_with_what_to_mend(change: tuple[bytes, bytes], cluster: bool, told: str) -> None:
    [problem] = weaknesses(read_facts(INFO.replace(*change)), cluster=cluster)
    assert told in problem


def test_a_server_that_may_not_be_asked_says_that_alone() -> None:
    [problem] = weaknesses(Facts(), cluster=False)
    assert "INFO" in problem
    assert weaknesses(read_facts(INFO), cluster=True, db=3)[0].endswith("in place of 3")
    assert read_facts(b"\xff\r\nredis_version:\r\nmaxmemory:much").version_text == "unknown"
