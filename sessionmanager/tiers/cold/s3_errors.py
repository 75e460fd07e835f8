"""What went wrong with a request to S3, in the words of the cold tier.

Three ends: the server said no (`Refusal`, whose code the caller may know what to do with), nothing was done
(TierUnavailable), or nobody knows (OutcomeUnknown, for requests that change something). Messages name error codes,
never addresses: an endpoint may carry what is nobody's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import aiohttp
from botocore import exceptions as boto

from sessionmanager.errors import OutcomeUnknown, SessionManagerError, TierUnavailable

RETRY_SECONDS: Final = 2.0
RETRY_SECONDS_MAX: Final = 60.0
_CODE: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")

NO_CREDENTIALS: Final = (
    "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the "
    "machine or pod a role"
)
_LATER: Final = frozenset(
    ("SlowDown", "ServiceUnavailable", "ServerBusy", "RequestLimitExceeded", "Throttling", "ThrottlingException",
     "TooManyRequests", "TooManyRequestsException", "ReduceYourRate", "503", "429")
)  # fmt: skip
_REMEDIES: Final[Mapping[str, str]] = {
    "NoSuchBucket": "the bucket is not there: make it, or correct S3_BUCKET",
    "InvalidBucketName": "the server takes no bucket of this name: correct S3_BUCKET",
    "AccessDenied": "the credentials are not allowed to do this (`sessionmanager doctor` says what is missing)",
    "AllAccessDisabled": "all access to the bucket is switched off",
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key is not the one of the access key",
    "InvalidToken": "the session token of the credentials is refused",
    "ExpiredToken": "the session token of the credentials has run out",
    "RequestTimeTooSkewed": "this machine's clock and the server's differ too much: set it right",
    "PermanentRedirect": "the bucket is in another region: set S3_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set S3_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region: set S3_REGION",
    "InvalidObjectState": "the object was moved to a class that must be restored first, such as GLACIER, by a lifecycle"
    " rule: restore it, and remove the rule",
    "InvalidStorageClass": "the server does not know the storage class: correct S3_STORAGE_CLASS",
    "RequestTimeout": "the server has waited too long for the request",
    "BadDigest": "the bytes were damaged on the way",
    "XAmzContentSHA256Mismatch": "the bytes were damaged on the way",
    "XAmzContentChecksumMismatch": "the bytes were damaged on the way",
    "EntityTooLarge": "the object is larger than the server takes",
    "QuotaExceeded": "the quota of the bucket is used up",
    "XMinioStorageFull": "the server's disks are full",
    "InsufficientStorage": "the server's disks are full",
}
_BY_STATUS: Final[Mapping[int, str]] = {
    301: "PermanentRedirect",
    403: "AccessDenied",
    507: "InsufficientStorage",
}
_NOT_SENT: Final = (
    boto.ConnectTimeoutError,
    boto.ProxyConnectionError,
    boto.SSLError,
    boto.ParamValidationError,
)
_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.ProfileNotFound,
    boto.ConfigParseError,
)


class Refusal(Exception):
    """The server understood and did nothing. Never leaves the backend: it is handled, or turned by `unavailable`."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code

    @property
    def is_missing(self) -> bool:
        """There is no such object, version or upload; a bucket that is not there is another matter."""
        return self.status == 404 and self.code != "NoSuchBucket"

    @property
    def is_unknown_request(self) -> bool:
        """The server does not do this, or not with these headers."""
        return self.status in (405, 501) or (self.status == 400 and self.code not in _REMEDIES)


def translated(error: Exception, *, writes: bool) -> Refusal | SessionManagerError:
    """The error as the tier tells it. writes: the request changes something, so that silence says nothing."""
    if isinstance(error, boto.ClientError):
        return _answered(error, writes=writes)
    if isinstance(error, _CREDENTIALS):
        return TierUnavailable("cold", NO_CREDENTIALS)
    if not writes or _was_not_sent(error):
        return TierUnavailable("cold", f"the cold tier cannot be reached ({type(error).__name__})")
    return OutcomeUnknown(f"the cold tier has not answered ({type(error).__name__})")


def unavailable(refusal: Refusal) -> TierUnavailable:
    """A refusal that nobody knew what to do with: nothing was written."""
    code = refusal.code if refusal.code in _REMEDIES else _BY_STATUS.get(refusal.status, "")
    remedy = _REMEDIES.get(code, "the server refuses")
    return TierUnavailable("cold", f"cold: {remedy} ({refusal.status} {refusal.code})", RETRY_SECONDS)


def _answered(error: boto.ClientError, *, writes: bool) -> Refusal | SessionManagerError:
    answer = cast("dict[str, dict[str, Any]]", error.response)
    meta: dict[str, Any] = answer.get("ResponseMetadata") or {}
    status = int(meta.get("HTTPStatusCode") or 0)
    given = str((answer.get("Error") or {}).get("Code") or status)
    code = given if _CODE.fullmatch(given) else str(status)
    if code in _LATER or status in (429, 503):
        headers: dict[str, str] = meta.get("HTTPHeaders") or {}
        seconds = _retry_after(headers.get("retry-after", ""))
        return TierUnavailable("cold", f"the cold tier asks to slow down ({code})", seconds)
    if status in (501, 507) or 300 <= status < 500:
        return Refusal(status, code)
    # 500 may come after the object was kept, and 502 and 504 from something that stands between. A complete of a
    # multipart upload that fails after its 200 was sent ends here, too.
    if writes:
        return OutcomeUnknown(f"the cold tier has failed ({status} {code})")
    return TierUnavailable("cold", f"the cold tier has failed ({status} {code})", RETRY_SECONDS)


def _retry_after(text: str) -> float:
    return min(float(text), RETRY_SECONDS_MAX) if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) else RETRY_SECONDS


def _was_not_sent(error: Exception) -> bool:
    """aiobotocore calls a connection that was reset after the request an `EndpointConnectionError`, too: what it was
    made from tells them apart."""
    if isinstance(error, boto.EndpointConnectionError):
        cause = cast("Any", error).kwargs.get("error") or error.__context__
        return isinstance(cause, aiohttp.ClientConnectorError)
    return isinstance(error, _NOT_SENT)
