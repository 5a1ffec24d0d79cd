"""The rows of VMs as JSON text: byte for byte what ``view.rows.vm_row`` gives one by one.

What the text needs is taken out of the view at once, so that it is of one moment, and written afterwards, some rows at
a time, while the view goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from vmpulse_consumers.http.census import FRESHNESS
from vmpulse_consumers.http.text_columns import filled, hex_digits, id_column, json_column, rows_of, woven
from vmpulse_consumers.view.host import WIDTH
from vmpulse_consumers.view.names import name_in
from vmpulse_consumers.view.rows import sections_in, vm_row
from vmpulse_consumers.view.runtime import UNKNOWN_8
from vmpulse_contract.sections import ABSENT, BODIED, Section
from vmpulse_contract.values import STATUS_LABELS, VmStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from vmpulse_consumers.http.census import Census
    from vmpulse_consumers.view.ownership import Vm

ROWS_A_PIECE: Final = 1000
"""They take a millisecond."""
WITH_SECTIONS_A_PIECE: Final = 50
"""Sections are decoded and written one by one, so that a row takes some 20 us."""

_LABELS: Final = [STATUS_LABELS.get(code, STATUS_LABELS[VmStatus.UNKNOWN]) for code in range(256)]
_STATES: Final = [
    b'","status":"%b","freshness":"%b"' % (label.encode(), kind.encode()) for label in _LABELS for kind in FRESHNESS
]
"""By status and freshness."""
_MEMORY: Final = [b"" if value == UNKNOWN_8 else b',"memUsage":%d' % value for value in range(256)]
_HASHES: Final = b',"hashes":{' + b",".join(b'"%b":"%b"' % (each.label.encode(), b"0" * 16) for each in Section) + b"}"
_DIGITS_AT: Final = [_HASHES.index(b'"%b":"' % each.label.encode()) + len(each.label) + 4 for each in Section]
_INFO, *_OTHERS = (b'"%b":"%b"' % (section.label.encode(), b"0" * 16) for section in Section)
_ABSENT: Final = (*(b"," + other for other in _OTHERS), _INFO + b",", _INFO, b',"hashes":{}')
"""What is to be cut out where a hash is ABSENT, which is 0, in this order."""
_END: Final = b"}"


def vm_rows(found: Census, moving: Mapping[int, list[Vm]], *, with_sections: bool = False) -> Iterator[bytes]:
    """Look at VMs now, and write their rows, in their order, whenever the next ones are asked for.

    Each row has a comma before it.

    Args:
        found: those that have an owner.
        moving: those in transit that stand before the one with that number, or with its length behind the last.
        with_sections: whether rows carry their sections.
    """
    view, now = found.view, found.now
    texts = {at: b"".join(b"," + _encoded(vm_row(view, now, vm)) for vm in vms) for at, vms in moving.items()}
    return _Rows(found, texts, with_sections=with_sections).pieces()


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


class _Rows:
    """What is said of some VMs; nothing in it changes with the view.

    ``moving``: rows that stand before the one with that number, and one behind the last, each with a comma before it.
    """

    def __init__(self, found: Census, moving: dict[int, bytes], *, with_sections: bool) -> None:
        self.vms = found.vms
        self.moving = moving
        self.host = found.host.tolist()
        self.hosts = [b'","host":"%b' % host.id.encode() for host in found.hosts]
        self.state = found.status().astype(np.intp) * len(FRESHNESS) + found.freshness()
        self.age = np.round(found.age(), 3)
        self.cpu_user, self.cpu_sys = found.cpu_user(), found.cpu_sys()
        self.memory = found.view.runtime.mem_usage[found.at]
        self.elapsed = np.round(found.elapsed(), 3)
        self.hashes = found.announced()
        self.repairing = _repairing(self.hashes, found.held())
        self.infos = found.kept(Section.INFO)
        self.split = frozenset(found.view.split)
        self.sections = list(zip(*map(found.kept, BODIED), strict=True)) if with_sections else None
        self.details = [host.details for host in found.hosts]
        self.odd = self._find_odd()

    def _find_odd(self) -> NDArray[np.bool_]:
        """Which rows do not end with all hashes and nothing else."""
        if self.sections is not None:
            return np.ones(len(self.vms), np.bool_)
        odd: NDArray[np.bool_] = (self.hashes == ABSENT).any(axis=1)
        odd[list(self.repairing)] = True
        odd[[at - 1 for at in self.moving if at]] = True
        odd[[at for at, vm in enumerate(self.vms) if vm in self.split] if self.split else []] = True
        return odd

    def pieces(self) -> Iterator[bytes]:
        """Write all rows, some at a time."""
        if self.moving.get(0):
            yield self.moving[0]
        size = ROWS_A_PIECE if self.sections is None else WITH_SECTIONS_A_PIECE
        for first in range(0, len(self.vms), size):
            yield self._text(slice(first, first + size))

    def _text(self, rows: slice) -> bytes:
        return woven(
            id_column(self.vms[rows], b',{"id":"'),
            [self.hosts[number] for number in self.host[rows]],
            [_STATES[state] for state in self.state[rows].tolist()],
            json_column(list(map(name_in, self.infos[rows])), b',"name":'),
            json_column(self.age[rows].tolist(), b',"age_s":'),
            json_column(self.cpu_user[rows].tolist(), b',"cpuUser":'),
            json_column(self.cpu_sys[rows].tolist(), b',"cpuSys":'),
            [_MEMORY[value] for value in self.memory[rows].tolist()],
            json_column(self.elapsed[rows].tolist(), b',"elapsedTime":'),
            self._end_column(rows),
        )

    def _end_column(self, rows: slice) -> list[bytes]:
        """The hashes, and what few VMs have or only some lists say, up to the end of each row."""
        hashes = self.hashes[rows]
        digits = hex_digits(hashes.astype(">u8").tobytes(), 16 * WIDTH)
        text = filled(_HASHES + _END, len(hashes))
        for section, at in zip(Section, _DIGITS_AT, strict=True):
            text[:, at : at + 16] = digits[:, 16 * section : 16 * (section + 1)]
        column = rows_of(text)
        for at in np.flatnonzero(self.odd[rows]).tolist():
            column[at] = self._end(rows.start + at, column[at])
        return column

    def _end(self, at: int, usual: bytes) -> bytes:
        """The end of one row that is not as most are."""
        text = usual.removesuffix(_END)
        for absent in _ABSENT:
            text = text.replace(absent, b"")
        if at in self.repairing:
            text += b',"repairing":' + _encoded(self.repairing[at])
        if self.vms[at] in self.split:
            text += b',"splitBrain":true'
        if self.sections is not None:
            text += b',"sections":' + _encoded(sections_in(self._bodies(at, self.sections[at])))
        return text + _END + self.moving.get(at + 1, b"")

    def _bodies(self, at: int, kept: Sequence[bytes | None]) -> list[bytes | None]:
        """The bodies of one row as they were sent: those of all at once may be as much as a host may have."""
        details = self.details[self.host[at]]
        return [
            details.unpack(body) if body is not None and section is Section.GUEST_DETAILS else body
            for section, body in zip(BODIED, kept, strict=True)
        ]


def _repairing(announced: NDArray[np.uint64], held: NDArray[np.uint64]) -> dict[int, list[str]]:
    """Which rows have sections whose announced hash is not held, and which sections."""
    unheld = (announced != held) & (announced != ABSENT)
    found: dict[int, list[str]] = {}
    for row, section in np.argwhere(unheld[:, BODIED]).tolist():
        found.setdefault(row, []).append(BODIED[section].label)
    return found
