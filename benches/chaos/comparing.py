"""Where a view differs from the truth of a fleet that is held still: its hosts first, then VM by VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmpulse_simulator.errors import ViewUnreachable
from vmpulse_simulator.truth import Mismatch, compare_hosts
from vmpulse_simulator.verdict import compare_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmpulse_simulator.truth import Truth
    from vmpulse_simulator.view_api import FleetReport, ViewApi


async def differences(truth: Truth, api: ViewApi, *, complete: bool) -> tuple[list[Mismatch], FleetReport | None]:
    """Compare once; gives what is wrong, and what the view says of itself if it was asked for everything.

    Args:
        truth: the truth.
        api: the view's.
        complete: tell all that is wrong; else VMs are not even asked for while hosts are wrong.
    """
    try:
        wrong = compare_hosts(truth, await api.hosts())
        if wrong and not complete:
            return wrong, None
        verdict = await compare_once(truth, api)
    except ViewUnreachable as error:
        return [Mismatch(vm, "the view", "an answer", str(error)) for vm in truth.vms], None
    return [*verdict.hosts, *verdict.vms, *vms_of(verdict.hosts, truth)], verdict.report


def vms_of(hosts: Sequence[Mismatch], truth: Truth) -> list[Mismatch]:
    """Nothing that is said of the VMs of a host can be relied on while the host itself is wrong."""
    wrong = {mismatch.subject: mismatch for mismatch in hosts}
    return [
        Mismatch(vm, f"host {true.host}", *wrong[true.host][2:]) for vm, true in truth.vms.items() if true.host in wrong
    ]
