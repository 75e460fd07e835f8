"""Real servers for tests: what they are, where their programs come from, how they are started and ended.

`python -m tests.services` is `make services`. Tests ask `tests/support/services.py`, which builds on the same recipes.
"""
