"""What was done to the domains of a soak, and what that explains: where each is, and how it and its hashes may be."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import libvirt

from tests.lab.lab import HOST, PEER, CheckFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tests.lab.change_tap import Change
    from tests.lab.guests import Guest

AFTERMATH_S: Final = 75.0
"""How long a deed may still show: some of a guest's answers are renewed each minute, and told 3 s later."""
AT_REST: Final = frozenset({"Up"})
REASONS: Final = {
    "info": ("life",),
    "status": ("life", "vnc", "guest agent"),
    "guestDetails": ("life", "guest agent"),
}
"""Which deeds a section may change on; ``config`` goes by its hashes alone."""


class Subject(NamedTuple):
    """One domain of the soak."""

    name: str
    vm: str
    persistent: bool = True
    vnc: bool = False
    guest: Guest | None = None


class Diary:
    """Remembers what was done, and when.

    ``first`` has the configuration's hash of each VM as it was first seen; ``away`` the VMs that are on the second
    host; ``done`` counts.
    """

    def __init__(self) -> None:
        self.first: dict[str, str] = {}
        self.away: set[str] = set()
        self.done: Counter[str] = Counter()
        self._marks: dict[tuple[str, str], float] = {}
        self._states: dict[str, Collection[str]] = {}
        self._altering: set[str] = set()
        self._altered: defaultdict[str, set[str]] = defaultdict(set)

    def mark(self, vm: str, reason: str) -> None:
        """Something is done now that may change sections, see REASONS."""
        self._marks[vm, reason] = time.monotonic()

    def recent(self, vm: str, *reasons: str, at: float) -> bool:
        """Whether one of these was not long before."""
        return any(at - self._marks.get((vm, reason), float("-inf")) < AFTERMATH_S for reason in reasons)

    def host(self, vm: str) -> str:
        """Where it runs, unless it is just moving."""
        return PEER if vm in self.away else HOST

    def states(self, vm: str) -> Collection[str]:
        """What may be said of it now."""
        return self._states.get(vm, AT_REST)

    def busy(self) -> set[str]:
        """Those to whom something is being done."""
        return self._states.keys() | self._altering

    def config_may_be(self, vm: str, config: str | None) -> bool:
        """Whether its configuration may have this hash now; one that was altered on purpose is remembered."""
        if config is None:
            return vm in self._states
        if vm in self._altering and config != self.first[vm]:
            self._altered[vm].add(config)
        return config == self.first[vm] or vm in self._altering

    def explains(self, vm: str, change: Change) -> bool:
        """Whether something that was done to it makes such a change."""
        if change.section == "config":
            config = f"{change.new:016x}"
            return config == self.first[vm] or config in self._altered[vm]
        return self.recent(vm, *REASONS[change.section], at=change.at)

    @contextlib.contextmanager
    def deed(self, subject: Subject, what: str, states: Collection[str]) -> Iterator[None]:
        """In the block its life goes through these states. Raises CheckFailed if libvirt refuses."""
        self._states[subject.vm] = states
        self.mark(subject.vm, "life")
        with _counted(self.done, subject, what):
            yield
        self.mark(subject.vm, "life")
        del self._states[subject.vm]

    @contextlib.contextmanager
    def altering(self, subject: Subject, what: str) -> Iterator[None]:
        """In the block its configuration becomes another and the first again. Raises CheckFailed if libvirt refuses."""
        self._altering.add(subject.vm)
        with _counted(self.done, subject, what):
            yield
        self._altering.remove(subject.vm)

    @contextlib.contextmanager
    def trying(self, subject: Subject, what: str) -> Iterator[None]:
        """The block changes nothing that is told. Raises CheckFailed if libvirt refuses."""
        with _counted(self.done, subject, what):
            yield


@contextlib.contextmanager
def _counted(done: Counter[str], subject: Subject, what: str) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        raise CheckFailed(f"{what} of {subject.name}: {error}") from error
    done[what] += 1
