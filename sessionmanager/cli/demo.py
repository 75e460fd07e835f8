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

from sessionmanager.cli.output import FAILURE, OK, json_option, print_json, shorten

if TYPE_CHECKING:
    from sessionmanager.cli.playing.recording import Comparison, Recording
    from sessionmanager.cli.playing.timeline import Timeline

RECORDING: Final = Path(__file__).parents[2] / "docs" / "examples" / "recorded-call.json"
SETTINGS: Final = {
    # Small, so that a call of some minutes already fills segments.
    "tail_entries_max": "16",
    "tail_entries_kept": "6",
    # A machine that is busy with other things must not make a tier look dead.
    "hot_timeout_seconds": "1",
    "warm_timeout_seconds": "10",
    "log_format": "json",
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

    Starts a service of its own in a temporary directory, plays the call through HTTP, drops the caller in mid-sentence,
    kills the service with kill -9, resumes, archives, resumes from cold, and compares the whole history with the
    recording, byte by byte. Exit code 1 if one byte differs.
    """
    from sessionmanager.cli.playing.recording import read_recording
    from sessionmanager.cli.playing.timeline import Timeline

    read = read_recording(recording)
    timeline = Timeline(as_json=as_json)
    folder = Path(tempfile.mkdtemp(prefix="sessionmanager-demo-")) if data_dir is None else data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = False
    try:
        timeline.title(f"{read.name}: {len(read.entries)} entries, {read.turns} turns")
        history = asyncio.run(_play(read, folder, port, timeline))
        done = True
        # Read anew: what is compared is the file as it is now.
        return _compare(read_recording(recording), history, timeline, as_json=as_json)
    except click.Abort:
        done = True
        raise
    finally:
        # What went wrong in the story stands in the service's log.
        if data_dir is None and not keep and done:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            timeline.note(f"data and log: {folder}")


async def _play(recording: Recording, folder: Path, port: int, timeline: Timeline) -> list[bytes]:
    from sessionmanager.cli.playing.service import OwnService
    from sessionmanager.cli.playing.story import Story

    playing = asyncio.current_task()
    assert playing is not None
    for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C does the same by itself
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    try:
        async with OwnService(folder / "data", folder / "service.log", port=port, settings=SETTINGS) as service:
            return await Story(recording, service, timeline, secrets.token_hex(3)).play()
    except asyncio.CancelledError:
        raise click.Abort from None


def _compare(recording: Recording, history: list[bytes], timeline: Timeline, *, as_json: bool) -> int:
    from sessionmanager.cli.playing.recording import compare

    found = compare(recording.entries, history)
    good = not found.differences
    if as_json:
        shown = [difference._asdict() for difference in found.differences[:DIFFERENCES_SHOWN]]
        print_json({"step": "compare", "same": found.same, "of": found.of, "bytes": found.bytes, "differences": shown})
        return OK if good else FAILURE
    timeline.step("compare", f"{found.of} entries, {found.bytes:,} bytes", mark="good" if good else "bad")
    for difference in found.differences[:DIFFERENCES_SHOWN]:
        recorded, got = (shorten(text or "nothing", TEXT_COLUMNS) for text in (difference.recorded, difference.found))
        timeline.note(f"  {difference.at} {difference.member}: recorded {recorded}, found {got}")
    timeline.end(_verdict(found), good=good)
    return OK if good else FAILURE


def _verdict(found: Comparison) -> str:
    if not found.differences:
        return f"{found.same} of {found.of} entries came back as they were said, byte by byte"
    at = len({difference.at for difference in found.differences})
    return f"{at} {'entry differs' if at == 1 else 'entries differ'} from the recording"
