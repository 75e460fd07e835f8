"""The name under which older OpusAgent programs import it."""

from sessionmanager.compat.opusagent.handlers.transcript_manager import TranscriptManager

__all__ = ("TranscriptManager",)
