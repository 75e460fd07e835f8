"""Which marks were sent and have not come back: pure.

`clear` makes Twilio return every mark that is outstanding, as if it had been reached; those are kept from the base.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MARKS_MAX: Final = 20_000
"""Outstanding ones that are remembered; of a carrier that returns none, the oldest are forgotten."""


class Marks:
    """The marks of one stream, in order."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, bool] = OrderedDict()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Sent, not come back, and not flushed."""
        return self._waiting

    def sent(self, name: str) -> None:
        if name in self._sent:
            self._forget(name)
        self._sent[name] = True
        self._waiting += 1
        if len(self._sent) > MARKS_MAX:
            self._forget(next(iter(self._sent)))

    def flushed(self) -> None:
        """Everything queued at Twilio is gone."""
        for name in self._sent:
            self._sent[name] = False
        self._waiting = 0

    def came(self, name: str) -> bool:
        """Whether the caller has heard what was before it; False for one that was flushed, or was never sent."""
        return self._forget(name)

    def _forget(self, name: str) -> bool:
        counts = self._sent.pop(name, False)
        self._waiting -= counts
        return counts
