"""`locust -f loadtests/locustfile.py --host http://localhost:8000`: the load tests of the package, beside `make run`.

The users, the profiles and what passes are in `sessionmanager/loadtest/`, for `sessionmanager loadtest` as well.
"""

from sessionmanager.loadtest.locustfile import Agent, Bridge, Conversation, Listener

__all__ = ("Agent", "Bridge", "Conversation", "Listener")
