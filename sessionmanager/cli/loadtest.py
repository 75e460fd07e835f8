"""`sessionmanager loadtest`."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from msgspec import structs

from sessionmanager.cli.failures import Gone
from sessionmanager.cli.options import local_url, read_settings, settings_options
from sessionmanager.cli.output import FAILURE, USAGE, json_option, print_json
from sessionmanager.loadtest.plan import PLANS, Plan, users_of
from sessionmanager.loadtest.verdict import Verdict, judge, routes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessionmanager.loadtest.report import Samples

OVERTIME_SECONDS: Final = 120
"""After the plan's end, until locust is ended: users come back from their last wait."""
LOCUSTFILE: Final = Path(__file__).parent.parent / "loadtest" / "locustfile.py"


@click.command()
@click.option("--url", envvar="SESSIONMANAGER_URL", help="Address of the service; else as `serve` has it.")
@click.option("--profile", type=click.Choice(tuple(PLANS)), default="100", show_default=True,
              help="Sessions held at the same time.")  # fmt: skip
@click.option("--seconds", type=click.IntRange(5), help="How long, in place of what the profile says.")
@click.option("--output", default="build/load", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Directory of the report.")  # fmt: skip
@settings_options
@json_option
def loadtest(
    url: str | None,
    profile: str,
    seconds: int | None,
    output: Path,
    data_dir: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Hold many conversations with a service at once, and write a report with a verdict.

    Exit code 1 when a criterion is missed. Sessions that it makes carry the label `load`. The token is that of
    SESSIONMANAGER_TOKEN, else one made with the service's own secret.
    """
    for package in ("locust", "matplotlib"):
        if find_spec(package) is None:
            raise Gone(f"{package} is not installed", "pip install 'sessionmanager[load]'", USAGE)
    plan = PLANS[profile]
    if seconds is not None:
        plan = structs.replace(plan, seconds=seconds)
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("run*"):
        old.unlink()
    settings = read_settings(config, data_dir=data_dir)
    address = url or local_url(settings)
    inherited = {**os.environ, "SESSIONMANAGER_DATA_DIR": str(settings.data_dir)}
    _run(address, profile, plan, output, inherited, quiet=as_json)
    verdicts, page = _report(plan, output)
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


def _run(address: str, profile: str, plan: Plan, output: Path, environ: Mapping[str, str], *, quiet: bool) -> None:
    """Locust in a process of its own: gevent patches the standard library, and this one shall stay as it is."""
    inherited = {**environ, "LOADTEST_PROFILE": profile, "LOADTEST_SAMPLES": str(output / "run_samples.jsonl")}
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", address, "--headless"]
    command += ["--users", str(sum(users_of(plan).values())), "--spawn-rate", str(plan.spawn_per_second)]
    command += ["--run-time", f"{plan.seconds}s", "--csv", str(output / "run"), "--csv-full-history", "--only-summary"]
    command += ["--exit-code-on-error", "0", "--stop-timeout", "10"]
    with open(output / "run.log", "wb") as log:
        try:
            subprocess.run(  # noqa: S603 - our own interpreter, with arguments that no shell reads
                command, env=inherited, check=True, timeout=plan.seconds + OVERTIME_SECONDS,
                stdout=subprocess.DEVNULL if quiet else None, stderr=log,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Gone("the load did not end in time", f"look into {output / 'run.log'}", FAILURE) from None
        except subprocess.CalledProcessError as error:
            raise Gone(f"locust ended with {error.returncode}", f"look into {output / 'run.log'}", FAILURE) from None


def _report(plan: Plan, output: Path) -> tuple[Sequence[Verdict], Path]:
    from sessionmanager.loadtest import report

    with open(output / "run_stats.csv", encoding="utf-8", newline="") as file:
        routes = routes_of(file)
    samples: Samples
    with open(output / "run_samples.jsonl", encoding="utf-8") as file:
        samples = report.Samples(file)
    with open(output / "run_stats_history.csv", encoding="utf-8", newline="") as file:
        history = report.latencies(file)
    memory = {process: [value for _, value in line] for process, line in samples.memory.items()}
    verdicts = judge(plan.criteria, routes, memory)
    return verdicts, report.write(output, plan, routes, verdicts, samples, history)
