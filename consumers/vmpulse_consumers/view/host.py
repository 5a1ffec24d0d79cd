"""One host in the view: its state, its confirmed epoch, the roster held, and the sections held of its VMs."""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from vmpulse_consumers.view.allowance import Allowance
from vmpulse_consumers.view.budget import HELD_BYTES, Budget
from vmpulse_consumers.view.claims import ClaimState
from vmpulse_consumers.view.details import Details
from vmpulse_consumers.view.devices import Devices
from vmpulse_consumers.view.states import HEARD, TABLE, HostInput, HostState, step
from vmpulse_contract import columns, limits, sections
from vmpulse_contract.sections import ABSENT, BODIED, Section
from vmpulse_contract.stream import HostFacts, pack_roster

if TYPE_CHECKING:
    from collections.abc import Collection

    from vmpulse_consumers.view.bodies import Bodies
    from vmpulse_consumers.view.events import Trouble
    from vmpulse_consumers.view.runtime import Block
    from vmpulse_contract.identity import HostId, VmId
    from vmpulse_contract.stream import HostValues, Roster, Tombstone
    from vmpulse_contract.verbs import Verb

WIDTH: Final = len(Section)
LOST_S: Final = 15.0
"""After so long a silence nobody knows what a host's VMs do."""
SLACK_S: Final = 1.0
"""A tick may come so late before it counts as missed: a busy host's look takes up to this long."""
RETIRED_KEPT: Final = 16
"""Retired epochs remembered for each host: one agent restart a minute for a quarter of an hour."""
CLOCK_SLIP_S: Final = 0.5
"""A frame may seem to come from so little in the future: the offset carries the drift margin."""
REMEASURE_S: Final = 300.0
SLOW_S: Final = 1.0
REMEASURE_SLOW_S: Final = 10.0
"""A measure that took longer than SLOW_S makes every age look as much too old; it is soon made again."""
REQUESTS_S: Final = 5.0
REQUESTS_BURST: Final = 50.0
"""What a host is asked: a roster, three sections in some parts each, and then no faster than it may say new things."""
STILL_SHOWN: Final = float("inf")
"""``Host.spoke_at`` of a host that is only remembered, until ``hide_memory``."""
DRIFT: Final = 200e-6
"""Margin for clocks that run apart: twice what a common crystal may drift (100 ppm)."""


class Request(NamedTuple):
    """A question to put to a host. ``vms`` empty: all. ``sent_at`` is when it was handed out; ages count from it."""

    host: HostId
    verb: Verb
    vms: tuple[VmId, ...]
    number: int
    sent_at: float


