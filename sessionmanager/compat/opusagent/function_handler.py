"""The name under which older OpusAgent programs import it."""

from sessionmanager.compat.opusagent.handlers.function_handler import FunctionHandler

__all__ = ("FunctionHandler",)
