"""Opening one connection, with credentials where the daemon asks for some. Everything here blocks: for lanes only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final

import libvirt

from vmpulse_agent.libvirt_edge.complaints import Refusal
from vmpulse_agent.libvirt_edge.options import LibvirtOptions

# Not VIR_CRED_USERNAME, for whom to act in SASL: who offers it is asked for it, by auth files as well.
_OFFERED: Final = (libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE)
_RESULT: Final = 4
_GIVEN, _NOT_GIVEN = 0, -1


class Opener:
    """Opens one connection, and remembers what the daemon asked for: libvirt's errors do not tell.

    One for each opening, as several threads may be opening at once. The password is read anew from its file each time,
    and only if it is asked for. So it can be changed while we run, and it is nowhere kept. An auth file that the URI or
    libvirt's own configuration names is read by libvirt, and only through ``openAuth``; what stands there is not asked
    for.
    """

    def __init__(self, options: LibvirtOptions) -> None:
        self._options = options
        self._asked = False
        self._given = False
        self._unreadable: Exception | None = None

    @property
    def refusal(self) -> Refusal:
        """What the opening was asked for."""
        return Refusal(self._asked, self._given, self._unreadable)

    def open(self, *, read_only: bool) -> libvirt.virConnect:
        """Open it. Raises libvirtError."""
        flags = libvirt.VIR_CONNECT_RO if read_only else 0
        return libvirt.openAuth(self._options.uri, [[*_OFFERED], self._answer, None], flags)

    def _answer(self, wanted: list[list[Any]], _opaque: object) -> int:
        """Fill in what libvirt wants to know. It must not raise: the binding would print a traceback."""
        self._asked = True
        try:
            for credential in wanted:
                credential[_RESULT] = self._value(credential[0])
        except (OSError, ValueError) as error:
            self._unreadable = error
        self._given = self._unreadable is None and all(credential[_RESULT] for credential in wanted)
        return _GIVEN if self._given else _NOT_GIVEN

    def _value(self, kind: int) -> str | None:
        if kind == libvirt.VIR_CRED_AUTHNAME:
            return self._options.user or None
        file = self._options.password_file
        return None if file is None else file.read_text(encoding="utf-8").rstrip("\r\n")


def close_each(connections: Iterable[libvirt.virConnect]) -> None:
    """Close them; one that is broken is closed as well."""
    for connection in connections:
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()
