"""An answer that comes later.

A call that waits is answered in the turn of the loop in which what it waits for happens: unlike a
future, a `Pending` needs no turn of its own and no task, and those turns are what a batch's way
through the daemon would mostly consist of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Pending"]

T = TypeVar("T")


class Pending(Generic[T]):
    """One outcome, a value or an error, told to one listener once.

    Args:
        forget: Called when nobody is interested any more: it was resolved, failed or cancelled.
    """

    __slots__ = ("_forget", "_listener", "_outcome", "_timer", "done")

    def __init__(self, forget: Callable[[], None] | None = None) -> None:
        self.done = False
        self._forget = forget
        self._listener: Callable[[], None] | None = None
        self._outcome: Callable[[], T] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def resolve_in(self, wait_s: float, otherwise: T) -> None:
        """Resolve it with ``otherwise`` when the time is up."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait_s, self.resolve, otherwise)

    def resolve(self, value: T) -> None:
        """Give the value; whatever comes after the first outcome is ignored."""
        self._end(lambda: value)

    def fail(self, error: BaseException) -> None:
        """Give an error instead of a value."""

        def throw() -> T:
            raise error

        self._end(throw)

    def cancel(self) -> None:
        """Wait no more; the listener is not told."""
        self._listener = None
        self.fail(asyncio.CancelledError())

    def result(self) -> T:
        """Return the value, or raise the error."""
        assert self._outcome is not None
        return self._outcome()

    def then(self, listener: Callable[[], None]) -> None:
        """Call back once there is an outcome, at once if it is there."""
        if self.done:
            listener()
        else:
            self._listener = listener

    async def wait(self) -> T:
        """Wait for the outcome in a coroutine."""
        arrived = asyncio.Event()
        self.then(arrived.set)
        try:
            await arrived.wait()
        finally:
            self.cancel()
        return self.result()

    def _end(self, outcome: Callable[[], T]) -> None:
        if self.done:
            return
        self.done = True
        self._outcome = outcome
        listener, self._listener = self._listener, None
        forget, self._forget = self._forget, None
        if self._timer is not None:
            self._timer.cancel()
        if forget is not None:
            forget()
        if listener is not None:
            listener()
