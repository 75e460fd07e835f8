"""What many rows have in common: the errors they may answer with, the headers they read and write."""

from __future__ import annotations

from typing import Final

from sessionmanager import errors as e

ID: Final = "/sessions/{id}"
WRITE: Final = (e.KeyReused, e.Contended, e.OutcomeUnknown, e.TierUnavailable, e.Draining)
"""What any write may end with."""
ONE: Final = (e.NotFound, e.Erased, e.TierUnavailable, e.DataCorrupt)
"""What asking for one session may end with."""
KEY: Final = ("Idempotency-Key",)
READ_HEADERS: Final = ("ETag", "Session-Tier", "Server-Timing", "Age")
REPLAYED: Final = ("Idempotency-Replayed",)
WRITE_HEADERS: Final = ("ETag", *REPLAYED)
