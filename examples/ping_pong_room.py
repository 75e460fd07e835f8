"""The same in the session's LiveKit room: answers every data packet "ping" with "pong", to everybody in the room.

It joins the room by the token that was sent with the request to join. Needs `pip install livekit` as well.

SESSIONMANAGER_URL=http://127.0.0.1:8000 SESSIONMANAGER_TOKEN=… .venv/bin/python examples/ping_pong_room.py
"""

import asyncio
import logging

from livekit import rtc

from sessionmanager.services import Handler, LeaveReason, ServiceConfig, ServiceSession, run

log = logging.getLogger("ping_pong")


class PingPongRoom(Handler):
    async def on_join(self, session: ServiceSession) -> None:
        asked = session.asked
        if asked.livekit_url is None or asked.access_token is None:
            return  # this session has no room
        room = session.data["room"] = rtc.Room()
        said: set[asyncio.Task[None]] = set()

        def heard(packet: rtc.DataPacket) -> None:
            if packet.data == b"ping":
                task = asyncio.ensure_future(room.local_participant.publish_data("pong", topic="pong"))
                said.add(task)
                task.add_done_callback(said.discard)

        room.on("data_received", heard)
        await room.connect(asked.livekit_url, asked.access_token)
        log.info("session %s: in room %s", session.id, room.name)

    async def on_leave(self, session: ServiceSession, reason: LeaveReason) -> None:
        if "room" in session.data:
            await session.data["room"].disconnect()


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s")
    for name in ("ping_pong", "sessionmanager"):
        logging.getLogger(name).setLevel(logging.INFO)
    run(PingPongRoom(), ServiceConfig.from_environ(id="ping-pong-room-1", type="ping-pong-room"))
