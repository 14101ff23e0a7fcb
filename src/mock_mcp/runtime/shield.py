"""Waiting for what goes on, though the one who waits is cancelled."""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["shielded"]

T = TypeVar("T")


async def shielded(future: asyncio.Future[T]) -> T:
    """Wait for a future and return its result, or raise its exception.

    Being cancelled does not cancel the future, and nobody hears of it then if it fails:
    `asyncio.shield` logs that as an error, from Python 3.14 on whoever else looks at it.
    """
    future.add_done_callback(_retrieve)
    await asyncio.wait((future,))
    return future.result()


def _retrieve(done: asyncio.Future[T]) -> None:
    if not done.cancelled():
        done.exception()
