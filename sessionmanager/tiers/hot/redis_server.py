"""What a Redis server says of itself, and what of that an operator should hear at the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from sessionmanager.tiers.hot.redis_pool import ask_once

VERSION_LEAST: Final = (6, 2)
"""The oldest server that this is tested to be understood by; older ones do what is used here from 4.0 on."""
SHARDED_SINCE: Final = (7, 0)
FULL_SHARE: Final = 0.8
"""A server that evicts nothing and holds this share of its `maxmemory` will soon refuse copies."""


class Facts(NamedTuple):
    """`known` is False where the user may not ask (INFO): nothing is warned of then but that."""

    known: bool = False
    version: tuple[int, ...] = ()
    cluster: bool = False
    replica: bool = False
    memory_max: int = 0
    memory_used: int = 0
    evicts: bool = True

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version)) or "unknown"

    @property
    def sharded_bell(self) -> bool:
        return not self.known or self.version >= SHARDED_SINCE


async def look_at(connection: Connection) -> Facts:
    """Ask a server what it is. One round trip. Raises what the driver raises when the connection fails."""
    try:
        answer = await ask_once(connection, b"INFO")
    except ResponseError:  # an ACL without INFO; a cluster is found by its redirections then
        return Facts()
    return read_facts(answer) if isinstance(answer, bytes) else Facts()


def read_facts(info: bytes) -> Facts:
    """From the text of INFO. What is missing or no number reads as nothing to warn of."""
    lines = info.decode("utf-8", "replace").splitlines()
    values = dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
    return Facts(
        known=True,
        version=tuple(int(word) for word in values.get("redis_version", "").split(".") if word.isdigit()),
        cluster=values.get("cluster_enabled") == "1",
        replica=values.get("role") == "slave",
        memory_max=_number(values, "maxmemory"),
        memory_used=_number(values, "used_memory"),
        evicts=values.get("maxmemory_policy") != "noeviction",
    )


def _number(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "")
    return int(text) if text.isdigit() else 0


def weaknesses(facts: Facts, *, cluster: bool, db: int = 0) -> list[str]:
    """What an operator should mend, a sentence each. `cluster`, `db`: how it is used, and the database asked for."""
    if not facts.known:
        return ["this user may not run INFO: the server was not examined"]
    found: list[str] = []
    if facts.version < VERSION_LEAST:
        found.append(f"version {facts.version_text} is older than 6.2 and untested")
    if cluster and not facts.sharded_bell:
        found.append(f"version {facts.version_text} has no sharded publish (7.0): each ring goes to every node")
    if cluster and db:
        found.append(f"a cluster has database 0 alone: it is used in place of {db}")
    if facts.replica and not cluster:
        found.append("this server is a replica: it takes no writes; name its master, or the Sentinels")
    if facts.memory_max and not facts.evicts and facts.memory_used >= FULL_SHARE * facts.memory_max:
        share = round(100 * facts.memory_used / facts.memory_max)
        found.append(
            f"{share} % of maxmemory is used and noeviction is set: new copies will be refused; "
            "set maxmemory-policy to volatile-lru"
        )
    return found
