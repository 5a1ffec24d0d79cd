"""Captures of all that a view is given, and views rebuilt from them: for reports of faults."""
