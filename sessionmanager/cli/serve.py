"""`sessionmanager serve`."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sessionmanager.cli.options import read_settings, settings_options
from sessionmanager.cli.output import json_option, wants_json

if TYPE_CHECKING:
    from sessionmanager.settings import Settings


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", metavar="PORT", help="Port to listen on; 0 takes a free one.  [default: 8000]")
@click.option("--workers", metavar="N", help="Serving processes; more than one needs shared tiers.  [default: 1]")
@click.option("--tls-cert", metavar="FILE", help="PEM file with the certificate: speak HTTPS.")
@click.option("--tls-key", metavar="FILE", help="PEM file with its key.")
@settings_options
@json_option
def serve(
    host: str | None,
    port: str | None,
    workers: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    data_dir: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Run the service, its worker inside, until SIGTERM or Ctrl-C.

    Without settings it keeps everything under ./data, listens on 127.0.0.1:8000 and prints how to talk to it.
    """
    settings = read_settings(
        config,
        server_host=host,
        server_port=port,
        workers=workers,
        tls_cert=tls_cert,
        tls_key=tls_key,
        data_dir=data_dir,
    )
    from sessionmanager.running.servers import run_server

    try:
        run_server(settings)
    except SystemExit as left:
        if left.code in (None, 0):
            raise
        # uvicorn's own code for this is 3, which here says that something was not found.
        from sessionmanager.cli.failures import Gone

        where = f"{settings.server_host} port {settings.server_port}"
        raise Gone(f"the service at {where} has failed", "the log above has the reason") from None


def banner(settings: Settings, token: str | None, address: str) -> str:
    """What `serve` prints on stdout once it answers; with `--json` one object on one line.

    Args: token: a short-lived admin token; None = none was made, and the text says how to make one. address: where it
    listens, such as `http://127.0.0.1:8000`.
    """
    if wants_json():
        value = {"address": address, "data_dir": str(settings.data_dir), "token": token}
        return json.dumps(value, ensure_ascii=False)
    tiers = ", ".join(f"{tier} {settings.shown(f'{tier}_url')}" for tier in ("hot", "warm", "cold"))
    lines = [f"sessionmanager answers at {address}", f"data in {settings.data_dir} ({tiers})"]
    if token is None:
        return "\n".join([*lines, "a token: sessionmanager token --role admin"])
    lines += [f"admin token, short-lived: {token}", "try it, line by line:"]
    return "\n".join([*lines, *_curl_lines(address, token)])


def _curl_lines(address: str, token: str) -> list[str]:
    """Create, append, suspend, resume: each line whole, so that it works in any shell it is pasted into."""
    # From the token, so that another start makes another session and the lines of one start belong together.
    session = f"hello-{hashlib.sha256(token.encode()).hexdigest()[:8]}"
    said = {"entries": [{"type": "message", "role": "user", "content": "Hello, are you still there?"}]}
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("", {"id": session, "type": "text"}),
        (f"/{session}/entries", said),
        (f"/{session}/suspend", {}),
        (f"/{session}/resume", {}),
    )
    auth = shlex.quote(f"Authorization: Bearer {token}")
    return [
        f"curl -sS {shlex.quote(f'{address}/sessions{path}')} -H {auth} -H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(body))}"
        for path, body in calls
    ]
