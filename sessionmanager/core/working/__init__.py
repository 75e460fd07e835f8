"""The worker, what it does for a session, and how much of it the clock alone may ask for in an hour."""
