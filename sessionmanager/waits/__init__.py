"""How long anything waits: the deadline of the work at hand, and pauses that end early."""
