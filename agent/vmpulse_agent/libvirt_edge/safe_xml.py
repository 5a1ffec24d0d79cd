"""XML without its dangers: no DTD, no entities, bounded size and depth.

Element names keep their prefixes as written ("qemu:arg"): nothing here looks at namespaces, and a canonical form that
renamed prefixes would be no text a person recognises.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

XML_BYTES: Final = 1 << 20
"""A domain with 200 devices has about 0.1 MiB; what of it can be told is bounded by the contract besides."""
XML_DEPTH: Final = 100
"""Far beyond any domain; serialising is recursive, so depth must be bounded."""


class XmlRefused(ValueError):
    """The text is not XML that we read."""


def parse(text: str) -> Element:
    """Parse without ever resolving anything. Raises XmlRefused."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > XML_BYTES:
        msg = f"{len(raw)} bytes of XML; at most {XML_BYTES} are read"
        raise XmlRefused(msg)
    try:
        return _Builder().build(raw)
    except expat.ExpatError as error:
        msg = f"not well-formed: {error}"
        raise XmlRefused(msg) from error


class _Builder:
    """Expat's events to elements, and its refusals."""

    def __init__(self) -> None:
        self._tree = TreeBuilder()
        self._depth = 0
        parser = self._parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._tree.data
        parser.StartDoctypeDeclHandler = _refuse
        parser.EntityDeclHandler = _refuse
        parser.UnparsedEntityDeclHandler = _refuse
        parser.ExternalEntityRefHandler = _refuse

    def build(self, raw: bytes) -> Element:
        self._parser.Parse(raw, True)
        return self._tree.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > XML_DEPTH:
            msg = f"nested more than {XML_DEPTH} deep"
            raise XmlRefused(msg)
        self._tree.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._tree.end(tag)


def _refuse(*_: Any) -> NoReturn:
    msg = "it declares a document type or an entity"
    raise XmlRefused(msg)
