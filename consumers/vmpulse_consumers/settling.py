"""Keeps Python's collector of cyclic garbage off what a view holds for long.

A full collection looks at every object that can be part of a cycle, some twenty for each VM, and nothing else runs
meanwhile: 50 to 220 ms at 10,000 VMs, several times a minute when lists are read. What the view holds of hosts and VMs
is no garbage, and is freed by its reference counts when it goes. So it is set aside whenever it has grown by a quarter;
from then on full collections look only at what is newer. Setting aside takes no time, and it is rare: what of it is
garbage by then, or becomes a cycle that nobody refers to, stays for good.

What is newer grows with those who read: a full collection beside 500 event streams takes 60 ms, and such a number of
connections, made at once, brought on two of them. Cycles that live for long before they are garbage are hardly made:
eight full collections found ten objects. So they come a hundred times more seldom.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vmpulse_consumers.view import View

LOOK_S: Final = 1.0
GROWN: Final = 1.25
FEWEST: Final = 1000
"""VMs; fewer are looked at within some ms."""
FULL_EACH: Final = 1000
"""Collections of the middle generation for each full one at the earliest, where Python has 10. They come once a second
when much is read."""


class Settling:
    """Sets aside what one view holds, for the whole process.

    Args:
        view: the only one of the process.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._set_aside = FEWEST / GROWN
        """So many VMs there were the last time."""

    async def run(self) -> None:
        """Look again and again, for ever."""
        gc.set_threshold(*gc.get_threshold()[:2], FULL_EACH)
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> bool:
        """Set aside what there is if it has grown enough. Tells whether it has."""
        held = len(self._view.vms)
        if held < self._set_aside * GROWN:
            return False
        gc.freeze()
        self._set_aside = held
        return True
