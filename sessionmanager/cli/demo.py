"""`sessionmanager demo`."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.output import FAILURE, OK, USAGE, json_option, print_json, shorten

if TYPE_CHECKING:
    from sessionmanager.cli.playing.recording import Comparison, Recording
    from sessionmanager.cli.playing.timeline import Timeline
    from sessionmanager.cli.playing.voice import VoicePlan

RECORDING: Final = Path(__file__).parents[2] / "docs" / "examples" / "recorded-call.json"
SETTINGS: Final = {
    # Small, so that a call of some minutes already fills segments.
    "tail_entries_max": "16",
    "tail_entries_kept": "6",
    # None of them moves to cold before the archive does: a service that is killed in such a move lets it wait a minute.
    "warm_segments_max": "64",
    # A machine that is busy with other things must not make a tier look dead.
    "hot_timeout_seconds": "1",
    "warm_timeout_seconds": "10",
    "log_format": "json",
    # A later call of the same caller goes on with the conversation.
    "resume_policy": "always",
}
DIFFERENCES_SHOWN: Final = 5
TEXT_COLUMNS: Final = 60


@click.command()
@click.option("--recording", type=click.Path(path_type=Path, dir_okay=False), default=RECORDING,
              help="A recorded call, see docs/examples/README.md.  [default: the one beside it]")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the service; 0 takes a free one.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep the data there.")
@click.option("--keep", is_flag=True, help="Keep the temporary data directory and say where it is.")
@json_option
def demo(recording: Path, port: int, data_dir: Path | None, keep: bool, as_json: bool) -> int:
    """Play a recorded call through crash, resume and archive, and compare.

    Starts a service and bridges of its own in a temporary directory. The call begins on a simulated AudioCodes, whose
    bridge is killed with kill -9 in mid-sentence and whose service in mid-call, and goes on in a Twilio call. The rest
    is sent over HTTP, where requests are dropped and the service is killed again. Then it suspends, archives, resumes
    from cold, and compares the whole history with the recording. Exit code 1 if one line is lost or stands twice, or
    one byte differs.
    """
    from sessionmanager.cli.playing.recording import read_recording
    from sessionmanager.cli.playing.timeline import Timeline
    from sessionmanager.cli.playing.voice import voice_plan

    read = read_recording(recording)
    voice = voice_plan(read.entries)
    if voice is None or not read.word("caller"):
        lacks = "beginning for a telephone" if voice is None else "caller"
        raise Gone(f"{recording} has no {lacks}", "docs/examples/README.md says what one is", USAGE)
    timeline = Timeline(as_json=as_json)
    folder = Path(tempfile.mkdtemp(prefix="sessionmanager-demo-")) if data_dir is None else data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = False
    try:
        timeline.title(f"{read.name}: {len(read.entries)} entries, {read.turns} turns")
        history = asyncio.run(_play(read, voice, folder, port, timeline))
        done = True
        # Read anew: what is compared is the file as it is now.
        return _compare(read_recording(recording), voice.end, history, timeline, as_json=as_json)
    except click.Abort:
        done = True
        raise
    finally:
        # What went wrong in the story stands in the service's log.
        if data_dir is None and not keep and done:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            timeline.note(f"data and log: {folder}")


async def _play(recording: Recording, voice: VoicePlan, folder: Path, port: int, timeline: Timeline) -> list[bytes]:
    from sessionmanager.cli.playing.service import OwnService
    from sessionmanager.cli.playing.story import Story

    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C does the same by itself
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        async with OwnService(folder / "data", folder / "service.log", port=port, settings=SETTINGS) as service:
            return await Story(recording, voice, service, timeline, secrets.token_hex(3), folder).play()
    except asyncio.CancelledError:
        raise click.Abort from None


def _compare(recording: Recording, first: int, history: list[bytes], timeline: Timeline, *, as_json: bool) -> int:
    from sessionmanager.cli.playing.voice import compare_all

    found = compare_all(recording.entries, first, history)
    good = not found.differences
    if as_json:
        shown = [difference._asdict() for difference in found.differences[:DIFFERENCES_SHOWN]]
        print_json({"step": "compare", "same": found.same, "of": found.of, "bytes": found.bytes, "differences": shown})
        return OK if good else FAILURE
    timeline.step("compare", f"{found.of} lines and entries, {found.bytes:,} bytes", mark="good" if good else "bad")
    for difference in found.differences[:DIFFERENCES_SHOWN]:
        recorded, got = (shorten(text or "nothing", TEXT_COLUMNS) for text in (difference.recorded, difference.found))
        timeline.note(f"  {difference.at} {difference.member}: recorded {recorded}, found {got}")
    timeline.end(_verdict(found), good=good)
    return OK if good else FAILURE


def _verdict(found: Comparison) -> str:
    if not found.differences:
        return f"{found.same} of {found.of} lines and entries came back as they were said, byte by byte"
    at = len({difference.at for difference in found.differences})
    return f"{at} {'of them differs' if at == 1 else 'of them differ'} from the recording"
