"""Moves between tiers: numbered steps, each safe to repeat; the next run finishes what a kill between two left."""
