"""Packages, tried where nothing else of the project is."""