class Host:
    """What the view holds of one host.

    ``announced`` and ``held`` are hashes, four for each VM in layout and Section order; ``bodies`` goes with ``held``,
    guestDetails as ``details`` packs them. A held hash is never without its body (promise V5). ``seq`` is the last one
    applied of ``epoch``. ``section_as_of`` goes with ``announced``: as of when each hash was last said.
    ``heard_at`` is when anything of the host came, ``spoke_at`` when the confirmed epoch did. ``parting``: the
    provisional epoch has said goodbye. ``unproved``: the claims on active VMs that were not seen running here yet, MET
    or BEGUN; all others follow from the roster. ``owned``: of how many VMs that it lists it is the owner.
    ``provisional``: the last epoch heard that is not confirmed, since ``provisional_at``. ``told_heard``: what
    subscribers know of ``heard``; ``told_at``: when an operator was last told of what. ``budget``: of what it says;
    ``asked``: of what it is asked. ``held_bytes``: of ``bodies``, unpacked; ``alone``: what a VM has for claims that
    only this host lists, one object for all of them; ``crowded``: announced sections whose bodies do not fit in it,
    not asked for until there is room.
    """

    __slots__ = (
        "alone",
        "announced",
        "asked",
        "block",
        "bodies",
        "budget",
        "confirmed_at",
        "crowded",
        "details",
        "devices",
        "digest",
        "elapsed",
        "epoch",
        "facts",
        "frame_ms",
        "frame_seq",
        "heard_at",
        "held",
        "held_bytes",
        "host_stats",
        "id",
        "in_flight",
        "index",
        "layout",
        "messages",
        "offset",
        "offset_at",
        "owned",
        "packed_vms",
        "parting",
        "provisional",
        "provisional_at",
        "provisional_seq",
        "queued",
        "remeasure_at",
        "reply_as_of",
        "retired",
        "retries",
        "retry_at",
        "roster_as_of",
        "roster_ms",
        "section_as_of",
        "seq",
        "since",
        "spoke_at",
        "state",
        "tokens",
        "told_at",
        "told_heard",
        "tombstones",
        "unproved",
        "vms",
        "want_clock",
        "want_roster",
    )

    def __init__(self, host: HostId, block: Block, now: float) -> None:
        self.id = host
        self.alone: tuple[Host, ...] = (self,)
        self.state = HostState.UNKNOWN
        self.since = now
        self.heard_at = now
        self.spoke_at = float("-inf")
        self.messages = 0
        self.facts = HostFacts()
        self.epoch = 0
        self.seq = 0
        self.confirmed_at = float("-inf")
        self.provisional = 0
        self.provisional_at = now
        self.provisional_seq = 0
        self.parting = False
        self.retired: deque[int] = deque(maxlen=RETIRED_KEPT)
        self.layout = self.roster_as_of = self.roster_ms = 0
        self.vms: list[VmId] = []
        self.owned = 0
        self.index: dict[VmId, int] = {}
        self.packed_vms = b""
        self.tokens: array[int] = array("Q")
        self.elapsed: list[int | None] = []
        self.tombstones: tuple[Tombstone, ...] = ()
        self.announced: array[int] = array("Q")
        self.held: array[int] = array("Q")
        self.bodies: list[bytes | None] = []
        self.details = Details()
        self.held_bytes = 0
        self.crowded: set[tuple[VmId, Section]] = set()
        self.section_as_of: array[int] = array("Q")
        self.reply_as_of = 0
        self.devices = Devices()
        self.host_stats: HostValues | None = None
        self.digest: int | None = None
        self.unproved: dict[VmId, ClaimState] = {}
        self.told_heard = False
        self.block = block
        self.frame_seq = 0
        self.frame_ms: int | None = None
        self.offset: float | None = None
        self.offset_at = 0.0
        self.remeasure_at = 0.0
        self.want_clock = self.want_roster = False
        self.queued = False
        self.in_flight: Request | None = None
        self.retries, self.retry_at = 0, 0.0
        self.budget = Budget(now)
        self.asked = Allowance(REQUESTS_S, REQUESTS_BURST, now)
        self.told_at: dict[Trouble, float] = {}

    # --- state --------------------------------------------------------------------------------------------------

    def given(self, event: HostInput, now: float) -> bool:
        """Step the state machine. Tells whether the state has changed. Raises IllegalTransition."""
        new = step(TABLE, self.state, event)
        changed = new is not self.state
        if changed:
            self.state, self.since = new, now
        return changed

    @property
    def confirmed(self) -> bool:
        """Whether a roster fetched by rpc has been applied for the epoch that is held."""
        return self.epoch != 0

    @property
    def remembered(self) -> bool:
        """Whether all that is shown of it is what a view before this one has kept, and no agent has been confirmed."""
        return self.state is HostState.SYNCING and not self.confirmed

    def named(self, name: str) -> bool:
        """Whether *name* means this host: by its id, its FQDN or its UUID, in any case."""
        wanted = name.casefold()
        # Compared where it is present only: an absent fact is like no name, not even an empty one.
        return any(wanted == fact.casefold() for fact in (self.id, self.facts.fqdn, self.facts.host_uuid) if fact)

    def claim_state(self, vm: VmId) -> ClaimState:
        """How the host's word on a VM stands."""
        row = self.index.get(vm)
        if row is None:
            return ClaimState.NONE
        return self.unproved.get(vm, ClaimState.RUNNING) if self.tokens[row] else ClaimState.DOWN

    def admit(self, seq: int) -> int | None:
        """Take the next stream message of the confirmed epoch.

        Gives how many messages are missing before it, or None for a repeat. A gap is only noted: digests decide.
        """
        if seq <= self.seq:
            return None
        missing = seq - self.seq - 1 if self.seq else 0
        self.seq = seq
        return missing

    def adopt(self, epoch: int, now: float) -> bool:
        """Make *epoch* the confirmed one. Tells whether it is another than before."""
        self.confirmed_at = now
        if epoch == self.epoch:
            return False
        if self.epoch:
            self.retired.append(self.epoch)
        if epoch in self.retired:
            self.retired.remove(epoch)
        self.epoch = epoch
        # Stream messages of this epoch seen so far were passed over; what they said is in the roster or in a digest.
        self.seq = self.provisional_seq if epoch == self.provisional else 0
        self.provisional = self.provisional_seq = 0
        self.parting = False
        self.section_as_of = _nothing(len(self.vms))
        self.reply_as_of = self.frame_seq = self.roster_as_of = 0
        self.frame_ms = self.offset = self.host_stats = None
        self.devices.clear()
        return True

    # --- time ---------------------------------------------------------------------------------------------------

    def heard(self, now: float) -> bool:
        """Whether what is held of the host may be said of it now (promise V6).

        After a goodbye the last values stand as long as a silent host's would.
        """
        if self.state is HostState.STOPPED:
            return now - self.since < LOST_S
        if self.state is HostState.SYNCING:
            # What the epoch before said is not made young again by a new one that nobody has confirmed.
            return now - self.spoke_at < LOST_S
        return self.state in HEARD

    def hide_memory(self) -> None:
        """Silence is proved for so long that what was remembered of the host may be said no more."""
        if self.remembered:
            self.spoke_at = float("-inf")

    def measure(self, monotonic_ms: int, sent_at: float, now: float) -> None:
        """Take in one measure of the agent's clock: its reading, in a reply to what we asked at *sent_at*.

        The offset is our clock at the asking less the agent's time, so it errs by at most one round trip, on the side
        of too old. The best measure stands, less a margin for drift (promise V7).
        """
        measured = sent_at - monotonic_ms / 1000
        kept = float("-inf") if self.offset is None else self.offset - DRIFT * (now - self.offset_at)
        self.offset, self.offset_at, self.want_clock = max(measured, kept), now, False
        self.remeasure_at = now + (REMEASURE_S if now - sent_at < SLOW_S else REMEASURE_SLOW_S)

    def frame_age(self, now: float) -> float | None:
        """Seconds since the agent made the last frame applied; None before that or before the clock was measured."""
        return None if self.frame_ms is None else self.age(self.frame_ms, now)

    def age(self, monotonic_ms: int, now: float) -> float | None:
        """Seconds since a moment of the confirmed epoch, by the agent's clock; None before that was measured.

        A frame from the future means that our own clock stood still (a suspended machine): the measure is void then.
        """
        if self.offset is None:
            return None
        age = now - self.offset - monotonic_ms / 1000
        return None if age < -CLOCK_SLIP_S else max(0.0, age) + DRIFT * max(0.0, now - self.offset_at)

    # --- sections -----------------------------------------------------------------------------------------------

    def replace_roster(self, roster: Roster, as_of: int, named: Collection[VmId] | None = None) -> None:
        """Take in a roster. *named*: the VMs of which a difference spoke, silent on all others; None: it came whole.

        Of the announced hashes the newer wins for each VM and section. Bodies held stay with their VM, unless it began
        another life; one whose hash differs now is shown until its repair.
        """
        old = _Sections(self.index, self.tokens, self.announced, self.section_as_of, self.held, self.bodies)
        vms = roster.vm_ids()
        self.vms, self.packed_vms, self.index = vms, roster.vms, {vm: row for row, vm in enumerate(vms)}
        self.tokens, self.announced = roster.start_tokens(), roster.announced()
        self.held, self.bodies = _nothing(len(vms)), [None] * (WIDTH * len(vms))
        self.section_as_of, self.digest = array("Q", [as_of]) * (WIDTH * len(vms)), None
        if named is not None or max(old.as_of, default=0) > as_of:
            self._keep_newer(as_of, old, named)
        for vm in self.index.keys() & old.rows.keys():
            self._carry(vm, old)
        self.held_bytes -= sum(self._size(at % WIDTH, kept) for at, kept in enumerate(old.bodies) if kept is not None)
        if not any(self.bodies[Section.GUEST_DETAILS :: WIDTH]):
            self.details = Details()
        self._make_room()
        self.layout, self.roster_ms, self.roster_as_of = roster.layout, roster.monotonic_ms, as_of
        self.elapsed, self.facts, self.tombstones = roster.elapsed(), roster.facts, roster.tombstones
        for vm in old.rows.keys() - self.index.keys():
            self.devices.drop(vm)

    def _keep_newer(self, as_of: int, old: _Sections, named: Collection[VmId] | None) -> None:
        """Of the VMs that are listed still, keep the hashes that were said later, and all of which nothing was said."""
        for vm in self.index.keys() & old.rows.keys():
            row, was = self.index[vm] * WIDTH, old.rows[vm] * WIDTH
            if named is not None and vm not in named:
                # Of these a difference has the hashes that were announced before.
                self.section_as_of[row : row + WIDTH] = old.as_of[was : was + WIDTH]
                continue
            for section in Section:
                if old.as_of[was + section] > as_of:
                    self.announced[row + section] = old.announced[was + section]
                    self.section_as_of[row + section] = old.as_of[was + section]

    def roster(self) -> Roster:
        """The roster as it is held: what was announced since is in it."""
        return pack_roster(
            layout=self.layout,
            monotonic_ms=self.roster_ms,
            facts=self.facts,
            vms=self.vms,
            tokens=self.tokens,
            elapsed_ms=self.elapsed,
            hashes=columns.to_bytes("Q", self.announced),
            tombstones=self.tombstones,
        )

    def _carry(self, vm: VmId, old: _Sections) -> None:
        """Move the bodies held of a VM from its old row to its new one."""
        row, was = self.index[vm], old.rows[vm]
        if self.tokens[row] != old.tokens[was]:
            return
        for section in BODIED:
            at, before = row * WIDTH + section, was * WIDTH + section
            if self.announced[at] == ABSENT and not self.tokens[row]:
                continue  # of a life whose rosters were all lost: an inactive VM has no such section
            self.held[at], self.bodies[at] = old.held[before], old.bodies[before]
            old.bodies[before] = None

    def announce(self, vm: VmId, section: Section, value: int, as_of: int) -> bool:
        """Take in what the host says a hash is, as of *as_of*. Tells whether that is the newest word on it."""
        row = self.index.get(vm)
        if row is None:
            return False
        at = row * WIDTH + section
        if as_of < self.section_as_of[at]:
            return False
        if self.announced[at] != value:
            self.announced[at], self.digest = value, None
            self.crowded.discard((vm, section))
        self.section_as_of[at] = as_of
        return True

    def hold(self, vm: VmId, section: Section, value: int, body: bytes, bodies: Bodies) -> bool:
        """Store a hash together with its body, which the caller has checked against it (promise V5).

        Tells whether there was room: if not, what was held stays, and the new body is not asked for until there is.
        """
        at = self.index[vm] * WIDTH + section
        before = self.bodies[at]
        growth = len(body) - (0 if before is None else self._size(section, before))
        if growth > 0 and self.held_bytes + growth > HELD_BYTES:
            self.crowded.add((vm, section))
            return False
        kept = self.details.pack(body) if section is Section.GUEST_DETAILS else bodies.shared(value, body)
        self.held[at], self.bodies[at] = value, kept
        self.held_bytes += growth
        if growth < 0:
            self._make_room()
        return True

    def body(self, row: int, section: Section) -> bytes | None:
        """Give the body held of a section of the VM in a row, as it was sent."""
        kept = self.bodies[row * WIDTH + section]
        return self.details.unpack(kept) if kept is not None and section is Section.GUEST_DETAILS else kept

    def _size(self, section: int, kept: bytes) -> int:
        """How long a body was that is kept so."""
        return len(self.details.unpack(kept) if section == Section.GUEST_DETAILS else kept)

    def _make_room(self) -> None:
        """Ask again for what did not fit, once the largest body would."""
        if self.crowded and self.held_bytes + limits.BODY_BYTES.maximum <= HELD_BYTES:
            self.crowded.clear()
        elif self.crowded:
            self.crowded = {key for key in self.crowded if key[0] in self.index}

    def unheld(self, section: Section) -> list[VmId]:
        """The VMs whose announced hash of *section* is present and not held: what a repair asks for."""
        announced, held = self.announced[section::WIDTH], self.held[section::WIDTH]
        missing = [vm for vm, said, have in zip(self.vms, announced, held, strict=True) if said not in (ABSENT, have)]
        return [vm for vm in missing if (vm, section) not in self.crowded] if self.crowded else missing

    def own_digest(self) -> int:
        """The digest over what we think the host has announced."""
        if self.digest is None:
            self.digest = sections.digest(self.packed_vms, columns.to_bytes("Q", self.announced))
        return self.digest


class _Sections(NamedTuple):
    """The section state that a roster replaces."""

    rows: dict[VmId, int]
    tokens: array[int]
    announced: array[int]
    as_of: array[int]
    held: array[int]
    bodies: list[bytes | None]


def _nothing(vms: int) -> array[int]:
    """Zeros for each section of so many VMs."""
    return array("Q", bytes(8 * WIDTH * vms))
