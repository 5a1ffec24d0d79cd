"""What an ingest bench has found, as its one line of JSON tells it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

RATIO_GOAL: Final = 1.15


class Report(Struct, frozen=True, kw_only=True):
    """The outcome of a run; medians over ``rounds``, whose ratios are in ``ratios``.

    - ``us_per_message``: user and system time of all threads of each reader's process, by reader: the view; aio-pika's
      own callback; the callback of the channel below aio-pika, which the view uses.
    - ``ratio_to_empty_callback``: the view's by that of aio-pika's callback; ``ratio_to_empty_channel``: by that of the
      cheaper one.
    - ``messages``: that each reader took in each round; ``mix``: how many of them by kind.
    - ``load_average``: of the machine over a minute, at the beginning.
    """

    hosts: int
    vms: int
    rounds: int
    messages: int
    mix: dict[str, int]
    us_per_message: dict[str, float]
    ratio_to_empty_callback: float
    ratio_to_empty_channel: float
    ratios: list[float]
    load_average: float
    goals_missed: tuple[str, ...]
