"""Redis hot over TLS: certificates are checked, in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sessionmanager.errors import TierUnavailable
from sessionmanager.tiers.hot.redis import open_redis
from sessionmanager.tiers.hot.redis_address import Files
from tests.contracts.hot import rev_of
from tests.contracts.hot_bell import heard
from tests.services.processes import free_ports
from tests.support.hot_builders import KEY, a_copy, fill, ring
from tests.support.redis_servers import MAC_KEY, masters
from tests.support.services import owned

pytestmark = pytest.mark.server


class Pair(NamedTuple):
    certificate: Path
    key: Path


class Authority:
    """Signs certificates that are good for an hour."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._sign("authority", self._key, None).certificate

    def pair(self, name: str, address: str) -> Pair:
        return self._sign(name, ec.generate_private_key(ec.SECP256R1()), address)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, address: str | None) -> Pair:
        now, issuer = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        ours = self._key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ours), critical=False)
        )
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        certificate = builder.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def tls_server(folder: Path, authority: Authority, pair: Pair, clients: str) -> AsyncIterator[str]:
    async with owned("redis", folder / "redis") as server:
        [client] = await masters(server.url)
        [port] = free_ports(1)
        async with client:
            settings = ("tls-cert-file", pair.certificate, "tls-key-file", pair.key, "tls-ca-cert-file", authority.file)
            try:
                await client.execute_command("CONFIG", "SET", *map(str, settings), "tls-auth-clients", clients)
                await client.execute_command("CONFIG", "SET", "tls-port", port)
            except Exception as error:
                raise AssertionError("this redis-server is built without TLS") from error
        yield f"rediss://127.0.0.1:{port}"


async def test_a_server_whose_certificate_checks_is_used(tmp_path: Path, authority: Authority) -> None:
    pair = authority.pair("server", "127.0.0.1")
    async with tls_server(tmp_path, authority, pair, "no") as url:
        files = Files(ca=authority.file)
        async with open_redis(url, mac_key=MAC_KEY, files=files, timeout_seconds=2.0) as hot, hot.listen(KEY) as rings:
            await fill(hot, a_copy(1))
            assert await rev_of(hot) == 1
            await ring(hot, KEY, 2)
            await heard(rings, 2)


@pytest.mark.parametrize("wrong", ["unknown signer", "another address"])
async def test_a_server_whose_certificate_does_not_check_is_not_spoken_to(
    tmp_path: Path, authority: Authority, wrong: str
) -> None:
    pair = authority.pair("server", "127.0.0.1" if wrong == "unknown signer" else "127.0.0.2")
    files = Files() if wrong == "unknown signer" else Files(ca=authority.file)
    async with (
        tls_server(tmp_path, authority, pair, "no") as url,
        open_redis(url, mac_key=MAC_KEY, files=files, timeout_seconds=2.0) as hot,
    ):
        with pytest.raises(TierUnavailable, match="cannot be reached"):
            await hot.recall(KEY)


async def test_a_server_that_asks_for_our_certificate_gets_it(tmp_path: Path, authority: Authority) -> None:
    pair, ours = authority.pair("server", "127.0.0.1"), authority.pair("client", "127.0.0.1")
    async with tls_server(tmp_path, authority, pair, "yes") as url:
        files = Files(authority.file, ours.certificate, ours.key)
        async with open_redis(url, mac_key=MAC_KEY, files=files, timeout_seconds=2.0) as hot:
            await fill(hot, a_copy(1))
            assert await rev_of(hot) == 1
        async with open_redis(url, mac_key=MAC_KEY, files=Files(ca=authority.file), timeout_seconds=2.0) as hot:
            with pytest.raises(TierUnavailable):
                await hot.recall(KEY)
