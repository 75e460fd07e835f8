"""Answers that wait until a session has the services that it asks for."""

from __future__ import annotations

import asyncio

from sessionmanager.api.context import Api
from sessionmanager.api.exchange import Exchange
from sessionmanager.core.feed.subscription import FeedEnded
from sessionmanager.errors import Draining, JoinTimeout
from sessionmanager.model.codec import Stored
from sessionmanager.waits.deadline import lift
from sessionmanager.words import Key


async def until_ready(api: Api, ex: Exchange, key: Key, seconds: float) -> Stored:
    """The session once it waits for services no more.

    Raises JoinTimeout: it still waits after so long, or has failed for want of them. RateLimited: too many wait.
    Cost: one warm read for each of its commits meanwhile.
    """
    lift()  # the request may take longer than others; each call to a tier has its own deadline
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    source = await api.feeds.follow(key, subject=ex.actor.subject)
    try:
        while True:
            stored = (await api.core.sessions.view(key, lines=0, latest=True)).stored
            head = stored.head
            left = until - loop.time()
            if head.status == "error" or (head.status == "waiting_for_services" and left <= 0):
                missing = [seat.type for seat in head.detail.services if seat.status != "ready" and not seat.optional]
                raise JoinTimeout(key.id, missing or head.profile.required_services)
            if head.status != "waiting_for_services":
                return stored
            await source.take(left)
    except FeedEnded:
        raise Draining from None
    finally:
        source.close()
