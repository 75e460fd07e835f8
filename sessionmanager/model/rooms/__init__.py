"""The room of a session: its state in the head, what it should be like, and what follows when it is not. Pure."""
