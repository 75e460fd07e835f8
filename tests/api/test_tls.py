"""HTTPS by the service itself: what it speaks, whom it lets in, and what it says of files that cannot be used."""

from __future__ import annotations

import datetime
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.process import serving

pytestmark = pytest.mark.contract

PATIENCE_SECONDS = 60
DAY = datetime.timedelta(days=1)


class Pair(NamedTuple):
    """A certificate and its key, and where their PEM files lie."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert: Path
    path: Path


def pair(folder: Path, name: str, signer: Pair | None = None) -> Pair:
    """A new one, signed by `signer` or by itself; for localhost and 127.0.0.1."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    places = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer, by = (subject, key) if signer is None else (signer.certificate.subject, signer.key)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(places, critical=False)
        .sign(by, hashes.SHA256())
    )
    cert, path = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Pair(made, key, cert, path)


@pytest.fixture
def authority(tmp_path: Path) -> Pair:
    return pair(tmp_path, "authority")


def trusting(authority: Pair, own: Pair | None = None) -> httpx2.Client:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if own is not None:
        context.load_cert_chain(own.cert, own.path)
    return httpx2.Client(verify=context, timeout=PATIENCE_SECONDS)


def refusal(tmp_path: Path, *flags: str) -> str:
    """What a start says on stderr that does not come to pass."""
    done = subprocess.run(
        [sys.executable, "-m", "sessionmanager", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0", *flags],
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_with_a_certificate_it_speaks_https_and_nothing_else(tmp_path: Path, authority: Pair) -> None:
    own = pair(tmp_path, "service", authority)
    with serving(tmp_path / "data", "--tls-cert", str(own.cert), "--tls-key", str(own.path)) as service:
        assert service.address.startswith("https://")
        with trusting(authority) as client:
            made = client.post(
                f"{service.address}/sessions",
                json={"id": "tls"},
                headers={"Authorization": f"Bearer {service.token}"},
            )
            assert made.status_code == 201
        with pytest.raises(httpx2.TransportError), httpx2.Client(timeout=PATIENCE_SECONDS) as stranger:
            stranger.get(f"{service.address}/livez")
        with pytest.raises(httpx2.TransportError), trusting(authority) as plain:
            plain.get(f"{service.address.replace('https', 'http')}/livez")


def test_where_callers_must_show_a_certificate_only_those_of_the_authority_get_in(
    tmp_path: Path, authority: Pair
) -> None:
    own = pair(tmp_path, "service", authority)
    caller = pair(tmp_path, "caller", authority)
    stranger = pair(tmp_path, "stranger")
    flags = ("--tls-cert", str(own.cert), "--tls-key", str(own.path))
    with serving(tmp_path / "data", *flags, tls_client_ca=str(authority.cert)) as service:
        with trusting(authority, caller) as client:
            assert client.get(f"{service.address}/livez").status_code == 200
        for nobody in (None, stranger):
            with pytest.raises(httpx2.TransportError), trusting(authority, nobody) as client:
                client.get(f"{service.address}/livez")


def test_a_file_that_cannot_be_used_stops_the_start_and_is_named(tmp_path: Path, authority: Pair) -> None:
    other = pair(tmp_path, "other")
    gone, broken = tmp_path / "gone.pem", tmp_path / "broken.pem"
    broken.write_text("no certificate")
    assert "TLS_CERT" in refusal(tmp_path, "--tls-cert", str(gone), "--tls-key", str(authority.path))
    assert "TLS_CERT" in refusal(tmp_path, "--tls-cert", str(broken), "--tls-key", str(authority.path))
    assert "TLS_KEY" in refusal(tmp_path, "--tls-cert", str(authority.cert), "--tls-key", str(other.path))
    assert "TLS_KEY, which is unset" in refusal(tmp_path, "--tls-cert", str(authority.cert))
    assert "TLS_CERT, which is unset" in refusal(tmp_path, "--tls-key", str(authority.path))
