"""Carriers and a model to try a bridge with, without an account: strict, and played from recorded calls."""
