"""Domain XML as no libvirt would write it: real documents with elements dropped, repeated, renamed, filled, nested."""

from __future__ import annotations

from copy import deepcopy
from xml.etree import ElementTree as ET

from hypothesis import strategies as st

from tests.agent.libvirt_edge.recorded import ACTIVE_XML, INACTIVE_XML

MEMTUNE = "<memtune><min_guarantee unit='MiB'>2</min_guarantee></memtune>"
HOSTILE_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00")
    | st.sampled_from("\u202e\u2066\u200f\u061c\u200d\x1b\x85\ufffe"),
    max_size=40,
) | st.sampled_from(
    [
        "",
        "-1",
        "0",
        "9" * 5000,
        "9" * 30,
        "9" * 4000,
        "x" * 5000,
        "1e999",
        "0x7",
        "\u0663",
        "nan",
        "vnc",
        "yes",
        "variable",
    ]
)
"""Also numbers that are none, or far too long, and words that mean something elsewhere."""


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """One document after a few mutations; perhaps not even XML any more."""
    root = ET.fromstring(draw(st.sampled_from([ACTIVE_XML, INACTIVE_XML])).replace("<clock", MEMTUNE + "<clock"))  # noqa: S314 - our own
    for _ in range(draw(st.integers(1, 12))):
        _mutate(draw, root)
    text = ET.tostring(root, encoding="unicode")
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(["<", "&", "\ud800", "\x00", "]]>", "<!DOCTYPE a>"])) + text[place:]
    return text


def _mutate(draw: st.DrawFn, root: ET.Element) -> None:
    parents = [element for element in root.iter() if len(element)]
    if not parents:
        return
    parent = draw(st.sampled_from(parents))
    index = draw(st.integers(0, len(parent) - 1))
    child = parent[index]
    match draw(st.sampled_from(["drop", "repeat", "rename", "fill", "attribute", "lose", "swallow", "unknown"])):
        case "drop":
            parent.remove(child)
        case "repeat":
            parent.insert(index, deepcopy(child))
        case "rename":
            child.tag = draw(st.sampled_from(["disk", "target", "source", "graphics", "clock", "alias", "new"]))
        case "fill":
            child.text = _writable(draw(HOSTILE_TEXT))
        case "attribute":
            names = [*child.attrib, "port", "type", "order", "adjustment", "state", "index", "novel"]
            child.set(draw(st.sampled_from(names)), _writable(draw(HOSTILE_TEXT)))
        case "lose":
            child.attrib.clear()
        case "swallow":
            # Siblings become children: what is known stands where nobody expects it.
            parent.remove(child)
            if len(parent):
                parent[0].append(child)
        case _:
            parent.append(ET.fromstring("<novel a='1'><deeper><novel/></deeper></novel>"))  # noqa: S314 - our own


def _writable(text: str) -> str:
    """XML 1.0 has no way to write most control characters; those of C1 and the rest stay."""
    return "".join(character for character in text if character >= " " and character not in "\ufffe\uffff")
