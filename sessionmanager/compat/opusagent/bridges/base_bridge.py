"""The part of a bridge that knows of sessions: it brings one back and hands out what was in it.

Carriers, audio and models are `sessionmanager.bridges`' affair; a bridge of OpusAgent's own takes this class in place
of its base, and keeps the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, cast

from sessionmanager.compat.opusagent.handlers.function_handler import FunctionHandler
from sessionmanager.compat.opusagent.handlers.transcript_manager import TranscriptManager
from sessionmanager.compat.opusagent.models.session_state import SessionState
from sessionmanager.compat.opusagent.services.session_manager_service import SessionManagerService
from sessionmanager.compat.opusagent.session_storage import SessionStorage
from sessionmanager.errors import SessionManagerError

logger = logging.getLogger(__name__)


class BaseRealtimeBridge:
    """Two sockets and the storage of their conversation. Without a storage nothing is ever resumed."""

    bridge_type = "unknown"

    def __init__(
        self,
        platform_websocket: Any,
        realtime_websocket: Any = None,
        session_config: Any = None,
        session_storage: SessionStorage | None = None,
        **kwargs: Any,
    ) -> None:
        """Args: kwargs: what the origin's takes beside them; it is kept in `options`, and not looked at."""
        self.platform_websocket = platform_websocket
        self.realtime_websocket = realtime_websocket
        self.session_config = session_config
        self.options = kwargs
        self.session_storage = session_storage
        self.session_manager = None if session_storage is None else SessionManagerService(session_storage)
        self.transcript_manager = TranscriptManager()
        self.function_handler = FunctionHandler(realtime_websocket)
        self.session_state: SessionState | None = None
        self.conversation_id: str | None = None

    @property
    def session_id(self) -> str | None:
        """The id that the state carries; the conversation's own where it carries none."""
        state = self.session_state
        return self.conversation_id if state is None else state.session_id or state.conversation_id

    async def handle_session_resume(self, conversation_id: str | Mapping[str, Any]) -> bool:
        """Bring a conversation back. False: it cannot be, and the log says why; nothing is sent then, so that an outage
        that passes makes no carrier hang up.

        Args: conversation_id: or the carrier's message, with `conversationId` in it.
        """
        id = conversation_id if isinstance(conversation_id, str) else str(conversation_id.get("conversationId") or "")
        if self.session_manager is None or not id:
            return False
        try:
            state = await self.session_manager.resume_session(id)
        except (SessionManagerError, ValueError) as error:
            logger.error("a session could not be resumed: %s", error)
            return False
        if state is None:
            return False
        self.conversation_id, self.session_state = id, state
        await self.restore_conversation_context(state)
        await self.restore_function_calls(state)
        return True

    async def restore_conversation_context(self, session_state: SessionState) -> None:
        """Hand what was said to `transcript_manager`. What it cannot read it passes over."""
        self.transcript_manager.restore_conversation_context(session_state.conversation_history)

    async def restore_function_calls(self, session_state: SessionState) -> None:
        """Hand the function calls to `function_handler`, those that still run too."""
        self.function_handler.restore_function_calls(session_state.function_calls)

    async def send_platform_json(self, payload: Mapping[str, Any]) -> None:
        """Send a message to the carrier."""
        text = json.dumps(payload)
        # A framework's socket takes text by a method of its own, a bare one by `send`. Its class is asked: a test's
        # stand-in answers to any name.
        kind = cast("type[Any]", type(self.platform_websocket))
        if hasattr(kind, "send_text"):
            await self.platform_websocket.send_text(text)
        else:
            await self.platform_websocket.send(text)
