"""Spans of time on the command line, in seconds."""

from __future__ import annotations

import argparse
import math


def seconds(text: str) -> float:
    """Read a span that may be none. Raises ArgumentTypeError, which says what is allowed."""
    return _read(text, "0 or more", above=-math.inf)


def positive_seconds(text: str) -> float:
    """Read a span that is some. Raises ArgumentTypeError, which says what is allowed."""
    return _read(text, "more than 0", above=0.0)


def _read(text: str, allowed: str, *, above: float) -> float:
    try:
        span = float(text)
    except ValueError:
        span = math.nan
    if not (math.isfinite(span) and span >= 0 and span > above):
        msg = f"{text!r:.40} is no number of seconds; allowed: {allowed}, such as 60 or 12.5"
        raise argparse.ArgumentTypeError(msg)
    return span
