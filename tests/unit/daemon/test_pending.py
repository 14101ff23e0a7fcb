"""An answer that comes later: one outcome, told once, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from mock_mcp.daemon.pending import Pending

pytestmark = pytest.mark.asyncio


class Result:
    """Something that can be watched as it is forgotten."""


async def test_the_first_outcome_counts_and_is_told_once() -> None:
    told: list[str] = []
    forgotten: list[None] = []
    pending: Pending[str] = Pending(lambda: forgotten.append(None))
    pending.then(lambda: told.append(pending.result()))
    pending.resolve("first")
    pending.resolve("second")
    pending.fail(ValueError("third"))
    pending.cancel()
    assert (told, forgotten) == (["first"], [None])


async def test_who_asks_late_is_told_at_once() -> None:
    pending: Pending[int] = Pending()
    pending.fail(ValueError("no"))
    told: list[None] = []
    pending.then(lambda: told.append(None))
    assert told
    with pytest.raises(ValueError, match="no"):
        pending.result()


async def test_who_stopped_waiting_is_told_nothing() -> None:
    forgotten: list[None] = []
    pending: Pending[int] = Pending(lambda: forgotten.append(None))
    pending.then(lambda: pytest.fail("told"))
    pending.cancel()
    assert pending.done
    assert forgotten


async def test_a_coroutine_that_is_cancelled_waits_no_more() -> None:
    pending: Pending[int] = Pending()
    waiting = asyncio.create_task(pending.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pending.done


async def test_the_time_that_it_had_keeps_nothing() -> None:
    otherwise = Result()
    kept = weakref.ref(otherwise)
    pending: Pending[Result | None] = Pending()
    pending.resolve_in(3600, otherwise)
    pending.resolve(None)
    del otherwise
    gc.collect()
    assert kept() is None, "the timer of an hour is still set"
