"""The engine side."""
