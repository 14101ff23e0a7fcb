"""The time that really passes, whatever a test does to the clocks of its process.

freezegun and its like put a stopped clock in the place of ``time.monotonic``, in every module that
refers to it; an event loop that goes by it waits for ever. They leave ``time.clock_gettime`` alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

__all__ = ["monotonic", "new_event_loop"]

if sys.platform == "win32":

    def monotonic(_real: Callable[[], float] = time.monotonic) -> float:
        """Return seconds that never stop, or go back."""
        return _real()

else:

    def monotonic() -> float:
        """Return seconds that never stop, or go back."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop that goes by `monotonic`."""
    loop = asyncio.new_event_loop()
    if isinstance(loop, asyncio.BaseEventLoop):  # others, such as uvloop's, have their own clock
        loop.time = monotonic  # type: ignore[method-assign]
    return loop
