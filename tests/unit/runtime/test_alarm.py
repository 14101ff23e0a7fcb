"""One timer rings at the earliest of the deadlines it was told, once."""

from __future__ import annotations

import asyncio
import math

import pytest

from mock_mcp.runtime.alarm import Alarm

pytestmark = pytest.mark.asyncio


class Ringing:
    """An alarm on a clock that stands at 0, and the moments it was set to when it rang."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.count = 0
        self.alarm = Alarm(self.ring, lambda: 0.0)

    def ring(self) -> None:
        self.count += 1
        assert self.alarm.moment == math.inf
        self.rung.set()


async def test_the_earliest_moment_counts_in_whatever_order():
    ringing = Ringing()
    for moment in (7200.0, 0.001, 3600.0):
        ringing.alarm.by(moment)
    assert ringing.alarm.moment == 0.001
    await asyncio.wait_for(ringing.rung.wait(), 10)
    assert ringing.count == 1


async def test_it_can_be_set_again_as_it_rings():
    ringing = Ringing()
    ringing.alarm.by(-1.0)  # gone by, and so at once
    await asyncio.wait_for(ringing.rung.wait(), 10)
    ringing.rung.clear()
    ringing.alarm.by(0.001)
    await asyncio.wait_for(ringing.rung.wait(), 10)
    assert ringing.count == 2


async def test_what_never_comes_sets_no_timer():
    ringing = Ringing()
    ringing.alarm.by(math.inf)
    assert ringing.alarm._timer is None


async def test_it_does_not_ring_once_cancelled():
    ringing = Ringing()
    ringing.alarm.by(0.0)
    ringing.alarm.cancel()
    assert ringing.alarm.moment == math.inf
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not ringing.rung.is_set()
