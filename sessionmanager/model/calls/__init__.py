"""Calls: their states, what each report does to them, and how their parties are found."""
