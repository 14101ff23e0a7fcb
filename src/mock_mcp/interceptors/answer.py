"""Ask an exchange, and wait as long as its answer says: never longer than the client would."""

from __future__ import annotations

import time

from mock_mcp.exchange import (
    Exchange,
    FailureKind,
    HttpRequest,
    HttpResponse,
    Send,
    SendAsync,
    TransportFailure,
)
from mock_mcp.runtime.loops import from_thread, in_asyncio, in_thread

__all__ = ["answer", "answer_async", "wait"]


def answer(
    exchange: Exchange, request: HttpRequest, timeout_s: float | None, send: Send
) -> HttpResponse:
    """Return the answer to a request after its delay.

    Args:
        exchange: Who answers; the time it takes is not counted.
        request: What is asked.
        timeout_s: The client's read timeout; None means none.
        send: Asks the real server.

    Raises:
        TransportFailure: The exchange says so, or the delay is longer than the timeout.
    """
    response = exchange.handle(request, send)
    if response.delay_s > 0:
        wait(response.delay_s, timeout_s)
    return response


def wait(delay_s: float, timeout_s: float | None) -> None:
    """Wait for the delay of a response.

    Raises:
        TransportFailure: It is longer than the timeout, which has passed.
    """
    pause_s, times_out = _pause(delay_s, timeout_s)
    time.sleep(pause_s)
    if times_out:
        raise TransportFailure(FailureKind.READ_TIMEOUT)


async def answer_async(
    exchange: Exchange, request: HttpRequest, timeout_s: float | None, send: SendAsync
) -> HttpResponse:
    """Return the answer to a request after its delay, as `answer` does, without blocking the loop.

    On an event loop other than asyncio's (trio) the exchange's blocking side runs in a thread.
    """
    if not in_asyncio():
        return await in_thread(answer, exchange, request, timeout_s, lambda: from_thread(send))
    response = await exchange.handle_async(request, send)
    if response.delay_s > 0:
        import asyncio

        pause_s, times_out = _pause(response.delay_s, timeout_s)
        await asyncio.sleep(pause_s)
        if times_out:
            raise TransportFailure(FailureKind.READ_TIMEOUT)
    return response


def _pause(delay_s: float, timeout_s: float | None) -> tuple[float, bool]:
    if timeout_s is not None and delay_s > timeout_s:
        return max(timeout_s, 0.0), True
    return delay_s, False
