"""A worker of `livekit-agents`, as its users run one: a process that takes jobs from a LiveKit server. Its model
answers by a script.

Environment: LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, SESSIONMANAGER_URL, SESSIONMANAGER_TOKEN, NAME.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from livekit.agents import Agent, AgentServer, JobContext, JobExecutorType

from sessionmanager.bridges.livekit import AgentOptions, accept_as, take_up
from tests.bridges.livekit_models import ScriptedLLM, voice_session

IDENTITY = "support-bot"


async def entrypoint(job: JobContext) -> None:
    name = os.environ["NAME"]
    options = AgentOptions(identity=IDENTITY, signal_seconds=0.0)
    talk = await take_up(job, os.environ["SESSIONMANAGER_URL"], os.environ["SESSIONMANAGER_TOKEN"], options)
    session = voice_session(ScriptedLLM(f"{name} speaks."))
    written = talk.room_options()
    written.audio_output = False  # it has no voice
    await talk.start(session, Agent(instructions="Be kind."), room=job.room, greeting="Greet.", room_options=written)


async def main() -> None:
    server = AgentServer(job_executor_type=JobExecutorType.THREAD, host="127.0.0.1", port=0, num_idle_processes=0)
    server.rtc_session(entrypoint, agent_name="support", on_request=accept_as(IDENTITY))
    server.on("worker_registered", lambda *_: print("registered", flush=True))
    await server.run(devmode=True)


if __name__ == "__main__":
    asyncio.run(main())
