"""JSON on stdout, one document a line: names come from guests and hosts, so nothing in them may steer a terminal."""

from __future__ import annotations

import sys


def printable(json_text: str) -> str:
    """Write what no terminal shows as JSON's own escapes: the same document, for a program that reads it."""
    if json_text.isprintable():
        return json_text
    return "".join(one if one.isprintable() else _escape(one) for one in json_text)


def say_json(json_text: str | bytes) -> None:
    """Write one document, which has no line ends, to stdout."""
    sys.stdout.write(printable(json_text.decode() if isinstance(json_text, bytes) else json_text) + "\n")


def _escape(one: str) -> str:
    """Beyond 16 bits JSON has two escapes, as UTF-16 has two units (RFC 8259, section 7)."""
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
