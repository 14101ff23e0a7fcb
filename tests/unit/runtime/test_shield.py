"""What is waited for goes on when the waiter is cancelled, and may then fail without a word."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from mock_mcp.runtime.shield import shielded

pytestmark = pytest.mark.asyncio


async def test_it_has_the_result():
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await shielded(asyncio.ensure_future(work())) == 7


async def test_it_raises_the_exception():
    async def work() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await shielded(asyncio.ensure_future(work()))


async def test_a_cancelled_waiter_leaves_it_to_go_on_and_fail_unheard(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.ERROR)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiter = asyncio.ensure_future(shielded(future))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert not future.done()
    future.set_exception(LookupError("gone"))
    await asyncio.sleep(0)
    del future
    gc.collect()
    assert caplog.messages == []


async def test_what_is_cancelled_itself_cancels_the_waiter():
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiter = asyncio.ensure_future(shielded(future))
    await asyncio.sleep(0)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
