"""Where this service may send requests of its own: what operators have listed, and nothing else.

Names say who, networks say where. An endpoint's host must be listed by its name, or lie in a listed network; every
address that its name resolves to must be public, or lie in a listed network; and over plain http all of them must lie
in one. So a name that is listed cannot be turned to a private address (DNS rebinding), and whatever way loopback is
spelled, it is judged by the address that comes out.

Source: OWASP Server-Side Request Forgery Prevention; RFC 6890 (special-purpose addresses).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

URL_CHARS_MAX: Final = 512
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
_PATH: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/%-]*")
_PORTS: Final = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: Final = ("localhost", "127.0.0.0/8", "::1/128")
"""What is listed where the service itself can be reached from this machine alone, and nothing else is said."""
_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""All that is public of IPv6 lies here; what is beyond it passes for global in places (`::127.0.0.1`, `fec0::1`)."""
_SPECIAL: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2002::/16")))
"""Networks of RFC 6890 and RFC 7526 that some Pythons take for public. An address of the last carries another one
within, and a gateway would send us to that one."""


class NotAllowed(ValueError):
    """An endpoint that requests may not go to. Its text says why, and never holds the endpoint."""


class Endpoint(NamedTuple):
    """A checked address of a service: nothing in it but scheme, host, port and a path that has no trailing slash."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse(url: str) -> Endpoint:
    """The parts of an endpoint's URL. Raises NotAllowed."""
    if len(url) > URL_CHARS_MAX or not url.isascii() or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise NotAllowed(f"a URL of at most {URL_CHARS_MAX} visible ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotAllowed("not a URL") from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    if scheme not in _PORTS:
        raise NotAllowed("a URL that begins with https:// or http://")
    if "@" in parts.netloc or "?" in url or "#" in url or "\\" in url:
        raise NotAllowed("a URL without credentials, query and fragment")
    if port == 0 or not _PATH.fullmatch(parts.path) or ".." in parts.path:
        raise NotAllowed("a URL with a plain port and path")
    address = address_of(host)
    if address is None and not _NAME.fullmatch(host):
        raise NotAllowed("a URL with a host name or an address")
    name = host if address is None else str(address)
    return Endpoint(scheme, name, port or _PORTS[scheme], parts.path.rstrip("/"))


def address_of(text: str) -> Address | None:
    """The address that a text is, an IPv4 address within an IPv6 one taken out; None for a name."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Endpoints:
    """The list. entries: names (`asr.example.org`), names of a domain (`*.svc.cluster.local`), addresses and networks
    (`10.0.0.0/8`). Raises ValueError for an entry that is none of them."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._names: set[str] = set()
        self._domains: list[str] = []
        self._networks: list[Network] = []
        for entry in entries:
            self._add(entry.strip().lower().rstrip("."))

    def _add(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry))
        except ValueError:
            name = entry.removeprefix("*.")
            if not _NAME.fullmatch(name) or re.fullmatch(r"[0-9.x]+", name):
                raise ValueError(
                    f"{entry!r} is neither a name, nor `*.` and a domain, nor an address or network"
                ) from None
            if name == entry:
                self._names.add(name)
            else:
                self._domains.append(f".{name}")

    def __bool__(self) -> bool:
        return bool(self._names or self._domains or self._networks)

    def check(self, endpoint: Endpoint, addresses: Sequence[str]) -> Address:
        """Hold an endpoint against the list, by every address it resolves to. Answers the one to connect to.

        Raises NotAllowed.
        """
        found = [address_of(text) for text in addresses]
        if not found:
            raise NotAllowed("a host that has an address")
        known = [address for address in found if address is not None]
        if len(known) != len(found):
            raise NotAllowed("a host that resolves to addresses")
        listed = [self._is_in_network(address) for address in known]
        if not self._is_named(endpoint.host) and not all(listed):
            raise NotAllowed("a host that is listed in SERVICE_ENDPOINTS")
        if not all(inside or is_public(address) for inside, address in zip(listed, known, strict=True)):
            raise NotAllowed("a host with public addresses, or with such as SERVICE_ENDPOINTS lists as a network")
        if endpoint.scheme == "http" and not all(listed):
            raise NotAllowed("https: over http a token goes only to networks that SERVICE_ENDPOINTS lists")
        return known[0]

    def _is_named(self, host: str) -> bool:
        return host in self._names or any(host.endswith(domain) for domain in self._domains)

    def _is_in_network(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether everybody may have it: the one answer to that, for services and for webhooks. An address of IPv4 within
    one of IPv6 was taken out before (`address_of`)."""
    if not address.is_global or address.is_multicast or any(address in network for network in _SPECIAL):
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in _UNICAST
