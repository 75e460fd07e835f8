"""`make load`: start serving processes on Redis, MongoDB and S3 of this machine, hold 10,000 conversations, report.

The tiers are those of `make services` (`build/services.json`); prefix, database and bucket are new for each run.
PROFILE (100, 1000, 10000), LOAD_SECONDS, WORKERS and TIERS (`shared`, or `embedded`: one process that needs no server)
change the run; the report lies in `build/load/`.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

ROOT: Final = Path(__file__).parent.parent
SERVICES: Final = ROOT / "build" / "services.json"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


def shared_tiers(name: str) -> dict[str, str]:
    """Environment that puts the service on the servers of `make services`: prefix, database and bucket of this name."""
    try:
        running: dict[str, Any] = json.loads(SERVICES.read_text(encoding="utf-8"))
        redis, mongo, s3 = (running[server]["url"] for server in ("redis", "mongo-memory", "s3"))
    except (OSError, KeyError) as error:
        sys.exit(f"load: {error}: not in {SERVICES.relative_to(ROOT)}; run make services, or TIERS=embedded make load")
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
    }


@contextmanager
def serving(folder: Path, environ: dict[str, str], workers: int) -> Iterator[tuple[str, str]]:
    """The service as processes of their own on a free port; its address and an admin's token."""
    command = [sys.executable, "-m", "sessionmanager", "serve", "--data-dir", str(folder), "--port", "0", "--json"]
    if workers > 1:
        command += ["--workers", str(workers)]
    with open(folder / "serve.log", "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environ, cwd=ROOT)
        try:
            assert process.stdout is not None, "it was asked for"
            banner = json.loads(process.stdout.readline() or b"{}")
            if "address" not in banner:
                sys.exit(f"load: the service did not start:\n{(folder / 'serve.log').read_text(encoding='utf-8')}")
            yield banner["address"], banner["token"]
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> int:
    """The load test's exit code: 0 = every criterion kept."""
    profile = os.environ.get("PROFILE", "10000")
    workers = int(os.environ.get("WORKERS", "1"))
    name = f"load-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sessionmanager-load-")))
        environ = {**os.environ, "LOG_LEVEL": "warning"}
        if os.environ.get("TIERS", "shared") == "shared":
            environ |= shared_tiers(name)
            key = folder / "master.key"
            key.write_text(secrets.token_hex(32), encoding="ascii")
            key.chmod(0o600)
            environ |= {"MASTER_KEY_FILE": str(key), "JWT_SECRET": secrets.token_hex(32)}
            make_bucket(environ)
        address, token = stack.enter_context(serving(folder, environ, workers))
        command = [sys.executable, "-m", "sessionmanager", "loadtest", "--url", address, "--profile", profile]
        command += ["--output", str(ROOT / "build" / "load")]
        if seconds := os.environ.get("LOAD_SECONDS"):
            command += ["--seconds", seconds]
        print(f"load: {profile} sessions against {address}, {workers} serving", flush=True)
        return subprocess.run(command, env={**environ, "SESSIONMANAGER_TOKEN": token}, cwd=ROOT, check=False).returncode


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
    sys.exit(main())
