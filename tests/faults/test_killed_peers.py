"""Adapters are killed while they hold claims, test processes while they wait."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mock_mcp.control.client import DaemonClient
from support.daemons import DaemonProcess, ServedDaemon
from support.nursery import Nursery
from support.place import Place
from support.responder import Responder, until
from support.stress import STRESS, pick
from support.ws import request

KILLED_ADAPTERS = pick(10, 500)
KILLED_TESTS = pick(6, 200)
LEASE_MS = 60
GRACE_S = 0.3

ADAPTER = """
import asyncio
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.serving.claims import Claims
from mock_mcp.serving.router import Router

def child(cache, name, lease_ms):
    async def hold():
        claims = Claims(Router(CacheDirectory(cache), None), name)
        found = await claims.claim_next(lease_ms=lease_ms, wait_s=30)
        say(claimed=found.claim.batch_id, until=found.claim.lease_until)
        await asyncio.sleep(3600)
    asyncio.run(hold())
"""
TEST = """
import threading
import mock_mcp

def child(project, cache, run_id, requests, fork):
    client = mock_mcp.connect_sync(project_root=project, cache_dir=cache, run_id=run_id,
                                   enabled=True, timeout_s=None, max_batch_size=1)
    say(connected=run_id)
    for n in range(requests):
        threading.Thread(target=client.request_mock, args=(f"/{n}",), daemon=True).start()
    if fork and not os.fork():
        say(forked=True)
    signal.pause()
"""


@pytest.mark.asyncio
async def test_a_killed_adapter_s_claim_ends_with_its_lease(
    place: Place, rng: random.Random, measured: Callable[..., None]
) -> None:
    late_ms: list[float] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(place.connect())
        control = await stack.enter_async_context(DaemonClient.of(place.start()))
        adapters = stack.enter_context(Nursery(place.cache_dir, ADAPTER))
        responder = Responder(control)
        for number in range(KILLED_ADAPTERS):
            asked = asyncio.create_task(client.request_mock(f"/{number}"))
            adapter = await asyncio.to_thread(
                adapters.fork, cache=str(place.cache_dir), name=f"a{number}", lease_ms=LEASE_MS
            )
            held = await asyncio.to_thread(adapter.hear, "claimed")
            await asyncio.sleep(rng.uniform(0, LEASE_MS / 2000))
            adapter.kill()
            claim = await responder.claim()
            late_ms.append(time.time() * 1000 - held["until"])
            assert claim.batch_id == held["claimed"]
            assert [entry.outcome for entry in claim.history] == ["expired"]
            assert await responder.provide(claim)
            assert (await asked).data == f"/{number}"
    measured(
        kills=len(late_ms), median_delay_ms=statistics.median(late_ms), longest_ms=max(late_ms)
    )


@pytest.mark.asyncio
@pytest.mark.skipif(not STRESS, reason="takes 45 s; MOCK_MCP_STRESS=1 runs it")
async def test_a_claim_that_was_kept_renewed_ends_30_s_after_its_adapter(
    place: Place, measured: Callable[..., None]
) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(place.connect(max_batch_size=1))
        control = await stack.enter_async_context(DaemonClient.of(place.start()))
        adapters = stack.enter_context(Nursery(place.cache_dir, ADAPTER))
        responder = Responder(control)
        asked = [asyncio.create_task(client.request_mock(f"/{n}")) for n in range(20)]
        held = [
            adapters.fork(cache=str(place.cache_dir), name=f"a{n}", lease_ms=None)
            for n in range(20)
        ]
        for adapter in held:
            await asyncio.to_thread(adapter.hear, "claimed")
        await asyncio.sleep(12)  # each has renewed its lease once
        killed_at = time.monotonic()
        for adapter in held:
            adapter.kill()
        delays_s = []
        for _ in held:
            async with asyncio.timeout(60):
                while not (await control.wait_for_batch(30_000)).pending:
                    pass
            claim = await responder.claim()
            delays_s.append(time.monotonic() - killed_at)
            await responder.provide(claim)
        await asyncio.gather(*asked)
    measured(kills=20, median_delay_s=statistics.median(delays_s), longest_s=max(delays_s))


def others(daemon: ServedDaemon) -> Any:
    return [
        batch
        for batch in daemon.control.call("listBatches")["batches"]
        if batch["runId"] == "other"
    ]


@pytest.mark.parametrize("fork", [False, True], ids=["alone", "with a fork that lives on"])
def test_a_killed_test_s_batches_go_after_the_grace_period(
    place: Place,
    start_daemon: Callable[..., ServedDaemon],
    rng: random.Random,
    measured: Callable[..., None],
    fork: bool,
) -> None:
    daemon = start_daemon(grace_s=GRACE_S)
    bystander = daemon.attach("other", capabilities=["ack", "resume", "errors"])
    bystander.submit([request("mine")])
    bystander.settle()
    before = others(daemon)
    over_s: list[float] = []
    parked = 0
    with Nursery(place.cache_dir, TEST) as tests:
        for number in range(KILLED_TESTS // 2):
            run_id = f"killed-{number}"
            test = tests.fork(
                project=str(place.root),
                cache=str(place.cache_dir),
                run_id=run_id,
                requests=3,
                fork=fork,
            )
            test.hear("connected")
            if fork:
                test.hear("forked")
            time.sleep(rng.uniform(0, 0.03))
            found = daemon.control.call("listBatches", runId=run_id)["batches"]
            parked += len(found)
            test.kill()
            killed_at = time.monotonic()
            while run_id in {run["runId"] for run in daemon.control.call("listRuns")["runs"]}:
                over = time.monotonic() - killed_at - GRACE_S
                assert over < 10, "the killed test's run is still there"
                time.sleep(0.005)
            over_s.append(time.monotonic() - killed_at - GRACE_S)
            assert others(daemon) == daemon.control.call("listBatches")["batches"] == before
    claim = daemon.control.claim()
    daemon.control.provide(claim, [{"requestId": "mine", "data": 1}])
    assert bystander.recv()["mocks"] == [{"requestId": "mine", "data": 1}]
    assert parked
    measured(kills=len(over_s), batches=parked, longest_after_grace_s=max(over_s))


@pytest.mark.asyncio
@pytest.mark.skipif(not STRESS, reason="takes 12 s; MOCK_MCP_STRESS=1 runs it")
async def test_twenty_killed_at_once_with_the_grace_period_of_every_day(
    place: Place,
    daemon_process: DaemonProcess,
    measured: Callable[..., None],
) -> None:
    with Nursery(place.cache_dir, TEST) as tests:
        killed = [
            tests.fork(
                project=str(place.root),
                cache=str(place.cache_dir),
                run_id=f"killed-{number}",
                requests=3,
                fork=False,
            )
            for number in range(20)
        ]
        for test in killed:
            test.hear("connected")
        control = daemon_process.control
        for test in killed:
            test.kill()
        killed_at = time.monotonic()

        async def gone() -> bool:
            return not control.call("listRuns")["runs"]

        await until(gone)
    measured(kills=20, gone_after_s=time.monotonic() - killed_at)
