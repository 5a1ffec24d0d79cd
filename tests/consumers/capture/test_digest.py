"""The digest at a capture's end goes over all that the view says of hosts and VMs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.consumers.capture.histories import recording
from tests.consumers.view.back_to_back import Table
from vmpulse_consumers.capture.digest import digest
from vmpulse_consumers.view import Host, View
from vmpulse_consumers.view.claims import ClaimState
from vmpulse_contract.sections import Section
from vmpulse_contract.values import VmStatus


def whole() -> Table:
    """A host whose VMs, sections and devices the view has."""
    table, _ = recording()
    for _ in range(4):
        table.step()
    # A report tells what has become since the first sample.
    for _ in range(2):
        table.step()
        table.host.report_devices(table.now)
    table.step()
    table.assert_equal()
    return table


def host_of(view: View) -> Host:
    """The one host."""
    (host,) = view.hosts.values()
    return host


def running(view: View) -> tuple[Host, int]:
    """The host, and the row of a VM that runs on it."""
    host = host_of(view)
    return host, next(row for row, token in enumerate(host.tokens) if token)


def lose_devices(view: View) -> None:
    """Device statistics of one VM are not held."""
    host, row = running(view)
    assert host.devices.of(host.vms[row], host.tokens[row]) is not None
    host.devices.drop(host.vms[row])


def announce_another(view: View) -> None:
    """Another hash is announced, and its body not held."""
    host_of(view).announced[Section.INFO] ^= 1


def hold_another(view: View) -> None:
    """Another body is held."""
    host_of(view).held[Section.CONFIG] ^= 1


def claim_less(view: View) -> None:
    """A VM has no claims."""
    next(iter(view.vms.values())).claims = ()


def prove_less(view: View) -> None:
    """A claim is not proved."""
    host, row = running(view)
    host.unproved[host.vms[row]] = ClaimState.BEGUN


def own_nothing(view: View) -> None:
    """A VM has no owner."""
    next(iter(view.vms.values())).owner = None


def split(view: View) -> None:
    """A VM is a split brain."""
    vm = next(iter(view.vms.values()))
    view.split[vm.id] = vm


def say_otherwise(view: View) -> None:
    """A VM has another status."""
    view.runtime.status[host_of(view).block.start] = VmStatus.PAUSED


def hear_later(view: View) -> None:
    """The host was heard a moment later."""
    host_of(view).heard_at += 0.001


def live_longer(view: View) -> None:
    """A VM has begun at another time."""
    host, row = running(view)
    host.elapsed[row] = 1


CHANGES = (
    lose_devices,
    announce_another,
    hold_another,
    claim_less,
    prove_less,
    own_nothing,
    split,
    say_otherwise,
    hear_later,
    live_longer,
)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_differs_gives_another_digest(change: Callable[[View], None]) -> None:
    """128 bits, the same for the same state, and another one for each change alone."""
    view = whole().view
    before = digest(view)
    assert len(bytes.fromhex(before)) == 16
    assert digest(whole().view) == before
    change(view)
    assert digest(view) != before
