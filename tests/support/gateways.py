"""Calls at gateways, over HTTP in this process: what tests of calls begin with."""

from __future__ import annotations

from typing import Any, Final

from tests.support.server import Caller

ANNA: Final = "+12025550123"
DESK: Final = "+12025550199"


def opened(by: Caller, status: int = 201, **call: Any) -> dict[str, Any]:
    """`POST /calls`; at the SIP gateway unless another is named."""
    answer = by.post("/calls", {"gateway": "sip", **call})
    assert answer.status_code == status, answer.text
    return answer.json()


def told(by: Caller, call: dict[str, Any], **report: Any) -> dict[str, Any]:
    """A report on what `opened` answered."""
    answer = by.patch(f"/calls/{call['call']['id']}", report)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(by: Caller, call: dict[str, Any], **end: Any) -> dict[str, Any]:
    """The end of what `opened` answered."""
    answer = by.post(f"/sessions/{call['session_id']}/calls/{call['call']['id']}/end", end)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(by: Caller, session: str) -> list[str]:
    """What the log of a session says of its calls."""
    return [entry["data"]["event"] for entry in by.history(session, type="call")]
