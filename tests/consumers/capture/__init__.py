"""Captures and replays."""
