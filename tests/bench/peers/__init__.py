"""`make bench-peers`: the same work against stores that users would pick instead, side by side in one run."""
