"""Requests of our own: they go where the check said, and nothing that the other side does takes more than its bound."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sessionmanager.core.outgoing.endpoints import Endpoints, parse
from sessionmanager.core.outgoing.requests import ANSWER_BYTES_MAX, CallFailed, Outgoing
from tests.support.sham_service import Sham, sham_service

pytestmark = pytest.mark.contract


@pytest.fixture
def sham() -> Iterator[Sham]:
    with sham_service() as running:
        yield running


class Names:
    """A name server that answers as it is told, and counts."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def outgoing(names: Names, seconds: float = 5.0) -> Outgoing:
    return Outgoing(Endpoints(["asr.test", "127.0.0.0/8"]), lookup=names, seconds=seconds)


@pytest.fixture
async def here() -> AsyncIterator[Outgoing]:
    calls = outgoing(Names(["127.0.0.1"]))
    yield calls
    await calls.aclose()


def named(sham: Sham) -> Any:
    return parse(sham.endpoint.replace("127.0.0.1", "asr.test") + "/base")


async def test_a_request_goes_to_the_checked_address_under_the_name_of_the_host(here: Outgoing, sham: Sham) -> None:
    reply = await here.send("POST", named(sham), "/join-room", body=b'{"a":1}', headers={"Idempotency-Key": "k"})
    (asked,) = sham.asked
    assert (reply.status, asked.method, asked.path, asked.body) == (200, "POST", "/base/join-room", {"a": 1})
    assert asked.headers["Host"] == named(sham).authority
    assert asked.headers["Idempotency-Key"] == "k"


async def test_a_name_that_turns_elsewhere_between_two_requests_is_not_followed(sham: Sham) -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    calls = outgoing(names)
    assert (await calls.send("GET", named(sham), "/health")).status == 200
    with pytest.raises(CallFailed, match="not-allowed"):
        await calls.send("GET", named(sham), "/health")
    assert names.asked == ["asr.test"] * 2, "one look-up a request: what was checked is what is connected to"
    assert len(sham.asked) == 1
    await calls.aclose()


async def test_a_redirect_is_an_answer_and_is_not_followed(here: Outgoing, sham: Sham) -> None:
    sham.health = (302, {})
    sham.headers = {"Location": f"{sham.endpoint}/elsewhere"}
    assert (await here.send("GET", named(sham), "/health")).status == 302
    assert len(sham.asked) == 1


async def test_a_proxy_of_the_environment_is_not_asked(
    here: Outgoing, sham: Sham, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await here.send("GET", named(sham), "/health")).status == 200


async def test_one_that_never_answers_fails_in_time(sham: Sham) -> None:
    sham.hangs = True
    calls = outgoing(Names(["127.0.0.1"]), seconds=0.1)
    with pytest.raises(CallFailed, match="timeout"):
        await calls.send("GET", named(sham), "/health")
    await calls.aclose()


async def test_an_answer_that_is_too_long_or_compressed_is_none(here: Outgoing, sham: Sham) -> None:
    sham.health = (200, b"x" * ANSWER_BYTES_MAX)
    assert len((await here.send("GET", named(sham), "/health")).body) == ANSWER_BYTES_MAX
    sham.health = (200, b"x" * (ANSWER_BYTES_MAX + 1))
    with pytest.raises(CallFailed, match="too-large"):
        await here.send("GET", named(sham), "/health")
    sham.health = (200, b"x")
    sham.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(CallFailed, match="compressed"):
        await here.send("GET", named(sham), "/health")


async def test_an_answer_without_an_end_is_cut_off() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    calls = outgoing(Names(["127.0.0.1"]), seconds=0.2)
    with pytest.raises(CallFailed, match="timeout"):
        await calls.send("GET", parse(f"http://asr.test:{port}"), "/health")
    await calls.aclose()
    server.close()


async def test_a_port_where_nobody_listens_is_unreachable(here: Outgoing) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CallFailed, match="unreachable"):
        await here.send("GET", parse(f"http://asr.test:{port}"), "/health")


async def test_what_is_no_http_is_unreachable() -> None:
    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    calls = outgoing(Names(["127.0.0.1"]))
    with pytest.raises(CallFailed, match="unreachable"):
        await calls.send("GET", parse(f"http://asr.test:{server.sockets[0].getsockname()[1]}"), "/health")
    await calls.aclose()
    server.close()


async def test_a_name_that_does_not_resolve_fails_and_says_nothing_else() -> None:
    calls = outgoing(Names(socket.gaierror(-2, "Name or service not known")))
    with pytest.raises(CallFailed, match="unresolved"):
        await calls.send("GET", parse("http://asr.test"), "/health")
    await calls.aclose()


async def test_over_tls_the_certificate_must_be_the_names_whatever_the_address_is(tmp_path: Path) -> None:
    """Nobody here signs for `asr.test`, so the handshake ends; but not before it asked for that name."""
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path, "asr.test"))
    context.sni_callback = lambda channel, name, _: asked.append(name)  # pyright: ignore[reportAttributeAccessIssue]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("a request was sent to whom nobody vouches for")

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    calls = outgoing(Names(["127.0.0.1"]))
    with pytest.raises(CallFailed, match="unreachable"):
        await calls.send(
            "POST", parse(f"https://asr.test:{server.sockets[0].getsockname()[1]}"), "/join-room", body=b"{}"
        )
    assert asked == ["asr.test"]
    await calls.aclose()
    server.close()


def self_signed(folder: Path, name: str) -> Path:
    """A certificate that nobody trusts, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "pair.pem"
    path.write_bytes(plain + made.public_bytes(encoding))
    return path
