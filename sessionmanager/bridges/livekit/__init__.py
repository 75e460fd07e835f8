"""Agents of `livekit-agents` that go on where a conversation stopped, and that write down what they hear and say.

```python
async def entrypoint(ctx: JobContext) -> None:
    talk = await take_up(ctx, "https://sessions.example.org", token)
    await talk.start(AgentSession(...), Agent(instructions="…"), room=ctx.room, greeting="Greet the caller.")
```

`docs/how-to/livekit.md` tells the rest. The package `livekit-agents` comes with the extra `agents`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("livekit") is None or find_spec("livekit.agents") is None:
    raise ModuleNotFoundError(
        "the bridge to LiveKit's agents needs the package livekit-agents: pip install 'sessionmanager[agents]'",
        name="livekit.agents",
    )

from sessionmanager.bridges.livekit.conversation import (
    Conversation,
    accept_as,
    conversation,
    session_id_of,
    take_up,
)
from sessionmanager.bridges.livekit.dispatching import Dispatcher, DispatchOptions
from sessionmanager.bridges.livekit.history import chat_context
from sessionmanager.bridges.livekit.options import AgentOptions
from sessionmanager.bridges.livekit.recording import Recorder

__all__ = (
    "AgentOptions",
    "Conversation",
    "DispatchOptions",
    "Dispatcher",
    "Recorder",
    "accept_as",
    "chat_context",
    "conversation",
    "session_id_of",
    "take_up",
)
