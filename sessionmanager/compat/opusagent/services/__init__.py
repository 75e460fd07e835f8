"""The service of sessions that an OpusAgent program calls."""
