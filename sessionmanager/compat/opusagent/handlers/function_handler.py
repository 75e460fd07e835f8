"""Function calls of a conversation by their ids, for OpusAgent programs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

logger = logging.getLogger(__name__)

MEMBERS: Final[Mapping[str, Any]] = {"arguments": {}, "status": "unknown", "result": {}, "timestamp": None}


class FunctionHandler:
    """`active_function_calls`: by call id, those that are answered and those that still run."""

    def __init__(self, realtime_websocket: Any = None, **more: Any) -> None:
        """Args: more: what the origin's takes; it is kept, and not looked at."""
        self.realtime_websocket = realtime_websocket
        self.options = more
        self.active_function_calls: dict[str, dict[str, Any]] = {}

    def restore_function_calls(self, function_calls: Iterable[Any]) -> int:
        """Take in calls; answers how many could not be read. Those are passed over: a bad one ends no call."""
        bad = 0
        for one in function_calls:
            call = cast("Mapping[str, Any]", one if isinstance(one, Mapping) else {})
            call_id, name = call.get("call_id"), call.get("function_name", call.get("name"))
            if not isinstance(call_id, str) or not call_id or not isinstance(name, str) or not name:
                bad += 1
                continue
            members = {key: call.get(key, default) for key, default in MEMBERS.items()}
            self.active_function_calls[call_id] = {"function_name": name, **members}
        if bad:
            logger.warning("%d function calls could not be restored", bad)
        return bad

    def get_function_call_history(self) -> list[dict[str, Any]]:
        """All of them as a list, each with its `call_id`."""
        return [{"call_id": call_id, **call} for call_id, call in self.active_function_calls.items()]

    def clear_function_call_history(self) -> None:
        self.active_function_calls.clear()
