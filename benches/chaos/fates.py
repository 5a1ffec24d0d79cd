"""What becomes of each VM in truth, as far as a view may be judged by it. No I/O and no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class Life(NamedTuple):
    """One life of a VM on one host. ``began``: on the clock of whoever asks."""

    host: str
    token: int
    began: float


class Listed(NamedTuple):
    """A VM that a host has; ``life`` is None while it is not active there."""

    vm: str
    host: str
    life: Life | None


class Fates:
    """The runs of all VMs: a run lasts as long as a VM is active anywhere, over all its migrations.

    ``runs``: by VM the lives of the run that goes on, by host the last there; a VM that is not active has none. Lives
    whose end no agent saw are not among them: who is told only that they are over takes that for the run's end.
    ``places``: by VM every host that ever had it.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Life]] = {}
        self.places: dict[str, set[str]] = {}
        self._present: dict[str, set[Life]] = {}
        self._ended: dict[str, dict[Life, float]] = {}
        """By VM the lives of the run that are over, and when their end was noted."""

    def note(self, everything: Iterable[Listed], unattended: Collection[str], at: float) -> None:
        """Take in all that the hosts have now. Call it after each change: what is not seen here has not been.

        Args:
            everything: all VMs on all hosts.
            unattended: the hosts that have no agent now.
            at: now.
        """
        before, self._present = self._present, self._take(everything)
        for vm in self.runs.keys() - self._present.keys():
            del self.runs[vm]
            self._ended.pop(vm, None)
        for vm, lives in self._present.items():
            gone_on = before.get(vm, set())
            if not lives & gone_on:
                self.runs[vm], self._ended[vm] = {}, {}  # nothing of what was there goes on: another run
            else:
                self._ended[vm] |= dict.fromkeys(gone_on - lives, at)
            self.runs[vm].update((life.host, life) for life in lives)
        self.unseen(unattended, at)

    def unseen(self, hosts: Collection[str], since: float) -> None:
        """No agent tells of the ends of lives on these hosts that were noted since then."""
        for vm, ended in self._ended.items():
            for life, at in ended.items():
                if life.host in hosts and at >= since and self.runs[vm].get(life.host) == life:
                    del self.runs[vm][life.host]

    def moving(self) -> list[str]:
        """The VMs that are active on more than one host."""
        return [vm for vm, lives in self._present.items() if len(lives) > 1]

    def _take(self, everything: Iterable[Listed]) -> dict[str, set[Life]]:
        present: dict[str, set[Life]] = {}
        for vm, host, life in everything:
            self.places.setdefault(vm, set()).add(host)
            if life is not None:
                present.setdefault(vm, set()).add(life)
        return present
