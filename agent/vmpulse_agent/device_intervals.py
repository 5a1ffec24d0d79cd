"""The intervals of one VM's rates: the newest, and those that were said and may still get lost. No I/O and no clock.

An interval begins where the one that was said before it ended, and only then. One that never came to the broker goes
into the one that follows, if that can still be said: into the newest, or into one that may still get lost itself. Where
the one that follows has come, nothing that is still to be said touches the lost one: it stays untold, and no interval
claims its time. So whatever is lost and learnt in whatever order, rates are always those of exactly their interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vmpulse_agent.device_rates import begun_anew, followed, joined

if TYPE_CHECKING:
    from vmpulse_agent.device_rates import Interval
    from vmpulse_agent.hypervisor import DeviceCounters

UNSETTLED: Final = 16
"""Messages of one VM of which nobody knows yet whether they came.

The link stops saying things when a confirm is 6 s overdue, and in 6 s there are a report, three balloon records, and
the repeats of what got lost. So more of them are a fault elsewhere, which must cost rates and not memory: the oldest
is taken for one that came.
"""


class VmIntervals:
    """Of one VM, from its first sample on."""

    def __init__(self, now: DeviceCounters, at_s: float) -> None:
        self.newest = followed(None, now, at_s)
        """It ends with the newest sample of the VM."""
        self._over = False
        """Whether the newest has been said: the next sample begins another."""
        self._unsettled: dict[int, Interval] = {}
        """What messages said, by their numbers, with what was lost before it. A message may repeat another's."""

    def follow(self, now: DeviceCounters, at_s: float) -> None:
        """Take in one more sample, which begins another interval if this one has been said."""
        before = begun_anew(self.newest) if self._over else self.newest
        self.newest, self._over = followed(before, now, at_s), False
        if (self.newest.token, self.newest.begun_us) != (before.token, before.begun_us):
            # Another life, or a time that went back: nothing of before can go into what is said from now on.
            self._unsettled.clear()

    def said(self, number: int) -> None:
        """The message of this number says the newest interval, which ends with it."""
        # One that has come already may be said again, but it cannot get lost any more.
        if not self._over or self.newest in self._unsettled.values():
            self._unsettled[number] = self.newest
        self._over = True
        if len(self._unsettled) > UNSETTLED:
            self.told(min(self._unsettled))

    def told(self, number: int) -> None:
        """The message has come: its interval is over for good, also where others repeat it."""
        came = self._unsettled.pop(number, None)
        if came is not None:
            self._unsettled = {number: one for number, one in self._unsettled.items() if one != came}

    def lost(self, number: int) -> None:
        """The message never came: what it said is said again with what follows, unless another message brings it."""
        lost = self._unsettled.pop(number, None)
        if lost is None or lost in self._unsettled.values():
            return
        if self._over and lost == self.newest:
            self._over = False
            return
        self._unsettled = {number: joined(lost, one) for number, one in self._unsettled.items()}
        self.newest = joined(lost, self.newest)
