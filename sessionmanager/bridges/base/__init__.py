"""How the base joins a carrier, a model and a session; `bridge.py` is what others call."""
