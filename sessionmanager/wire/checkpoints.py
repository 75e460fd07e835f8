"""Queries of checkpoints; their bytes are nobody's business here."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from sessionmanager.wire.common import PlainText

Holder = Annotated[PlainText, Meta(examples=["carrier-socket-7"])]


class KeepCheckpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PUT …/checkpoint`. `holder`: a name of the process, new each time it takes part; required. `number`: grows with
    each that it keeps; an older one that comes late changes nothing."""

    holder: Holder | None = None
    number: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0


class TakeCheckpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST …/checkpoint/take`. `holder`: whose it is from now on, who may ask again; required."""

    holder: Holder | None = None
