"""Webhooks: what happens in a tenant's sessions, sent to addresses that its people have registered."""
