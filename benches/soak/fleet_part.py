"""What a view says of the simulated hosts alone: the truth of a fleet knows no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches.soak.domains import HOST
from vmpulse_simulator.view_api import ViewApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from vmpulse_simulator.truth import Seen


class FleetPart(ViewApi):
    """A view's API without the host that is real."""

    async def hosts(self) -> list[dict[str, Any]]:
        """All hosts but the real one."""
        return [row for row in await super().hosts() if row.get("host") != HOST]

    async def vms(self, *, sections: bool = True) -> AsyncIterator[list[Seen]]:
        """All VMs but those of the real host."""
        async for page in super().vms(sections=sections):
            yield [seen for seen in page if seen.row.get("host") != HOST]

    async def rows_of_real_host(self) -> list[dict[str, Any]]:
        """The others."""
        return [dict(seen.row) async for page in super().vms() for seen in page if seen.row.get("host") == HOST]
