"""Settings → open tiers, and the tools of their backends, for commands that work in place of the service or beside it.

`wiring.py` opens what serves; this opens no more than a command needs, makes nothing that is not there, and runs
neither worker nor hot tier.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import structlog

from sessionmanager import logs
from sessionmanager.core.keys.files import read_key_lines
from sessionmanager.core.keys.hierarchy import SessionKeys
from sessionmanager.core.keys.master import MasterKeys
from sessionmanager.core.keys.standing import MASTER_KEY, STANDING_ID, Standing, admit, read_standing, standing_of
from sessionmanager.core.verify import ReadOnlyRecords
from sessionmanager.errors import NotFound
from sessionmanager.model.roles import ALL_TENANTS
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import refused
from sessionmanager.tiers.guard import COLD_LIMITS, WARM_LIMITS, Guard
from sessionmanager.tiers.guarded import GuardedCold, GuardedWarm
from sessionmanager.tiers.registry import COLD, HOT, WARM, opener
from sessionmanager.tiers.warm.protocol import WarmRecords
from sessionmanager.words import TierName

MASTER_KEY_NAME: Final = "master-key"
WARM_TIMEOUT_SECONDS: Final = 5.0
"""Nobody waits for an answer here: a call may take what it takes, within reason."""
_BACKENDS: Final = {"hot": HOT, "warm": WARM, "cold": COLD}


class Stores(NamedTuple):
    """The two tiers that hold what must not be lost, and the keys to what they hold."""

    warm: GuardedWarm
    cold: GuardedCold
    keys: SessionKeys
    masters: MasterKeys


def options_of(settings: Settings, tier: TierName) -> dict[str, Any]:
    """What the opener of this tier's backend, and its doctor, are told beside the URL."""
    if tier == "cold" and urlsplit(settings.cold_url).scheme == "s3":
        return {
            "endpoint_url": settings.s3_endpoint_url,
            "region": settings.s3_region,
            "addressing": settings.s3_addressing,
            "storage_class": settings.s3_storage_class,
            "encryption": settings.s3_encryption,
            "kms_key_id": settings.s3_kms_key_id,
            "connections_max": settings.s3_max_connections,
            "multipart_bytes": settings.s3_multipart_bytes,
        }
    if tier == "warm" and urlsplit(settings.warm_url).scheme.startswith("mongodb"):
        return {"standalone": settings.mongo_standalone, "pool_max": settings.mongo_max_connections}
    if tier == "hot" and urlsplit(settings.hot_url).scheme.startswith("redis"):
        from sessionmanager.tiers.hot.redis_address import Files

        return {
            "password": settings.redis_password.reveal() if settings.redis_password else None,
            "db": settings.redis_db if settings.origin("redis_db") != "default" else None,
            "files": Files(settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file),
            "prefix": settings.session_prefix,
        }
    return {}


def tools_of(settings: Settings, tier: TierName) -> Any:
    """The module of this tier's backend with `diagnose`, and for warm `walk`. Raises SettingsInvalid."""
    url: str = getattr(settings, f"{tier}_url")
    backends = _BACKENDS[tier]
    scheme = urlsplit(url).scheme
    if scheme not in backends:
        raise refused(settings, f"{tier}_url", f"a URL with one of the schemes {', '.join(sorted(backends))}")
    backend = backends[scheme].split(":")[0].split(".")[0]
    return import_module(f"sessionmanager.tiers.{tier}.{backend}_doctor")


async def standing_in(settings: Settings) -> Standing | None:
    """What the data says of the master keys that it needs; None where nothing was written yet. Looked at from outside:
    a service that runs is not disturbed.

    Raises SettingsInvalid, TierUnavailable, DataCorrupt.
    """
    find = tools_of(settings, "warm").find_record
    record = await find(settings.warm_url, ALL_TENANTS, MASTER_KEY, STANDING_ID, **options_of(settings, "warm"))
    return None if record is None else standing_of(record.data)


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncGenerator[Stores]:
    """Warm and cold, guarded, and the keys, which only open what is there.

    Raises SettingsInvalid; NotFound: there is no master key; TierUnavailable: also where `serve` has the data
    directory.
    """
    masters = read_masters(settings)
    # A command speaks for itself: of what its parts have to say, only what is wrong is of use.
    level = "warning" if settings.origin("log_level") == "default" else settings.log_level
    logs.configure(level, settings.log_format)
    async with AsyncExitStack() as stack:
        warm = GuardedWarm(
            await open_tier(stack, settings, "warm"),
            Guard(
                "warm", WARM_LIMITS._replace(timeout_seconds=max(WARM_TIMEOUT_SECONDS, settings.warm_timeout_seconds))
            ),
        )
        cold = GuardedCold(
            await open_tier(stack, settings, "cold"),
            Guard("cold", COLD_LIMITS._replace(timeout_seconds=settings.cold_timeout_seconds)),
        )
        # With another master key every body would look damaged.
        if await read_standing(warm) is not None:
            masters = await check_master(settings, warm, masters)
        keys = SessionKeys(masters, cast("WarmRecords", ReadOnlyRecords(warm)))
        yield Stores(warm, cold, keys, masters)


async def check_master(
    settings: Settings, records: WarmRecords, given: MasterKeys, made: Path | None = None
) -> MasterKeys:
    """The given keys, as this data goes by them. Raises SettingsInvalid: one that it needs is not among them.

    made: the file of a key that was made just now. For data that has lost its own it does not stay: it would look like
    the one to keep. Raises TierUnavailable, DataCorrupt.
    """
    try:
        masters = await admit(records, given)
    except ValueError as error:
        if made is None:
            raise refused(settings, "master_key_file", str(error)) from None
        await asyncio.to_thread(made.unlink)
        remedy = f"the key that the data was written with, which is missing: put it back at {made}"
        raise refused(settings, "master_key_file", remedy) from None
    if made is not None:
        structlog.get_logger().warning("master_key.made", path=str(made))
    return masters


async def open_tier(stack: AsyncExitStack, settings: Settings, tier: TierName, **more: Any) -> Any:
    """The tier of this name, open until `stack` closes, without a guard. Raises SettingsInvalid, TierUnavailable."""
    url: str = getattr(settings, f"{tier}_url")
    try:
        return await stack.enter_async_context(opener(tier, url)(url, **{**options_of(settings, tier), **more}))
    except ValueError as error:
        raise refused(settings, f"{tier}_url", str(error)) from None


def read_masters(settings: Settings) -> MasterKeys:
    """The keys of MASTER_KEY_FILE, or of the data directory. Raises NotFound, SettingsInvalid."""
    path = Path(settings.master_key_file or settings.data_dir / MASTER_KEY_NAME)
    try:
        return MasterKeys(*read_key_lines(path))
    except FileNotFoundError:
        raise NotFound(f"there is no master key at {path}, and so nothing that it could open") from None
    except ValueError as error:
        raise refused(settings, "master_key_file", str(error)) from None
