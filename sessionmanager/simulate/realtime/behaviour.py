"""How a simulated model is set: its pace, its limits, what of the real one's faults it is to show."""

from __future__ import annotations

from msgspec import Struct


class Behaviour(Struct, frozen=True, kw_only=True):
    """pace: how many times quicker than it sounds speech is made. piece_ms: of sound in one event. transcribe_seconds:
    from the end of the caller's turn to its words. transcribes: whether they come at all. session_seconds: how long a
    connection lasts. silence_ms: how much of it ends the caller's turn. token: what a client has to show; None =
    anything.
    """

    pace: float = 8.0
    piece_ms: int = 200
    transcribe_seconds: float = 0.05
    transcribes: bool = True
    session_seconds: float = 3600.0
    silence_ms: int = 500
    token: str | None = None
