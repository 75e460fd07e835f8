"""One folder an outside system: what takes its calls, and keeps everything in the session."""
