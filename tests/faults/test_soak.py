"""A hundred batches a second, for as long as one likes: nothing grows."""

from __future__ import annotations

import asyncio
import faulthandler
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.control.client import DaemonClient
from support.place import Place, descriptors
from support.responder import Responder
from support.stress import pick

RATE = 100
WARM_UP = 1500
"""Batches after which everything that is remembered is full: more than ENDED_BATCHES."""
BATCHES = pick(1000, 60_000)
PACED = pick(False, True)
AT_ONCE = 20
SLOPE_MIB = 1.0
"""Growth allowed for every 10 000 batches; a short run is allowed as much in all."""


def memory_kib(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


async def ask(client: Any, number: int) -> None:
    endpoints = [f"/{number + n}" for n in range(AT_ONCE)]
    mocks = await asyncio.gather(*(client.request_mock(each, body="x" * 200) for each in endpoints))
    assert [mock.data for mock in mocks] == endpoints


@pytest.mark.asyncio
async def test_nothing_grows(place: Place, measured: Callable[..., None]) -> None:
    if PACED:
        faulthandler.cancel_dump_traceback_later()  # it takes as long as a test may that hangs
    info = await asyncio.to_thread(place.start)
    async with place.connect(max_batch_size=1) as client, DaemonClient.of(info) as control:
        serving = asyncio.create_task(Responder(control).serve())
        for number in range(0, WARM_UP, AT_ONCE):
            await ask(client, number)
        before = memory_kib(info.pid), descriptors(info.pid), descriptors()
        samples: list[int] = []
        began = time.monotonic()
        for number in range(0, BATCHES, AT_ONCE):
            if PACED:
                await asyncio.sleep(began + number / RATE - time.monotonic())
            await ask(client, number)
            samples.append(memory_kib(info.pid) - before[0])
        took_s = time.monotonic() - began
        growth_mib = (memory_kib(info.pid) - before[0]) / 1024
        drift = descriptors(info.pid) - before[1], descriptors() - before[2]
        serving.cancel()
        await asyncio.wait({serving})
    assert drift == (0, 0)
    slope_mib = growth_mib / max(1.0, BATCHES / 10_000)
    assert slope_mib <= SLOPE_MIB, samples
    measured(
        batches=BATCHES,
        rate=BATCHES / took_s,
        growth_mib=growth_mib,
        mib_per_10_000=slope_mib,
        descriptor_drift=drift[0],
    )
