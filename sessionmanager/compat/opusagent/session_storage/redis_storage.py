"""Conversations that several servers share: in the service at an address, or in this process with Redis beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from sessionmanager.client import Token
from sessionmanager.compat.opusagent.conversations import Conversations
from sessionmanager.compat.opusagent.places import Embedded, Remote

REDIS_URL: Final = "redis://localhost:6379"
PREFIX: Final = "session:"
TTL_SECONDS: Final = 3600
CONNECTIONS: Final = 10
COMMON_PREFIXES: Final = frozenset(("session:", "opusagent:session:", ""))
"""Prefixes that stand for no other program beside this one: ids are then the conversations' own."""
OPTIONS: Final = frozenset(("password", "db"))


class _Ping:
    """What is left of the Redis client: whether the conversations can be reached."""

    def __init__(self, storage: Conversations) -> None:
        self._storage = storage

    async def ping(self) -> bool:
        """True. Raises what stands in the way."""
        await self._storage.ping()
        return True


class RedisSessionStorage(Conversations):
    """Conversations of several servers.

    With an address (`address`, or SESSIONMANAGER_URL and SESSIONMANAGER_TOKEN in the environment) they lie in the
    service there, and Redis is its affair. Without one the service runs inside this process, Redis holding copies only:
    what was acknowledged lies in `data_dir`, which is one process's.
    """

    def __init__(
        self,
        redis_url: str = REDIS_URL,
        session_prefix: str = PREFIX,
        default_ttl: float | None = TTL_SECONDS,
        max_connections: int = CONNECTIONS,
        *,
        address: str | None = None,
        token: Token | None = None,
        data_dir: str | Path | None = None,
        environ: Mapping[str, str] | None = None,
        **redis_kwargs: Any,
    ) -> None:
        """Args: default_ttl: without activity for so long a conversation is answered as if it were none (it is kept);
        None = never. environ: in place of the process's. redis_kwargs: `password`, `db`.
        Raises ValueError, naming the argument; TypeError for one that Redis is not given here."""
        around = os.environ if environ is None else environ
        address = address or around.get("SESSIONMANAGER_URL")
        for name, value in (("default_ttl", default_ttl), ("max_connections", max_connections)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive")
        strange = sorted(set(redis_kwargs) - OPTIONS)
        if strange:
            raise TypeError(f"{strange[0]}: settings of Redis go to the service (docs/reference/settings.md)")
        place = (
            Embedded(data_dir, _settings(_with(redis_url, redis_kwargs), session_prefix, default_ttl, max_connections))
            if address is None
            else Remote(address, token or _token(around))
        )
        space = "" if session_prefix in COMMON_PREFIXES else session_prefix
        super().__init__(place, space=space, ttl_seconds=default_ttl)
        self.redis_url = _shown(redis_url)
        self.session_prefix = session_prefix
        self.default_ttl = default_ttl
        self.max_connections = max_connections
        self.redis_client = _Ping(self)

    def get_stats(self) -> dict[str, Any]:
        """What is known here without asking anybody."""
        return {
            **super().get_stats(),
            "storage_type": "redis",
            "redis_url": self.redis_url,
            "session_prefix": self.session_prefix,
            "default_ttl": self.default_ttl,
            "max_connections": self.max_connections,
        }


def _settings(url: str, prefix: str, ttl_seconds: float | None, connections: int) -> dict[str, Any]:
    """What the service inside is told of Redis: its keys begin with the prefix, its copies live for the TTL at most."""
    own = {"redis_url": url, "session_prefix": prefix or PREFIX, "redis_max_connections": str(connections)}
    return own if ttl_seconds is None else {**own, "session_ttl": str(ttl_seconds)}


def _token(around: Mapping[str, str]) -> str:
    token = around.get("SESSIONMANAGER_TOKEN")
    if not token:
        raise ValueError("token: give one, or set SESSIONMANAGER_TOKEN (`sessionmanager token --role agent` makes one)")
    return token


def _with(url: str, options: Mapping[str, Any]) -> str:
    """The address with the password and the database that were given beside it."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("redis_url must be redis://host:port or rediss://host:port")
    netloc, path = parts.netloc, parts.path
    if options.get("password") is not None:
        netloc = f":{quote(str(options['password']), safe='')}@{netloc.rpartition('@')[2]}"
    if options.get("db") is not None:
        path = f"/{int(options['db'])}"
    return urlunsplit(parts._replace(netloc=netloc, path=path))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
