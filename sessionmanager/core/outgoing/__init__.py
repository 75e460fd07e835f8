"""Requests that this service sends by itself to addresses that others have told it: where to, and how."""
