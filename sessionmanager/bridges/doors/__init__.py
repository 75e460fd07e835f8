"""What the servers of all carriers share: a socket with bounds, and a conversation taken with patience."""
