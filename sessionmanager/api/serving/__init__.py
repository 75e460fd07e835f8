"""Serving the application: uvicorn with our bounds and our way of writing answers."""
