"""Traces: what the rest of the service says of its work (`spans`), and who sends it on (`otel`)."""
