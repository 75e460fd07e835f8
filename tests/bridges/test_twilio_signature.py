"""Signatures of webhooks and handshakes, by vectors that Twilio's own package has made, and every way to forge one."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.bridges.twilio.signature import Signatures, sign

pytestmark = pytest.mark.unit

TOKEN = "12345678901234567890123456789012"
SOCKET = "wss://voice.example.com/twilio/media"
SOCKET_SIGNATURE = "fhjjjkV1F9lPmcYCG6YdDwerOY0="
VOICE = "https://voice.example.com/twilio/voice?x=1"
FORM = [
    ("CallSid", "CA00000000000000000000000000000001"),
    ("From", "+12025550123"),
    ("To", "+12025550199"),
    ("CallStatus", "ringing"),
]
VOICE_SIGNATURE = "ZNsHSSAKAyAdADMLPn8tcjETPfk="
SIGNATURES = Signatures([TOKEN])


def signed(signature: str, **more: str) -> Mapping[str, str]:
    return {"x-twilio-signature": signature, **more}


def test_the_vectors_of_twilios_own_package_fit() -> None:
    assert SIGNATURES.fits_socket(signed(SOCKET_SIGNATURE), SOCKET)
    assert SIGNATURES.fits_form(signed(VOICE_SIGNATURE), VOICE, FORM)
    assert SIGNATURES.fits_form(signed(VOICE_SIGNATURE), VOICE, FORM[::-1]), "parameters are sorted"


@pytest.mark.parametrize(
    ("address", "form"),
    [
        (VOICE + "0", FORM),
        (VOICE.replace("https", "http"), FORM),
        (VOICE.replace("/voice", "/voice/"), FORM),
        (VOICE, FORM[1:]),
        (VOICE, [*FORM, ("More", "")]),
        (VOICE, [(name, value + "x") for name, value in FORM]),
    ],
)
def test_another_address_or_form_does_not_fit(address: str, form: list[tuple[str, str]]) -> None:
    assert not SIGNATURES.fits_form(signed(VOICE_SIGNATURE), address, form)


@pytest.mark.parametrize(
    "address", [SOCKET + "/", SOCKET.replace("wss", "https"), SOCKET.replace("voice.", "voic."), SOCKET + "?a=b"]
)
def test_a_socket_is_signed_with_its_address_word_for_word(address: str) -> None:
    assert not SIGNATURES.fits_socket(signed(SOCKET_SIGNATURE), address)


@pytest.mark.parametrize("headers", [{}, signed(""), signed("x" * 10_000), signed("ü"), signed(SOCKET_SIGNATURE + "=")])
def test_a_missing_or_broken_signature_does_not_fit(headers: Mapping[str, str]) -> None:
    assert not SIGNATURES.fits_socket(headers, SOCKET)


def test_either_of_two_auth_tokens_fits_during_a_rotation_and_no_token_fits_nothing() -> None:
    both = Signatures(["another-token-of-the-account", TOKEN])
    assert both.fits_socket(signed(SOCKET_SIGNATURE), SOCKET)
    assert not Signatures([]).fits_socket(signed(sign(SOCKET, (), "")), SOCKET)


@pytest.mark.parametrize("scheme", ["https", "wss"])
def test_a_default_port_may_be_named_or_left_out(scheme: str) -> None:
    plain, named = f"{scheme}://voice.example.com/a", f"{scheme}://voice.example.com:443/a"
    for written, called in ((plain, named), (named, plain)):
        headers = signed(sign(written, (), TOKEN))
        assert SIGNATURES.fits_form(headers, called, ())
        assert SIGNATURES.fits_socket(headers, called)
    other = signed(sign(f"{scheme}://voice.example.com:8443/a", (), TOKEN))
    assert not SIGNATURES.fits_form(other, plain, ())


def test_a_repeated_parameter_counts_once_for_each_value() -> None:
    """As Twilio's package has it: the values of a name as a sorted set."""
    values = [("a", str(n)) for n in range(9)]
    expected = sign("https://a.example/", [("a", "012345678"), ("b", "3")], TOKEN)
    assert sign("https://a.example/", [("b", "3"), *values[::-1], *values], TOKEN) != expected
    plain = "https://a.example/" + "".join(f"a{n}" for n in range(9)) + "b3"
    assert sign("https://a.example/", [("b", "3"), *values[::-1], *values], TOKEN) == sign(plain, (), TOKEN)


def test_the_query_of_a_relays_address_may_be_signed_as_a_form() -> None:
    bare = "wss://voice.example.com/twilio/relay"
    headers = signed(sign(bare, [("b", "2"), ("a", "1 1")], TOKEN))
    assert SIGNATURES.fits_socket(headers, f"{bare}?b=2&a={quote('1 1')}")
    assert not SIGNATURES.fits_socket(headers, f"{bare}?b=2&a=1")


def test_a_shared_key_is_taken_only_under_its_name_and_by_its_algorithm() -> None:
    keys = Signatures([TOKEN], {"SK1": "a-secret-of-the-key"})
    settings = "x-twilio-webhooks-signature-settings"
    by_key = sign(SOCKET, (), "a-secret-of-the-key", "sha256")
    good = "key=SK1,algorithm=HMAC_SHA256"
    assert keys.fits_socket(signed(by_key, **{settings: good}), SOCKET)
    for wrong in ("key=SK2,algorithm=HMAC_SHA256", "key=SK1,algorithm=HMAC_MD5", "key=SK1", "", "nonsense"):
        assert not keys.fits_socket(signed(by_key, **{settings: wrong}), SOCKET)
        # Naming nothing that is known does not lead back to the auth token.
        assert not keys.fits_socket(signed(SOCKET_SIGNATURE, **{settings: wrong}), SOCKET)
    assert not keys.fits_socket(signed(by_key), SOCKET)


@given(st.text(max_size=60), st.text(max_size=40))
def test_any_address_and_header_is_an_answer_and_no_error(address: str, header: str) -> None:
    assert not SIGNATURES.fits_socket(signed(header), address)
    assert not SIGNATURES.fits_form(signed(header), address, [("a", address)])


def test_secrets_are_in_no_repr() -> None:
    assert TOKEN not in repr(Signatures([TOKEN], {"SK1": "a-secret-of-the-key"}))
