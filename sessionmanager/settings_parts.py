"""What settings mean to the parts of the service: numbers, bounds and rules, with nothing opened yet."""

from __future__ import annotations

from typing import Final

from sessionmanager.core.assembly import CoreSettings
from sessionmanager.core.bodies import PUTS_MAX
from sessionmanager.core.feed.limits import FeedLimits
from sessionmanager.core.rooms.rooms import RoomSettings
from sessionmanager.core.services.assembly import ServiceSettings, rules_of
from sessionmanager.core.services.registry import Times
from sessionmanager.core.tenancy.tenants import Quotas, ResumePolicy, ResumeWithin, TenantSettings
from sessionmanager.model.calls.legs import Silence
from sessionmanager.model.decide import Bounds
from sessionmanager.model.services import Rules
from sessionmanager.model.timers import Policy
from sessionmanager.settings import Settings
from sessionmanager.settings_checks import refused
from sessionmanager.wire.common import Limits

UPLOAD_DEADLINE_SECONDS_MIN: Final = 30.0
ROOM_CALLS: Final = 2
"""What one look at a room may take, in deadlines of a call; a LiveKit that is well answers in milliseconds."""


def core_settings(settings: Settings) -> CoreSettings:
    """The numbers that the core goes by."""
    return CoreSettings(
        policy=Policy(
            idle_suspend_seconds=settings.idle_suspend_seconds,
            archive_after_days=settings.archive_after_days,
            retention_days=settings.retention_days,
            tail_entries_max=settings.tail_entries_max,
            tail_bytes_max=settings.tail_bytes_max,
            tail_entries_kept=settings.tail_entries_kept,
            tail_bytes_kept=settings.tail_bytes_kept,
            warm_segments_max=settings.warm_segments_max,
            warm_segments_kept=settings.warm_segments_kept,
            keys_keep_seconds=settings.keys_keep_seconds,
            intent_grace_seconds=settings.move_grace_seconds,
            # A put is sent up to three times, each with its own deadline, and the last may land a little later.
            upload_deadline_seconds=max(UPLOAD_DEADLINE_SECONDS_MIN, (PUTS_MAX + 1) * settings.cold_timeout_seconds),
            client_seconds=settings.service_client_seconds,
            silence=Silence(settings.call_setup_timeout_seconds, settings.call_timeout_seconds),
        ),
        bounds=Bounds(
            context_bytes_max=settings.context_bytes_max,
            metadata_bytes_max=settings.metadata_bytes_max,
            document_bytes_max=settings.body_bytes_max,
            entry_bytes_max=settings.entry_bytes_max,
            depth_max=settings.json_depth_max,
        ),
        hot_lease_seconds=hot_lease(settings),
        tenant_defaults=TenantSettings(
            resume_policy=_resume_policy(settings),
            max_age_seconds=settings.default_max_age_seconds,
            quotas=Quotas(sessions=settings.quota_sessions, requests_per_second=settings.quota_requests_per_second),
        ),
        timed_moves_percent_max=settings.timed_moves_percent_max,
        services=_services(settings),
        rooms=RoomSettings(settings.room_sync_seconds, ROOM_CALLS * settings.livekit_timeout_seconds),
        sweep_seconds=settings.cleanup_interval,
        token_requests_per_second=settings.token_requests_per_second,
    )


def _resume_policy(settings: Settings) -> ResumePolicy:
    if settings.resume_policy == "resume_within":
        return ResumeWithin(resume_within=settings.resume_within_seconds)
    return "always" if settings.resume_policy == "always" else "new"


def _services(settings: Settings) -> ServiceSettings:
    """What services go by. Raises SettingsInvalid."""
    others = Rules(False, settings.service_join_seconds, settings.service_retry_seconds)
    try:
        rules = rules_of(settings.service_types, others)
    except ValueError as error:
        raise refused(settings, "service_types", str(error)) from None
    return ServiceSettings(rules, Times(settings.service_registration_seconds, settings.service_health_seconds))


def limits_of(settings: Settings) -> Limits:
    """Bounds of requests."""
    return Limits(
        body_bytes_max=settings.body_bytes_max,
        entry_bytes_max=settings.entry_bytes_max,
        append_entries_max=settings.append_entries_max,
        context_bytes_max=settings.context_bytes_max,
        metadata_keys_max=settings.metadata_keys_max,
        metadata_bytes_max=settings.metadata_bytes_max,
        json_depth_max=settings.json_depth_max,
        attachment_bytes_max=settings.attachment_bytes_max,
    )


def feed_limits(settings: Settings) -> FeedLimits:
    """Bounds of feeds."""
    return FeedLimits(
        streams_max=settings.streams_max,
        streams_per_session_max=settings.streams_per_session_max,
        streams_per_tenant_max=settings.streams_per_tenant_max,
        streams_per_subject_max=settings.streams_per_subject_max,
        pending_bytes_max=settings.stream_pending_bytes_max,
        slow_seconds=settings.stream_slow_seconds,
        heartbeat_seconds=settings.stream_heartbeat_seconds,
        goaway_seconds=settings.stream_goaway_seconds,
    )


def hot_lease(settings: Settings) -> float:
    """How long a copy is trusted. Those of one process are not, where others write: each read asks warm."""
    alone = "warm" in settings.embedded_tiers
    return settings.hot_lease_seconds if alone or "hot" not in settings.embedded_tiers else 0.0
