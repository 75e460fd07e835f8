"""Where objects lie in a bucket: the address, and what an object's name is called there.

    <prefix>t/1f…/s/9c…/5b3e_        the object `t/1f…/s/9c…/5b3e`
    <prefix>_probe/put-once          what the tier finds out about its server with (`s3_server.py`)

A key ends in `_` and a step over `PIECE_CHARACTERS` is cut into steps that end in `~`, characters that no name of ours
has: servers that keep objects as files can then hold both `a` and `a/b`, and a name of 512 characters.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from sessionmanager.tiers.cold.names import check_name, check_prefix, in_pieces

PREFIX_CHARACTERS_MAX: Final = 400
"""A key has at most 1,024 bytes, and a name of 512 characters comes after the prefix."""
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"(?:(?!\.{1,2}/)[A-Za-z0-9!_.*'()=-]+/)*")


class Place(NamedTuple):
    """A bucket and what every key in it begins with: nothing, or steps that end in `/`."""

    bucket: str
    prefix: str

    def key(self, name: str) -> str:
        """The key of an object. Raises ValueError for what is no name."""
        return self.prefix + "/".join(in_pieces(check_name(name), "~")) + "_"

    def key_prefix(self, prefix: str) -> str:
        """What the keys of all names that begin with `prefix` begin with. Raises ValueError for what is no prefix."""
        return self.prefix + "/".join(in_pieces(check_prefix(prefix), "~")) + "/"

    def name(self, key: str) -> str | None:
        """The name of the object with this key; None for a key that is none of ours."""
        if not key.startswith(self.prefix) or not key.endswith("_"):
            return None
        name = key.removeprefix(self.prefix)[:-1].replace("~/", "")
        try:
            check_name(name)
        except ValueError:
            return None
        return name

    @property
    def probe_key(self) -> str:
        return f"{self.prefix}_probe/put-once"


def place_of(url: str) -> Place:
    """The place that `s3://bucket/prefix` names. Raises ValueError saying what is wrong, without the address itself."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or "@" in url or "?" in url or "#" in url:
        raise ValueError(
            "an S3 cold tier is s3://bucket or s3://bucket/prefix; credentials and options are settings of their own"
        )
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("the name of an S3 bucket has 3 to 255 letters, digits, dots, dashes and underscores")
    steps = unquote(parts.path).strip("/")
    prefix = f"{steps}/" if steps else ""
    if len(prefix) > PREFIX_CHARACTERS_MAX or not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"the prefix of an S3 cold tier has at most {PREFIX_CHARACTERS_MAX} characters, of letters, digits and"
            " !_.*'()=- with single slashes between"
        )
    return Place(parts.netloc, prefix)
