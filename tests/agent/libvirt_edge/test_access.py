"""docs/access.md names every libvirt call of the agent with the access it needs, and none that changes anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import libvirt
import libvirt_qemu
import pytest

from tests.lab.private_libvirt import PrivateLibvirt, missing
from vmpulse_agent import libvirt_edge

PAGE: Final = Path(__file__).parents[3] / "docs" / "access.md"
SOURCES: Final = sorted(Path(libvirt_edge.__file__).parent.glob("*.py"))
CLASSES: Final = (libvirt.virConnect, libvirt.virDomain, libvirt.virDomainSnapshot, libvirt.virStream)  # type: ignore[attr-defined]
MODULES: Final = {"libvirt": libvirt, "libvirt_qemu": libvirt_qemu}
METHODS: Final = {name for kind in CLASSES for name in vars(kind) if not name.startswith("_")}
NOT_LIBVIRTS: Final = {"hostname": "of a URI", "info": "a section"}
"""Attributes of other things that are called like a method of libvirt's. None of these methods changes anything."""
WITHOUT_CHANGE: Final = {"guestInfo", "interfaceAddresses", "qemuAgentCommand", "domainXMLFromNative"}
"""What takes read-write access although it changes no domain: questions to guest agents, and the one that finds out."""
CALLS: Final[dict[str, Callable[[Any, Any], object]]] = {
    "openAuth": lambda connection, _: libvirt.openAuth(connection.getURI(), [[], None, None], libvirt.VIR_CONNECT_RO),
    "getAllDomainStats": lambda connection, _: connection.getAllDomainStats(0, 0),
    "domainListGetStats": lambda connection, domain: connection.domainListGetStats([domain], 0, 0),
    "listAllDomains": lambda connection, _: connection.listAllDomains(0),
    "lookupByUUID": lambda connection, domain: connection.lookupByUUID(domain.UUID()),
    "getCapabilities": lambda connection, _: connection.getCapabilities(),
    "getType": lambda connection, _: connection.getType(),
    "getVersion": lambda connection, _: connection.getVersion(),
    "getLibVersion": lambda connection, _: connection.getLibVersion(),
    "domainEventRegisterAny": lambda connection, _: connection.domainEventDeregisterAny(
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda *_: None, None)
    ),
    "controlInfo": lambda _, domain: domain.controlInfo(),
    "isPersistent": lambda _, domain: domain.isPersistent(),
    "state": lambda _, domain: domain.state(),
    "XMLDesc": lambda _, domain: domain.XMLDesc(0),
    "jobStats": lambda _, domain: domain.jobStats(),
    "diskErrors": lambda _, domain: domain.diskErrors(),
    "guestInfo": lambda _, domain: domain.guestInfo(0, 0),
    "interfaceAddresses": lambda _, domain: domain.interfaceAddresses(
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0
    ),
    "qemuAgentCommand": lambda _, domain: libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-ping"}', 1, 0),
    "domainXMLFromNative": lambda connection, _: connection.domainXMLFromNative("none", ""),
}


def table() -> dict[str, str]:
    """Call -> access, as the page says."""
    rows = re.findall(r"^\| `(\w+)` \| (none|read-only|read-write) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a call has two rows"
    return dict(rows)


def calls() -> set[str]:
    """Whatever the edge names of libvirt's functions and methods, called or only handed on."""
    return {name for path in SOURCES for name in _named(ast.parse(path.read_text(encoding="utf-8")))}


def _named(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            module = MODULES.get(node.value.id) if isinstance(node.value, ast.Name) else None
            function = getattr(module, node.attr, None)
            if node.attr in METHODS or (callable(function) and not isinstance(function, type)):
                yield node.attr


def test_page_names_each_call() -> None:
    """A call without a row, or a row without a call, is a mistake."""
    assert calls() - NOT_LIBVIRTS.keys() == table().keys()


def test_nothing_is_changed() -> None:
    """What takes read-write access are the questions to guest agents and the attempt whether they may be asked."""
    assert {call for call, access in table().items() if access == "read-write"} == WITHOUT_CHANGE


def test_secrets_are_never_asked_for() -> None:
    """No source names the flag that would put passwords into a domain's XML, and no module goes round these tests."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
    assert not [name for name, text in texts.items() if "libvirt.VIR_DOMAIN_XML_SECURE" in text]
    elsewhere = Path(libvirt_edge.__file__).parents[1].rglob("*.py")
    others = [path for path in elsewhere if path not in SOURCES]
    assert others
    assert not [
        path for path in others if re.search(r"^\s*(import|from) libvirt(_qemu)?\b", path.read_text(), re.MULTILINE)
    ]


@pytest.mark.lab
@pytest.mark.skipif(missing() is not None, reason=f"private libvirt: {missing()}")
@pytest.mark.timeout(60)
def test_daemon_grants_what_the_page_says() -> None:
    """On a read-only socket libvirt answers each call that the page calls read-only, and refuses all others."""
    with TemporaryDirectory(prefix="lv") as folder, PrivateLibvirt(Path(folder) / "n") as node:
        admin = libvirt.open(node.uri)
        admin.createXML(node.light_domain("a"))
        admin.close()
        connection = libvirt.open(node.uri_read_only)
        domain = connection.lookupByName("a")
        found = {
            call: "read-only" if _granted(work, connection, domain) else "read-write" for call, work in CALLS.items()
        }
        connection.close()
    said = table()
    assert found == {call: said[call] for call in found}
    assert {call for call, access in said.items() if access != "none"} == found.keys()


def _granted(work: Callable[[Any, Any], object], connection: object, domain: object) -> bool:
    try:
        work(connection, domain)
    except libvirt.libvirtError as error:
        return error.get_error_code() != libvirt.VIR_ERR_OPERATION_DENIED
    return True
