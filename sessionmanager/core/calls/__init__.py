"""Calls of all gateways: opening, reports, look-ups, records for billing."""
