"""Answers that last: server-sent events and WebSockets."""
