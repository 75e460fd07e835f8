"""What a LiveKit's room service promises, whoever implements it. A subclass gives the fixture `rooms`, empty."""

from __future__ import annotations

import asyncio

from sessionmanager.core.rooms.protocol import RoomService

NAME = "call-1-0000"


class RoomServiceContract:
    """Everything may be done twice, and what is not there any more is no failure."""

    async def test_a_room_that_is_not_there_is_nobody_s(self, rooms: RoomService) -> None:
        found = await rooms.look(NAME)
        assert (found.sid, found.people) == (None, ())

    async def test_opening_twice_is_opening_once(self, rooms: RoomService) -> None:
        first = await rooms.open(NAME, '{"a":1}')
        again = await rooms.open(NAME, '{"a":2}')
        assert first.sid is not None
        assert again.sid == first.sid
        assert (await rooms.look(NAME)).metadata == '{"a":2}'

    async def test_of_many_who_open_at_once_all_get_one_room(self, rooms: RoomService) -> None:
        found = await asyncio.gather(*(rooms.open(NAME, "{}") for _ in range(5)))
        assert len({one.sid for one in found}) == 1

    async def test_a_room_says_what_it_was_told_to_say(self, rooms: RoomService) -> None:
        await rooms.open(NAME, "{}")
        await rooms.configure(NAME, '{"b":1}')
        assert (await rooms.look(NAME)).metadata == '{"b":1}'

    async def test_a_deleted_room_is_gone_and_the_next_of_its_name_is_another(self, rooms: RoomService) -> None:
        first = await rooms.open(NAME, "{}")
        await rooms.delete(NAME)
        assert (await rooms.look(NAME)).sid is None
        assert (await rooms.open(NAME, "{}")).sid not in (None, first.sid)

    async def test_what_is_not_there_any_more_is_no_failure(self, rooms: RoomService) -> None:
        await rooms.configure(NAME, "{}")
        await rooms.delete(NAME)
        await rooms.open(NAME, "{}")
        await rooms.remove(NAME, "nobody")
        await rooms.tell(NAME, "topic", b"nobody hears")
