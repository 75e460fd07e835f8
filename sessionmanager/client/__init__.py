"""The service seen from afar: its methods, and its errors as the same classes."""
