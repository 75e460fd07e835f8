"""A session that is erased while something of it is still being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmanager.errors import Erased
from sessionmanager.model.index import segment
from sessionmanager.words import Key
from tests.support.builders import lines
from tests.support.scenes import ALICE, begin, open_world

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")


async def test_a_body_of_an_erased_session_is_refused_as_erased_and_nothing_of_it_stays(tmp_path: Path) -> None:
    """An append that seals inline on one replica meets an erase on another: its caller is told 410, and no fault."""
    async with open_world(tmp_path) as world:
        one, other = world.process(), world.process()
        await begin(one, KEY)
        await other.sessions.erase(KEY, ALICE)
        with pytest.raises(Erased):
            await one.bodies.put_warm(KEY, segment(lines(1, 3), "late"))
        assert await world.tiers.warm.list_bodies(KEY) == []
