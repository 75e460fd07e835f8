"""Rooms at LiveKit: made, looked at, held against their sessions, closed; who may join them; what LiveKit tells."""
