"""`sessionmanager token`."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from sessionmanager.cli.options import DEFAULT_TENANT, read_settings, settings_options
from sessionmanager.cli.output import USAGE, json_option, print_json
from sessionmanager.words import ROLES

if TYPE_CHECKING:
    from sessionmanager.cli.sessions import Target
    from sessionmanager.core.tokens.minting import Minted
    from sessionmanager.settings import Settings

TTL_SECONDS: Final = 3600
DAY_SECONDS: Final = 24 * 3600
SECRET_SECONDS: Final = 30.0
"""How long a service that starts beside us is waited for, which makes the secret of tokens at its first start."""
LOOK_SECONDS: Final = 0.2
END_MAX: Final = 253402300799
"""The last second that has a date."""


@click.command()
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, default=("admin",), show_default=True,
              help="May be given more than once.")  # fmt: skip
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose sessions; * for an admin of all.")
@click.option("--subject", default="cli", show_default=True, help="Who uses it; stands in the audit trail.")
@click.option("--session", metavar="ID", help="Bind the token to one session.")
@click.option("--participant", metavar="ID", help="Bind it to one participant of that session.")
@click.option("--ttl", type=int, default=TTL_SECONDS, show_default=True, metavar="SECONDS", help="How long it lives.")
@settings_options
@json_option
def token(
    roles: tuple[str, ...],
    tenant: str,
    subject: str,
    session: str | None,
    participant: str | None,
    ttl: int,
    data_dir: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Make a token with the service's own secret and print it, alone, on stdout.

    The secret is JWT_SECRET, or the one that `serve` made in the data directory.
    """
    settings = read_settings(config, data_dir=data_dir)
    minted = mint(settings, roles, tenant=tenant, subject=subject, sid=session, pid=participant, ttl_seconds=ttl)
    if as_json:
        print_json({"token": minted.token, "jti": minted.jti, "expires_at": minted.expires_at})
    else:
        click.echo(minted.token)


def token_at_hand(settings: Settings, *, subject: str) -> str:
    """The token of SESSIONMANAGER_TOKEN, else an admin's for a day, made with the service's own secret. Raises Gone."""
    given = os.environ.get("SESSIONMANAGER_TOKEN")
    if given:
        return given
    return mint(settings, ("admin",), tenant=DEFAULT_TENANT, subject=subject, ttl_seconds=DAY_SECONDS).token


async def await_secret(target: Target, seconds: float = SECRET_SECONDS) -> None:
    """Until a token can be had. Raises Gone: none can, in so many seconds; what else is wrong with it, at once."""
    from sessionmanager.cli.failures import NoSecret

    loop = asyncio.get_running_loop()
    give_up_at, told = loop.time() + seconds, False
    while True:
        try:
            target.token()
        except NoSecret as missing:
            if loop.time() >= give_up_at:
                raise
            if not told:
                click.echo(f"warning: {missing} yet; it is waited for up to {seconds:g} s", err=True)
                told = True
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return


def end_of(token: str) -> float | None:
    """`exp` of a JWT, in seconds since 1970, unverified: the service alone judges it. None = it has none."""
    try:
        payload = token.split(".")[1]
        claims: Any = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        ends_at = claims["exp"]
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return float(ends_at) if isinstance(ends_at, int | float) and 0 <= ends_at <= END_MAX else None


def mint(
    settings: Settings,
    roles: tuple[str, ...],
    *,
    tenant: str,
    subject: str,
    sid: str | None = None,
    pid: str | None = None,
    ttl_seconds: float = TTL_SECONDS,
) -> Minted:
    """A token signed with the secret of these settings: whoever can read it may make any token.

    Raises: Gone: there is no secret here. Invalid: names every wrong field. SettingsInvalid.
    """
    from sessionmanager.cli.failures import Gone, NoSecret
    from sessionmanager.core.tokens.minting import TokenMinter
    from sessionmanager.core.tokens.revocations import Revocations
    from sessionmanager.local_secret import signing_secret
    from sessionmanager.model.roles import ALL_TENANTS, Actor
    from sessionmanager.tiers.warm.protocol import WarmRecords

    found = signing_secret(settings, make=False)
    if found is None and settings.jwt_jwks_url is not None:
        raise Gone("tokens come from the identity provider of JWT_JWKS_URL", "ask it for one", USAGE)
    if found is None:
        raise NoSecret(
            f"there is no token secret in {settings.data_dir}",
            "start `sessionmanager serve` once, or give --data-dir or JWT_SECRET",
        )
    # Making a token asks no tier: only taking one back does.
    nowhere = Revocations(cast("WarmRecords", None))
    minter = TokenMinter(
        found.secret.reveal().encode(), nowhere, issuer=settings.jwt_issuer, audience=settings.jwt_audience
    )
    owner = Actor(ALL_TENANTS, "cli", frozenset({"admin"}))
    return minter.mint(owner, subject=subject, roles=roles, tenant=tenant, sid=sid, pid=pid, ttl_seconds=ttl_seconds)
