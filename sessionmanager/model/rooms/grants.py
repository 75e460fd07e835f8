"""Who may do what in a room: one table, from which every LiveKit token is made.

A token is for one room and one identity. What reaches beyond a room (making, listing and deleting rooms, which LiveKit
grants for the whole server) is in no token that leaves this service: a tenant's manager must not see another's rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from sessionmanager.words import ParticipantKind

RoomRole = Literal["client", "agent", "service", "manager", "viewer"]
LiveKitKind = Literal["standard", "agent"]


class Grants(NamedTuple):
    """Every one may join its room. admin: mute, remove and tell others, and change the room's metadata. own_metadata:
    change its own name, metadata and attributes. kind: for LiveKit, agents alone do not keep a room open."""

    publish: bool
    subscribe: bool
    data: bool
    hidden: bool
    admin: bool
    own_metadata: bool
    kind: LiveKitKind


GRANTS: Final[Mapping[RoomRole, Grants]] = {
    #                   publish, subscribe, data, hidden, admin, own_metadata
    "client": Grants(True, True, True, False, False, False, "standard"),
    "agent": Grants(True, True, True, False, False, True, "agent"),
    "service": Grants(True, True, True, False, False, True, "standard"),
    "manager": Grants(False, True, True, True, True, False, "standard"),
    "viewer": Grants(False, True, False, True, False, False, "standard"),
}
BY_WORD: Final[Mapping[str, RoomRole]] = {"manager": "manager", "viewer": "viewer"}
"""Roles, words of their callers' own, that mean a row of the table for participants who are people."""
PEOPLE: Final = ("client", "human")
BY_KIND: Final[Mapping[ParticipantKind, RoomRole]] = {
    "client": "client",
    "human": "client",
    "bridge": "client",  # behind it is somebody on the phone
    "agent": "agent",
    "service": "service",
}


def role_of(kind: ParticipantKind, role: str) -> RoomRole:
    """The row of the table for a participant: by its kind, and for people by their role where the table has it. A
    service whose type happens to be `manager` manages nothing."""
    return BY_WORD.get(role, BY_KIND[kind]) if kind in PEOPLE else BY_KIND[kind]
