"""The pure heart: shapes, tables, decisions and folds. No await, no I/O, no clock, no randomness."""
