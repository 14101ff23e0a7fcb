"""One timer for many deadlines.

Deadlines come and go far more often than one is reached. So whoever keeps many has a single timer
at the earliest, and leaves it where it is when that one goes: a timer that is early costs one look.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Ring once, at the earliest moment that was asked for since it last rang.

    Args:
        ring: Called then; it asks for the deadline that is the earliest now.
        now: Returns the seconds that moments are counted in.
    """

    __slots__ = ("_now", "_ring", "_timer", "moment")

    def __init__(self, ring: Callable[[], None], now: Callable[[], float]) -> None:
        self.moment = math.inf
        """When it rings."""
        self._ring = ring
        self._now = now
        self._timer: asyncio.TimerHandle | None = None

    def by(self, moment: float) -> None:
        """Ring at this moment, or before."""
        if moment < self.moment:
            self.cancel()
            delay_s = max(0.0, moment - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._due)
            self.moment = moment

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.moment = None, math.inf

    def _due(self) -> None:
        self._timer, self.moment = None, math.inf
        self._ring()
