"""Warm on MongoDB, for any number of processes. Start reading at `tier.py`; `layout.py` says what lies where."""
