"""Keys: the master key's file, what is derived from it, what it seals, and the cursors that it signs."""
