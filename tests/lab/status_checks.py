"""What the lab checks of real guests' statuses and events: a reboot from inside, and a balloon."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from tests.lab.lab import TICK_S, CheckFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.checks import Bench
    from tests.lab.guests import Guest

REBOOTED_S: Final = 60.0
BALLOON_S: Final = 12.0
"""A host tells of balloons three times in a row, and then every 10 s."""
BALLOON_KIB: Final = 88 << 10


def _guest(bench: Bench) -> Guest:
    return next(iter(bench.guests.values()))


def a_reboot_shows_until_the_guest_is_back(bench: Bench) -> None:
    """A reboot from inside is RebootInProgress soon, for as long as the guest is away, and Up when it is back."""
    guest, lab = _guest(bench), bench.lab
    lab.until("the guest agent is connected", lambda: guest.agent_connected, REBOOTED_S)
    lab.until("it is Up", lab.status_is(guest.uuid, "Up"), REBOOTED_S)
    tombstones = len(lab.host().get("tombstones", []))
    with ThreadPoolExecutor(1) as pool:
        back = pool.submit(guest.reboot)
        lab.until("RebootInProgress", lab.status_is(guest.uuid, "RebootInProgress"), TICK_S)
        back.result()
    lab.until("Up again", lab.status_is(guest.uuid, "Up"), REBOOTED_S)
    if len(lab.host().get("tombstones", [])) != tombstones:
        raise CheckFailed("a reboot left a tombstone")


def a_balloon_shows_early(bench: Bench) -> None:
    """What the guest gives back shows in the view's device statistics long before the next report."""
    guest = _guest(bench)
    whole_kib = guest.domain.info()[1]
    for kib in (BALLOON_KIB, whole_kib):
        guest.domain.setMemory(kib)
        seconds = bench.lab.until(f"the balloon has {kib} KiB", _balloon_is(bench, guest, kib), BALLOON_S)
        bench.say(f"      balloon of {kib} KiB shown after {seconds:.1f} s")


def _balloon_is(bench: Bench, guest: Guest, kib: int) -> Callable[[], bool]:
    def holds() -> bool:
        found: dict[str, Any] = bench.lab.api.get(f"/api/v1/vms/{guest.uuid}/devices").json()
        return bool(found.get("deviceStats", {}).get("balloonInfo", {}).get("balloon_cur") == kib)

    return holds


GUEST_CHECKS: Final = (a_reboot_shows_until_the_guest_is_back, a_balloon_shows_early)
