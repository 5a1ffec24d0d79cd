"""What can go wrong in a compose test."""

from __future__ import annotations


class ComposeTestFailed(Exception):
    """Something that was to hold does not, or could not be tried; the message says what, and shows the evidence."""
