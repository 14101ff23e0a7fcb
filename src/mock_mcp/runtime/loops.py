"""Event loops other than asyncio's: there the blocking side of a call runs in a thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["from_thread", "in_asyncio", "in_thread"]

T = TypeVar("T")


def in_asyncio() -> bool:
    """Tell whether the caller runs on an event loop of asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def in_thread(function: Callable[..., T], *args: object) -> T:
    """Run a function in a thread, from trio; a caller that is cancelled leaves it behind."""
    import anyio
    import anyio.to_thread

    # A limiter for each call: requests that wait for one batch must not queue for threads.
    return await anyio.to_thread.run_sync(
        function, *args, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
    )


def from_thread(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an async function on the loop that called `in_thread`, from its thread."""
    import anyio.from_thread

    return anyio.from_thread.run(function)
