"""A service that answers every "ping" with "pong", in each session that asks for a service of type `ping-pong`.

SESSIONMANAGER_URL=http://127.0.0.1:8000 SESSIONMANAGER_TOKEN=… .venv/bin/python examples/ping_pong_service.py
"""

import logging

from sessionmanager.services import Entry, Handler, LeaveReason, ServiceConfig, ServiceSession, run

log = logging.getLogger("ping_pong")


class PingPong(Handler):
    async def on_join(self, session: ServiceSession) -> None:
        session.data["pings"] = 0

    async def on_message(self, session: ServiceSession, entry: Entry) -> None:
        if entry.type == "message" and entry.content == "ping":
            session.data["pings"] += 1
            await session.say("pong")

    async def on_leave(self, session: ServiceSession, reason: LeaveReason) -> None:
        log.info("session %s: %d pings, %s", session.id, session.data["pings"], reason)


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s")
    for name in ("ping_pong", "sessionmanager"):
        logging.getLogger(name).setLevel(logging.INFO)
    run(PingPong(), ServiceConfig.from_environ(id="ping-pong-1", type="ping-pong", capabilities=("ping",)))
