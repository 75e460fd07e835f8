"""What a Redis URL says: servers, who we are, how the line is protected. Nothing here is ever shown with a secret.

    redis://[user[:password]@]host[:6379][/db]                 rediss:// the same over TLS
    redis+sentinel://[user[:password]@]host[:26379],…/service[/db][?tls=true&sentinel_username=…&sentinel_password=…]
    redis+cluster://[user[:password]@]host[:6379],…[?tls=true]

User and password are percent-decoded, and are those of the Redis servers. Certificates are always checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

Kind = Literal["plain", "sentinel", "cluster"]

_KINDS: Final[dict[str, Kind]] = {
    "redis": "plain",
    "rediss": "plain",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}
_OPTIONS: Final[dict[Kind, tuple[str, ...]]] = {
    "plain": ("db",),
    "cluster": ("tls",),
    "sentinel": ("tls", "sentinel_username", "sentinel_password"),
}
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Credentials:
    """Who we are to a server; `None` where it asks nobody. Shows nothing of itself."""

    __slots__ = ("password", "username")

    def __init__(self, username: str | None, password: str | None) -> None:
        self.username = username
        self.password = password

    def __repr__(self) -> str:
        return "Credentials(***)"


class Files(NamedTuple):
    """PEM files for TLS: who signs servers (default: whom the system trusts), our own certificate and its key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Address(NamedTuple):
    """See the module. `places`: of Sentinels where there are some. `service`: by what name they know the master."""

    kind: Kind
    places: tuple[Place, ...]
    db: int
    tls: bool
    files: Files
    login: Credentials
    sentinel_login: Credentials
    service: str = ""


def read_address(
    url: str, *, password: str | None = None, db: int | None = None, files: Files | None = None
) -> Address:
    """The address of a URL. `password` and `db` win over what the URL says.

    Raises ValueError saying what is allowed, without anything of the URL that may be secret.
    """
    parts = urlsplit(url)
    kind = _KINDS.get(parts.scheme)
    if kind is None:
        raise ValueError(f"a Redis URL begins with {', '.join(f'{scheme}://' for scheme in _KINDS)}")
    options = _options(parts.query, kind)
    if parts.fragment:
        raise ValueError("a # in a user or password of a Redis URL is written %23")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    places = _places(hosts, SENTINEL_PORT if kind == "sentinel" else REDIS_PORT)
    if kind == "plain" and len(places) > 1:
        raise ValueError("several hosts take redis+cluster:// or redis+sentinel://")
    service, url_db = _path(parts.path, kind)
    if "db" in options:
        url_db = _db(options["db"])
    number = db if db is not None else url_db or 0
    if kind == "cluster" and number:
        raise ValueError("a Redis cluster has database 0 alone")
    username, _, url_password = userinfo.partition(":")
    login = Credentials(unquote(username) or None, password or unquote(url_password) or None)
    sentinel_login = Credentials(options.get("sentinel_username"), options.get("sentinel_password"))
    tls = parts.scheme == "rediss" or _truth(options.get("tls", "false"))
    return Address(kind, places, number, tls, files or Files(), login, sentinel_login, service)


def _options(query: str, kind: Kind) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS[kind]:
            known = ", ".join(_OPTIONS[kind])
            raise ValueError(f"this kind of Redis URL takes after its ? only {known}")
    return options


def _places(hosts: str, default_port: int) -> tuple[Place, ...]:
    places: list[Place] = []
    for one in hosts.split(","):
        try:
            parts = urlsplit(f"//{one}")
            port = parts.port
        except ValueError:
            raise ValueError("a port of a Redis URL is a whole number up to 65535") from None
        if not parts.hostname or parts.path:
            raise ValueError("a Redis URL names a host, and each after a comma another")
        places.append(Place(parts.hostname, default_port if port is None else port))
    return tuple(places)


def _path(path: str, kind: Kind) -> tuple[str, int | None]:
    words = [unquote(word) for word in path.strip("/").split("/")] if path.strip("/") else []
    service = ""
    if kind == "sentinel":
        if not words:
            raise ValueError("a Sentinel URL names the service: redis+sentinel://host:26379/mymaster")
        service = words.pop(0)
    if len(words) > 1:
        raise ValueError("the path of a Redis URL is the number of a database")
    return service, _db(words[0]) if words else None


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError("the database of a Redis URL is a whole number up to 65535")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError("tls in a Redis URL is true or false")
    return _TRUTH[text.lower()]
