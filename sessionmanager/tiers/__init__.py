"""The three tiers. Above them there are sessions; here there are a register with a log, a cache with a bell, a box."""
