"""What a view may never say, whatever is broken: rules on rows of its HTTP API and the truth. No I/O and no clock.

**Down.** A view that has applied a frame with a VM in its present run must not say that it is Down, nor leave it out,
until that run is over. A view that was not told of the run yet may say what was true before; it cannot know better.
What frames were applied, the ages of the rows say: they are never too young (promise V7). A life whose end no agent saw
is no evidence any more: its host tells that it is over, and not that the VM has migrated (rule R21 in docs/view.md).

**Lost.** A host may be lost only if its own agent, machine or link was what was broken, for as long as silence takes to
be proved, or is just coming back. Trouble of the broker or of the view is no host's fault (promise V9).

**Owner.** A VM has one row and one owner, and that is a host that has it or has had it (promise V4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vmpulse_consumers.view.host import LOST_S
from vmpulse_consumers.view.view import GRACE_S
from vmpulse_contract.values import STATUS_LABELS, VmStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from benches.chaos.fates import Fates, Life
    from vmpulse_simulator.truth import Seen

WRONG_DOWN: Final = "wrong_down"
WRONG_LOST: Final = "wrong_lost"
DOUBLE_OWNER: Final = "double_owner"
DOWN: Final = STATUS_LABELS[VmStatus.DOWN]
LOST: Final = "lost"
SLACK_S: Final = 1.0
"""A frame is evidence of a life that began so long before it was looked at: ages are rounded to 0.1 s on the wire."""
EARLY_S: Final = 4.0
"""A silence may have begun so long before the fault: a tick, and a second for a frame that was late."""
BACK_S: Final = GRACE_S
"""So long after all has healed a host may still be on its way back: what the view itself allows for that."""


class Wrong(NamedTuple):
    """Something that a view must not say. ``rule`` is one of the three above; ``subject`` a VM or a host."""

    rule: str
    subject: str
    said: str
    truth: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: said {self.said}; in truth {self.truth}"


class Span(NamedTuple):
    """From when to when a host was broken by itself; ``healed`` is None while it is."""

    broken: float
    healed: float | None = None


class Judge:
    """Judges one view, over all its restarts.

    Args:
        fates: the truth, kept up to date by others.
        zero: what is wrong is told with times since then.
    """

    def __init__(self, fates: Fates, zero: float = 0.0) -> None:
        self._fates = fates
        self._zero = zero
        self._told: dict[str, float] = {}
        """By host, as of when the present view was told what is active there."""
        self._spans: dict[str, list[Span]] = {}

    # --- what happens -------------------------------------------------------------------------------------------

    def view_ended(self) -> None:
        """What the view was told is gone with it; the next one may be told less."""
        self._told.clear()

    def broken(self, hosts: Iterable[str], at: float) -> None:
        """These hosts, or their ways to the broker, are broken from now on."""
        for host in hosts:
            self._spans.setdefault(host, []).append(Span(at))

    def healed(self, at: float) -> None:
        """Whatever was broken is whole again."""
        for spans in self._spans.values():
            spans[:] = [span if span.healed is not None else Span(span.broken, at) for span in spans]

    # --- what is said -------------------------------------------------------------------------------------------

    def hosts(self, rows: Iterable[Mapping[str, Any]], at: float) -> Iterator[Wrong]:
        """Judge all hosts, as answered at *at*."""
        for row in rows:
            host = str(row.get("host"))
            if row.get("state") == LOST and not self._may_be_lost(host, at):
                yield Wrong(WRONG_LOST, host, f"lost, silent for {row.get('silent_s')} s", self._health(host))

    def vms(self, rows: Sequence[Seen]) -> Iterator[Wrong]:
        """Judge a walk over all VMs. Each row is stamped with when it was asked for, or a moment before."""
        walked: dict[str, str] = {}
        for _, row in rows:
            vm, host = str(row.get("id")), str(row.get("host"))
            if vm in walked:
                yield Wrong(DOUBLE_OWNER, vm, f"one row on {walked[vm]}, another on {host}", self._run(vm))
            walked[vm] = host
            if host not in self._fates.places.get(vm, ()):
                yield Wrong(DOUBLE_OWNER, vm, f"on {host}", f"never there; {self._run(vm)}")
            if row.get("status") == DOWN and self._known_active(vm):
                yield Wrong(WRONG_DOWN, vm, f"{DOWN} on {host}, age {row.get('age_s')} s", self._run(vm))
        for vm in self._fates.runs.keys() - walked.keys():
            if self._known_active(vm):
                yield Wrong(WRONG_DOWN, vm, "nothing, it is not listed", self._run(vm))
        self._take_note(rows)

    def claims(self, vm: str, row: Mapping[str, Any]) -> Iterator[Wrong]:
        """Judge the claims on one VM."""
        owners = [str(claim.get("host")) for claim in row.get("claims") or () if claim.get("owner")]
        if len(owners) > 1:
            yield Wrong(DOUBLE_OWNER, vm, f"owned by {' and '.join(owners)}", self._run(vm))

    # --- rules --------------------------------------------------------------------------------------------------

    def _known_active(self, vm: str) -> bool:
        """Whether the view was told of the VM's present run."""
        return any(map(self._was_told_of, self._fates.runs.get(vm, {}).values()))

    def _was_told_of(self, life: Life) -> bool:
        return self._told.get(life.host, float("-inf")) >= life.began + SLACK_S

    def _take_note(self, rows: Sequence[Seen]) -> None:
        """Only after the walk was judged: a page is not judged by what the view was told after it."""
        for at, row in rows:
            age, host = row.get("age_s"), str(row.get("host"))
            if isinstance(age, int | float):
                self._told[host] = max(at - age, self._told.get(host, float("-inf")))

    def _may_be_lost(self, host: str, at: float) -> bool:
        return any(
            at >= span.broken + LOST_S - EARLY_S and (span.healed is None or at <= span.healed + BACK_S)
            for span in self._spans.get(host, ())
        )

    # --- words --------------------------------------------------------------------------------------------------

    def _run(self, vm: str) -> str:
        run = self._fates.runs.get(vm)
        if not run:
            return "not active"
        lives = (f"on {life.host} since {self._since(life.began)}{self._evidence(life)}" for life in run.values())
        return f"active {', '.join(lives)}"

    def _evidence(self, life: Life) -> str:
        told = self._told.get(life.host)
        return " (the view was told nothing of it)" if told is None else f" (told as of {self._since(told)})"

    def _health(self, host: str) -> str:
        spans: Collection[Span] = self._spans.get(host, ())
        if not spans:
            return "nothing was broken there"
        last = max(spans)
        until = "now" if last.healed is None else self._since(last.healed)
        return f"broken from {self._since(last.broken)} to {until}"

    def _since(self, at: float) -> str:
        return f"{at - self._zero:.1f} s"
