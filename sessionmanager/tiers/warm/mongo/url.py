"""From a MongoDB URL to what the client is made with. What would weaken a promise is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from pymongo.common import URI_OPTIONS_VALIDATOR_MAP

DATABASE: Final = "sessionmanager"
DATABASE_BYTES_MAX: Final = 63
_PINNED: Final[Mapping[str, tuple[str, ...]]] = {
    "w": ("majority",),
    "j": ("true",),
    "journal": ("true",),
    "fsync": (),
    "wtimeoutms": (),
    "readconcernlevel": ("majority", "linearizable"),
    "readpreference": ("primary",),
    "readpreferencetags": (),
    "maxstalenessseconds": ("-1",),
    "authoidcallowedhosts": (),
}
"""Options that the code sets itself, each with the values that say nothing else."""


class Target(NamedTuple):
    """database: where everything lies. named: options in the URL, in lower case; they win over our defaults."""

    database: str
    named: frozenset[str]


def read_url(url: str) -> Target:
    """The database of a URL, and which options it has.

    Raises ValueError naming what is wrong, and never a user, a password or a value.
    """
    try:
        parts = urlsplit(url)
        options = [(name.lower(), value) for name, value in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    if not parts.netloc or parts.fragment or (parts.username is not None and not parts.netloc.rpartition("@")[2]):
        raise ValueError(_UNREADABLE)
    known = {name.lower() for name in URI_OPTIONS_VALIDATOR_MAP}
    for name, value in options:
        if name in _PINNED:
            if value.lower() not in _PINNED[name]:
                weak = f"without {name}: durability and reading are set by the service (majority, journal, primary)"
                raise ValueError(f"a MongoDB URL {weak}")
        elif name == "maxpoolsize" and value == "0":
            raise ValueError("a MongoDB URL without maxPoolSize=0: the number of connections is bounded")
        elif name not in known:
            raise ValueError("a MongoDB URL with options of MongoDB alone; one is not known (is it misspelt?)")
    return Target(_database(unquote(parts.path.lstrip("/"))), frozenset(name for name, _ in options))


_UNREADABLE: Final = (
    "a MongoDB URL such as mongodb://user:password@host:27017/name; reserved characters in user and password are "
    "percent-encoded"
)


def _database(name: str) -> str:
    if not name:
        return DATABASE
    if len(name.encode()) > DATABASE_BYTES_MAX or any(c in ' /\\."$*<>:|?\0' for c in name):
        raise ValueError('a MongoDB URL whose path is the name of a database, without any of /\\."$*<>:|? and spaces')
    return name
