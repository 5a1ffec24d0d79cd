"""Benches: each prints one JSON line."""
