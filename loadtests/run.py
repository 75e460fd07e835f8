"""`make load`: start serving processes on Redis, MongoDB and S3 of this machine, hold 10,000 conversations, report.

The tiers are those of `make services` (`build/services.json`); prefix, database and bucket are new for each run.
PROFILE (100, 1000, 10000), LOAD_SECONDS, WORKERS and TIERS (`shared`, or `embedded`: one process that needs no server)
change the run. REPLICAS=2 starts so many services of their own, and KILL_AT=300 ends one of them by `kill -9` so many
seconds after the load began, and starts it again. The report lies in `build/load/`, or in LOAD_OUTPUT; arguments go on
to `sessionmanager loadtest`.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from sessionmanager.loadtest.samples import MARKS, Mark

ROOT: Final = Path(__file__).parent.parent
SERVICES: Final = ROOT / "build" / "services.json"
STOP_SECONDS: Final = 60.0


class Plan(NamedTuple):
    """What the environment asks for. kill_at: seconds after the load began; None = nobody is killed."""

    profile: str
    seconds: str | None
    replicas: int
    workers: int
    kill_at: float | None
    shared: bool
    output: Path


def plan_of(environ: Mapping[str, str]) -> Plan:
    """What is asked for. Exits where it cannot be."""
    kill_at = environ.get("KILL_AT")
    plan = Plan(
        environ.get("PROFILE", "10000"),
        environ.get("LOAD_SECONDS"),
        int(environ.get("REPLICAS", "2" if kill_at else "1")),
        int(environ.get("WORKERS", "1")),
        None if kill_at is None else float(kill_at),
        environ.get("TIERS", "shared") == "shared",
        Path(environ.get("LOAD_OUTPUT", ROOT / "build" / "load")),
    )
    if plan.replicas > 1 and not plan.shared:
        sys.exit("load: embedded tiers belong to one process: leave TIERS=embedded out, or REPLICAS")
    if plan.kill_at is not None and plan.replicas < 2:
        sys.exit("load: KILL_AT needs another replica to go to: REPLICAS=2")
    if plan.kill_at is not None and plan.workers > 1:
        sys.exit("load: KILL_AT ends one process: leave WORKERS out")
    return plan


def shared_tiers(name: str, folder: Path) -> dict[str, str]:
    """Environment that puts the service on the servers of `make services`: prefix, database and bucket of this name."""
    try:
        running: dict[str, dict[str, str]] = json.loads(SERVICES.read_text(encoding="utf-8"))
        redis, mongo, s3 = (running[server]["url"] for server in ("redis", "mongo-memory", "s3"))
    except (OSError, KeyError) as error:
        sys.exit(f"load: {error}: not in {SERVICES.relative_to(ROOT)}; run make services, or TIERS=embedded make load")
    key = folder / "master.key"
    key.write_text(secrets.token_hex(32), encoding="ascii")
    key.chmod(0o600)
    address = urlsplit(s3)
    return {
        "REDIS_URL": redis,
        "SESSION_PREFIX": f"{name}:",
        "MONGO_URI": f"{mongo.rstrip('/')}/{name}",
        "MONGO_STANDALONE": "allowed",  # the stand-in of the tests is no replica set
        "S3_BUCKET": name,
        "S3_ENDPOINT_URL": f"{address.scheme}://{address.hostname}:{address.port}",
        "AWS_ACCESS_KEY_ID": unquote(address.username or ""),
        "AWS_SECRET_ACCESS_KEY": unquote(address.password or ""),
        "AWS_DEFAULT_REGION": "us-east-1",
        "MASTER_KEY_FILE": str(key),
        "JWT_SECRET": secrets.token_hex(32),
    }


class Replica:
    """The service as processes of their own. address, token: where it answers once it has started, and an admin's."""

    def __init__(self, folder: Path, environ: Mapping[str, str], workers: int) -> None:
        self._folder = folder
        self._environ = environ
        self._workers = workers
        self._port = "0"
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self.token = ""

    def start(self) -> None:
        """Until it answers; a second time at the same address. Exits where it does not start."""
        command = [sys.executable, "-m", "sessionmanager", "serve", "--json", "--port", self._port]
        command += ["--data-dir", str(self._folder)]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        log = self._folder.with_suffix(".log")
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, env=self._environ, cwd=ROOT)
        self._process = process
        assert process.stdout is not None, "it was asked for"
        banner = json.loads(process.stdout.readline() or b"{}")
        if "address" not in banner:
            sys.exit(f"load: the service did not start:\n{log.read_text(encoding='utf-8')}")
        self.address, self.token = banner["address"], self.token or banner["token"]
        self._port = self.address.rpartition(":")[2]

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None, "it was started"
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextmanager
def serving(plan: Plan, folder: Path, environ: Mapping[str, str]) -> Generator[Sequence[Replica]]:
    """So many replicas, until the end of the block."""
    replicas = [Replica(folder / f"replica-{n}", environ, plan.workers) for n in range(1, plan.replicas + 1)]
    try:
        for replica in replicas:
            replica.start()
        yield replicas
    finally:
        for replica in replicas:
            replica.stop()


@contextmanager
def killing(plan: Plan, replicas: Sequence[Replica]) -> Generator[None]:
    """End the last replica by `kill -9` at its time and start it again; the report gets a mark for both."""
    if plan.kill_at is None:
        yield
        return

    def kill() -> None:
        mark(plan.output, f"kill -9 of replica {len(replicas)}")
        replicas[-1].kill()
        replicas[-1].start()
        mark(plan.output, f"replica {len(replicas)} answers again")

    timer = threading.Timer(plan.kill_at, kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def mark(output: Path, what: str) -> None:
    """A line in the report's pictures."""
    with (output / MARKS).open("ab") as file:
        file.write(msgspec.json.encode(Mark(time.time(), what)) + b"\n")


def main(arguments: Sequence[str]) -> int:
    """The load test's exit code: 0 = every criterion kept."""
    plan = plan_of(os.environ)
    name = f"load-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sessionmanager-load-")))
        environ = {**os.environ, "LOG_LEVEL": "warning"}
        if plan.shared:
            environ |= shared_tiers(name, folder)
            make_bucket(environ)
        replicas = stack.enter_context(serving(plan, folder, environ))
        command = [sys.executable, "-m", "sessionmanager", "loadtest", "--profile", plan.profile]
        command += ["--output", str(plan.output), *arguments]
        for replica in replicas:
            command += ["--url", replica.address]
        if plan.seconds is not None:
            command += ["--seconds", plan.seconds]
        print(f"load: {plan.profile} sessions, {plan.replicas} × {plan.workers} serving", file=sys.stderr, flush=True)
        stack.enter_context(killing(plan, replicas))
        inherited = {**environ, "SESSIONMANAGER_TOKEN": replicas[0].token}
        return subprocess.run(command, env=inherited, cwd=ROOT, check=False).returncode


def make_bucket(environ: dict[str, str]) -> None:
    """The bucket of this run."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=environ["S3_ENDPOINT_URL"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        region_name=environ["AWS_DEFAULT_REGION"],
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=environ["S3_BUCKET"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
