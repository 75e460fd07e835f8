"""A model behind a WebSocket that speaks as OpenAI's Realtime API does, in either generation of its names."""
