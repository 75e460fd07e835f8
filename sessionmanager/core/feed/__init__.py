"""The feed: the log followed live."""
