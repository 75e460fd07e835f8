"""The configuration of services in tests."""

from __future__ import annotations

from typing import Any

from sessionmanager.services import ServiceConfig

CREDENTIAL = "own-credential"


def config(url: str, **changes: Any) -> ServiceConfig:
    """One that is quick, and forgiving where a machine is slow."""
    given = {"id": "asr-1", "type": "asr", "heartbeat_seconds": 0.05, "beat_seconds": 0.1, "drain_seconds": 5.0}
    credential = {} if "api_key" in changes else {"token": CREDENTIAL}
    return ServiceConfig(url=url, **{**given, **credential, **changes})
