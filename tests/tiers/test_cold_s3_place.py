"""S3 cold without a server: addresses, keys, options, and what each error of the driver becomes."""

from __future__ import annotations

import inspect
from typing import Any

import aiohttp
import pytest
from botocore import exceptions as boto
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.errors import OutcomeUnknown, SessionManagerError, TierUnavailable
from sessionmanager.tiers.cold import s3_errors
from sessionmanager.tiers.cold.s3 import open_s3
from sessionmanager.tiers.cold.s3_errors import Refusal, translated, unavailable
from sessionmanager.tiers.cold.s3_place import place_of

pytestmark = pytest.mark.unit

step = st.text("abz09.-", min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
names = st.lists(step | st.sampled_from(["x" * 200, "x" * 201, "." * 401]), min_size=1, max_size=4).map("/".join)
names = names.filter(lambda name: len(name) <= 512)


@given(name=names, prefix=st.sampled_from(["s3://bucket", "s3://bucket/", "s3://bucket/some/prefix"]))
def test_a_key_leads_back_to_its_name(name: str, prefix: str) -> None:
    place = place_of(prefix)
    key = place.key(name)
    assert place.name(key) == name
    assert all(len(step.encode()) <= 255 for step in key.split("/"))
    assert len(key.encode()) <= 1024


@given(names=st.lists(names, max_size=6, unique=True))
def test_no_key_is_a_folder_or_a_beginning_of_another(names: list[str]) -> None:
    place = place_of("s3://bucket/p")
    keys = [place.key(name) for name in names]
    assert len(set(keys)) == len(keys)
    assert not any(one != other and other.startswith(one) for one in keys for other in keys)


@given(name=names, more=names)
def test_a_prefix_of_names_is_one_of_keys(name: str, more: str) -> None:
    place = place_of("s3://bucket/p")
    if len(f"{name}/{more}") <= 512:
        assert place.key(f"{name}/{more}").startswith(place.key_prefix(f"{name}/"))
    assert not place.key(name).startswith(place.key_prefix(f"{name}/"))


def test_keys_of_others_have_no_name() -> None:
    place = place_of("s3://bucket/some/prefix")
    for key in ("some/prefix/readme.txt", "some/other/a_", "a_", place.probe_key, "some/prefix/A_", "some/prefix/_"):
        assert place.name(key) is None


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://ab", "s3:///bucket", "file:///bucket", "s3://key:secret@bucket", "s3://bucket?region=x", "bucket",
     "s3://bucket/a//b", "s3://bucket/a/../b", "s3://bucket/a b", "s3://bucket/" + "x" * 400, "s3://bucket#x", ""],
)  # fmt: skip
async def test_another_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="S3") as refused:
        async with open_s3(url):
            pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"storage_class": "GLACIER"}, "GLACIER must be restored"),
        ({"storage_class": "DEEP_ARCHIVE"}, "DEEP_ARCHIVE must be restored"),
        ({"encryption": "rot13"}, "AES256"),
        ({"kms_key_id": "k"}, "needs server-side encryption aws:kms"),
        ({"kms_key_id": "k", "encryption": "AES256"}, "needs server-side encryption aws:kms"),
        ({"endpoint_url": "ftp://host"}, "http://host"),
        ({"endpoint_url": "http://"}, "http://host"),
        ({"endpoint_url": "http://key:s3cr3t@host"}, "no credentials"),
    ],
)
async def test_options_that_cannot_be_are_refused_by_name(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        async with open_s3("s3://bucket", **options):
            pass
    assert "s3cr3t" not in str(refused.value)


async def test_without_credentials_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(TierUnavailable, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as refused:
        async with open_s3("s3://bucket", endpoint_url="http://127.0.0.1:9"):
            pass
    assert refused.value.tier == "cold"


# -- errors


def made(kind: type[Exception]) -> Any:
    """Any error of botocore's, whatever its message would ask for."""
    error: Any = kind.__new__(kind)
    error.kwargs = {}
    error.response = {"Error": {"Code": "Odd"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
    return error


@pytest.mark.parametrize("writes", [False, True])
def test_no_error_of_the_driver_gets_out_as_it_is(writes: bool) -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(boto, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == boto.__name__ and not issubclass(kind, Warning)
    ]
    assert len(kinds) > 80
    for kind in kinds:
        assert isinstance(translated(made(kind), writes=writes), (TierUnavailable, OutcomeUnknown)), kind


NOT_SENT = [
    boto.ConnectTimeoutError(endpoint_url="x"),
    boto.EndpointConnectionError(endpoint_url="x", error=aiohttp.ClientConnectorError(None, OSError())),  # type: ignore[arg-type]
    boto.SSLError(endpoint_url="x", error="x"),
    boto.NoCredentialsError(),
]
SENT = [
    boto.EndpointConnectionError(endpoint_url="x", error=aiohttp.ClientOSError(104, "reset")),
    boto.ConnectionClosedError(endpoint_url="x"),
    boto.ReadTimeoutError(endpoint_url="x"),
    boto.HTTPClientError(error="x"),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    aiohttp.ClientPayloadError(),
]


@pytest.mark.parametrize(("errors", "unknown"), [(NOT_SENT, False), (SENT, True)], ids=["not-sent", "sent"])
def test_a_write_that_was_perhaps_sent_is_not_known_and_one_that_was_not_has_not_happened(
    errors: list[Exception], unknown: bool
) -> None:
    for error in errors:
        assert isinstance(translated(error, writes=True), OutcomeUnknown) is unknown, error
        assert isinstance(translated(error, writes=False), TierUnavailable), error


def answered(status: int, code: str, **headers: str) -> Refusal | SessionManagerError:
    meta = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    error = boto.ClientError({"Error": {"Code": code}, "ResponseMetadata": meta}, "PutObject")  # type: ignore[typeddict-item]
    return translated(error, writes=True)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_server_that_fails_may_have_written(status: int) -> None:
    assert isinstance(answered(status, "InternalError"), OutcomeUnknown)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (503, "503"), (429, "TooManyRequests"), (400, "Throttling")]
)
def test_a_server_that_asks_to_slow_down_has_written_nothing(status: int, code: str) -> None:
    told = answered(status, code, **{"retry-after": "7"})
    assert isinstance(told, TierUnavailable)
    assert told.retry_after_seconds == 7


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e9", "Fri, 31 Dec 1999 23:59:59 GMT", "99999"])
def test_what_is_no_time_to_wait_is_not_waited(text: str) -> None:
    told = answered(503, "SlowDown", **{"retry-after": text})
    assert isinstance(told, TierUnavailable)
    assert 0 < told.retry_after_seconds <= s3_errors.RETRY_SECONDS_MAX


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [(404, "NoSuchBucket", "S3_BUCKET"), (403, "AccessDenied", "not allowed"), (403, "Odd", "not allowed"),
     (403, "InvalidAccessKeyId", "access key"), (403, "RequestTimeTooSkewed", "clock"), (301, "301", "S3_REGION"),
     (403, "InvalidObjectState", "restore"), (507, "XMinioStorageFull", "full"), (400, "Odd\n<script>", "400")],
)  # fmt: skip
def test_a_refusal_says_what_to_mend(status: int, code: str, word: str) -> None:
    refusal = answered(status, code)
    assert isinstance(refusal, Refusal)
    assert word in str(unavailable(refusal))
    assert "\n" not in str(unavailable(refusal))
    assert not refusal.is_missing
