"""The rows of the route table, one file a noun; `api/table.py` puts them together."""
