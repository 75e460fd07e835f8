"""sessionmanager: a service that owns conversations."""

__version__ = "0.1.0"
