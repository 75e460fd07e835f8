"""The session part of an AudioCodes bridge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionmanager.compat.opusagent.bridges.base_bridge import BaseRealtimeBridge


class AudioCodesBridge(BaseRealtimeBridge):
    """Answers a resume as VoiceAI Connect expects it, and as OpusAgent's own clients do."""

    bridge_type = "audiocodes"

    async def handle_session_resume(self, conversation_id: str | Mapping[str, Any]) -> bool:
        """As the base; then `session.accepted` with the remembered media format (which the vendor waits for), and
        `session.resumed` with `conversationId` and `sessionId` (which is OpusAgent's own)."""
        if not await super().handle_session_resume(conversation_id):
            return False
        assert self.session_state is not None, "a session that was resumed has a state"
        ids = {"conversationId": self.conversation_id, "sessionId": self.session_id}
        await self.send_platform_json({"type": "session.accepted", "mediaFormat": self.session_state.media_format})
        await self.send_platform_json({"type": "session.resumed", **ids})
        return True
