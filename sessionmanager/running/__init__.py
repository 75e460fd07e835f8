"""Running what was put together: processes, servers, signals."""
