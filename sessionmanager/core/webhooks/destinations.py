"""Where deliveries may go: anywhere that is public, by https; elsewhere, and by http, only where operators allow it.

Source: reliability notes, part 6 (SSRF); `core/outgoing/requests.py` resolves, checks and connects.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sessionmanager.core.outgoing.endpoints import Address, Endpoint, Endpoints, NotAllowed, parse

URL_CHARS_MAX: Final = 2048
_REST: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*)(\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?")
ALLOWED: Final = (
    "a host whose addresses are all public, by https; others, and http, only in networks that WEBHOOK_NETWORKS lists"
)


class Target(NamedTuple):
    """A checked address: scheme, host and port; and path with query, as they were given."""

    endpoint: Endpoint
    rest: str


def target_of(url: str) -> Target:
    """The parts of a hook's address. Raises NotAllowed; its text never holds the address."""
    if len(url) > URL_CHARS_MAX:
        raise NotAllowed(f"a URL of at most {URL_CHARS_MAX} characters")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NotAllowed("not a URL") from None
    _, slashes, after = url.partition("://")
    if "#" in url or not slashes or not after.startswith(parts.netloc):
        raise NotAllowed("a URL that begins with https://, without a fragment")
    rest = after.removeprefix(parts.netloc)
    rest = rest if rest.startswith("/") else f"/{rest}"
    endpoint = parse(f"{parts.scheme}://{parts.netloc}")
    if not _REST.fullmatch(rest):
        raise NotAllowed("a URL with a path and a query of such characters as RFC 3986 allows there")
    return Target(endpoint, rest)


class Destinations(Endpoints):
    """The rule. networks: addresses and networks that need not be public, and that http may go to (`10.0.0.0/8`).

    Raises ValueError for an entry that is neither.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        for entry in networks:
            try:
                ipaddress.ip_network(entry.strip())
            except ValueError:
                raise ValueError(f"{entry!r} is neither an address nor a network") from None
        super().__init__(networks)

    def check(self, endpoint: Endpoint, addresses: Sequence[str]) -> Address:
        """Hold a host against the rule, by every address it resolves to. Answers the one to connect to.

        Raises NotAllowed.
        """
        try:
            return super().check(endpoint, addresses)
        except NotAllowed:
            raise NotAllowed(ALLOWED) from None

    def _is_named(self, host: str) -> bool:
        return True  # whoever has a public address may be told
