"""`sessionmanager loadtest`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
from msgspec import structs

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.options import local_url, read_settings, settings_options
from sessionmanager.cli.output import FAILURE, USAGE, json_option, print_json
from sessionmanager.cli.token import token_at_hand
from sessionmanager.loadtest.kept import Kept, Talk
from sessionmanager.loadtest.plan import PLANS, Plan, users_of
from sessionmanager.loadtest.samples import MARKS, Samples, latencies, marks
from sessionmanager.loadtest.verdict import Verdict, judge, routes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

OVERTIME_SECONDS: Final = 120
"""After the plan's end, until locust is ended: users come back from their last wait."""
LOCUSTFILE: Final = Path(__file__).parent.parent / "loadtest" / "locustfile.py"


@click.command()
@click.option("--url", "urls", envvar="SESSIONMANAGER_URL", multiple=True,
              help="Address of the service, or of each replica; else as `serve` has it.")  # fmt: skip
@click.option("--profile", type=click.Choice(tuple(PLANS)), default="100", show_default=True,
              help="Sessions held at the same time.")  # fmt: skip
@click.option("--seconds", type=click.IntRange(5), help="How long, in place of what the profile says.")
@click.option("--turn-seconds", type=click.FloatRange(0.1), help="Between two turns, in place of the profile's.")
@click.option("--output", default="build/load", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Directory of the report.")  # fmt: skip
@settings_options
@json_option
def loadtest(
    urls: tuple[str, ...],
    profile: str,
    seconds: int | None,
    turn_seconds: float | None,
    output: Path,
    data_dir: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Hold many conversations with a service at once, and write a report with a verdict.

    Exit code 1 when a criterion is missed. Sessions that it makes carry the label `load`. The token is that of
    SESSIONMANAGER_TOKEN, else one made with the service's own secret. With several addresses each user goes to the
    next one where its own does not answer, and says the same again, as the client does.
    """
    for package in ("locust", "matplotlib"):
        if find_spec(package) is None:
            raise Gone(f"{package} is not installed", "pip install 'sessionmanager[load]'", USAGE)
    plan = PLANS[profile]
    if seconds is not None:
        plan = structs.replace(plan, seconds=seconds)
    if turn_seconds is not None:
        plan = structs.replace(plan, turn_seconds=turn_seconds)
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("run*"):
        old.unlink()
    settings = read_settings(config, data_dir=data_dir)
    addresses = urls or (local_url(settings),)
    token = token_at_hand(settings, subject="loadtest")
    _run(addresses, token, profile, plan, output, quiet=as_json)
    kept = _read_back(addresses, token, output)
    verdicts, page = _report(plan, output, kept)
    if as_json:
        print_json(
            {
                "passed": all(v.passed for v in verdicts),
                "criteria": [v._asdict() for v in verdicts],
                "report": str(page),
            }
        )
    else:
        for each in verdicts:
            click.echo(f"{'passed' if each.passed else 'MISSED'}  {each.what}: {each.found} (allowed {each.allowed})")
        click.echo(f"report: {page}")
    if not all(each.passed for each in verdicts):
        sys.exit(FAILURE)


def _run(addresses: Sequence[str], token: str, profile: str, plan: Plan, output: Path, *, quiet: bool) -> None:
    """Locust in a process of its own: gevent patches the standard library, and this one shall stay as it is."""
    environ = {
        **os.environ,
        "SESSIONMANAGER_TOKEN": token,
        "LOADTEST_ADDRESSES": " ".join(addresses),
        "LOADTEST_PROFILE": profile,
        "LOADTEST_TURN_SECONDS": str(plan.turn_seconds),
        "LOADTEST_SAMPLES": str(output / "run_samples.jsonl"),
        "LOADTEST_TALKS": str(output / "run_talks.jsonl"),
    }
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", addresses[0], "--headless"]
    command += ["--users", str(sum(users_of(plan).values())), "--spawn-rate", str(plan.spawn_per_second)]
    command += ["--run-time", f"{plan.seconds}s", "--csv", str(output / "run"), "--csv-full-history", "--only-summary"]
    command += ["--exit-code-on-error", "0", "--stop-timeout", "10"]
    with open(output / "run.log", "wb") as log:
        try:
            subprocess.run(  # noqa: S603 - our own interpreter, with arguments that no shell reads
                command, env=environ, check=True, timeout=plan.seconds + OVERTIME_SECONDS,
                stdout=subprocess.DEVNULL if quiet else None, stderr=log,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Gone("the load did not end in time", f"look into {output / 'run.log'}", FAILURE) from None
        except subprocess.CalledProcessError as error:
            raise Gone(f"locust ended with {error.returncode}", f"look into {output / 'run.log'}", FAILURE) from None


def _read_back(addresses: Sequence[str], token: str, output: Path) -> Kept:
    from sessionmanager.loadtest.readback import read_back

    said = (output / "run_talks.jsonl").read_bytes().splitlines()
    return asyncio.run(read_back(addresses, token, [msgspec.json.decode(line, type=Talk) for line in said]))


def _report(plan: Plan, output: Path, kept: Kept) -> tuple[Sequence[Verdict], Path]:
    from sessionmanager.loadtest import report

    with open(output / "run_stats.csv", encoding="utf-8", newline="") as file:
        routes = routes_of(file)
    with open(output / "run_samples.jsonl", encoding="utf-8") as file:
        samples = Samples(file)
    with open(output / "run_stats_history.csv", encoding="utf-8", newline="") as file:
        history = latencies(file, samples.began)
    done = output / MARKS
    marked = marks(done.read_text(encoding="utf-8").splitlines(), samples.began) if done.exists() else []
    verdicts = judge(plan.criteria, routes, samples.lasting(), kept)
    return verdicts, report.write(output, plan, routes, verdicts, samples, history, marked)
