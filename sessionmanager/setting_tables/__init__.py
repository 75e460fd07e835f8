"""The tables of settings, a file a theme; `settings.py` puts them together."""
