"""URL scheme → backend. A new backend is one new file and one line here; its driver is imported only when chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

HOT: Final = {
    "memory": "memory:open_memory",
    "redis": "redis:open_redis",
    "rediss": "redis:open_redis",
    "redis+sentinel": "redis:open_redis",
    "redis+cluster": "redis:open_redis",
}
WARM: Final = {
    "sqlite": "sqlite:open_sqlite",
    "mongodb": "mongo.tier:open_mongo",
    "mongodb+srv": "mongo.tier:open_mongo",
}
COLD: Final = {"file": "directory:open_directory", "s3": "s3:open_s3"}
_TIERS: Final = {"hot": HOT, "warm": WARM, "cold": COLD}


def opener(tier: str, url: str) -> Any:
    """The function that opens the backend of this URL as an async context manager.

    Raises ValueError naming the scheme and what is allowed.
    """
    scheme = urlsplit(url).scheme
    backends = _TIERS[tier]
    if scheme not in backends:
        raise ValueError(f"{scheme or 'no scheme'}: allowed are {', '.join(sorted(backends))}")
    module, name = backends[scheme].split(":")
    return getattr(import_module(f"sessionmanager.tiers.{tier}.{module}"), name)
