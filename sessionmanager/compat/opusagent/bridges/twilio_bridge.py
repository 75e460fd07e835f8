"""The session part of a Twilio bridge."""

from __future__ import annotations

from sessionmanager.compat.opusagent.bridges.base_bridge import BaseRealtimeBridge


class TwilioBridge(BaseRealtimeBridge):
    """Media Streams know no answer to a resume: the audio goes on, and nothing is said about it."""

    bridge_type = "twilio"
