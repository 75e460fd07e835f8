"""A conversation of an OpusAgent program that is cut off and goes on: in this process, with nothing to set up.

    python scripts/example_session_resume.py [--verbose]

Exit status 1 if something is not there again after the resume.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from sessionmanager.compat.opusagent import MemorySessionStorage, SessionManagerService, SessionStatus
from sessionmanager.compat.opusagent.function_handler import FunctionHandler
from sessionmanager.compat.opusagent.transcript_manager import TranscriptManager

CONVERSATION = "call-4711"
CALL = {"call_id": "f-1", "function_name": "find_flight", "arguments": {"to": "OSL"}, "status": "in_progress"}


async def first_bridge(folder: Path) -> None:
    """Takes the call, hears one turn, asks for a function, and is gone before it is answered."""
    service = SessionManagerService(MemorySessionStorage(data_dir=folder))
    state = await service.create_session(CONVERSATION, caller="+12025550123", status=SessionStatus.ACTIVE)
    state.add_conversation_item({"type": "input", "text": "Is my flight to Oslo on time?"})
    state.add_conversation_item({"type": "output", "text": "I am looking it up."})
    state.add_function_call(CALL)
    await service.storage.store_session(CONVERSATION, state.to_dict())
    await service.close()


async def second_bridge(folder: Path) -> list[str]:
    """Resumes it. Answers what is not as it was."""
    service = SessionManagerService(MemorySessionStorage(data_dir=folder))
    print("may it be resumed?", (await service.validate_session(CONVERSATION))["reason"])
    state = await service.resume_session(CONVERSATION)
    if state is None:
        return ["the session"]
    transcript, functions = TranscriptManager(), FunctionHandler()
    transcript.restore_conversation_context(state.conversation_history)
    functions.restore_function_calls(state.function_calls)
    for item in transcript.get_conversation_context():
        print(f"  {item['type']:<7}{item['text']}")
    for call in functions.get_function_call_history():
        print(f"  {call['call_id']} {call['function_name']} is {call['status']}")
    print(f"resumed {state.resumed_count} time, {state.current_turn} turns")
    await service.end_session(CONVERSATION, "the caller hung up")
    print("after its end:", (await service.validate_session(CONVERSATION))["reason"])
    await service.close()
    checks = {
        "what the caller said": transcript.input_transcript_buffer == ["Is my flight to Oslo on time?"],
        "what was answered": transcript.output_transcript_buffer == ["I am looking it up."],
        "the function call": list(functions.active_function_calls) == ["f-1"],
        "the number of turns": state.current_turn == 2,
    }
    return [name for name, holds in checks.items() if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verbose", action="store_true", help="show log lines, those of the service within too")
    level = logging.DEBUG if parser.parse_args().verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)-8s%(name)s  %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(first_bridge(Path(folder)))
        missing = asyncio.run(second_bridge(Path(folder)))
    print(f"missing: {', '.join(missing)}" if missing else "everything is there")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
