"""Control calls with ever more parked batches, and the memory they take."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

from websockets.asyncio.client import unix_connect

from bench.project import BenchProject, project, rss_mib, timed_ms
from bench.report import Row, Size
from mock_mcp import DaemonClient, Mock, connect
from mock_mcp.types import Claim

METADATA = {"notes": "x" * 2000}
FEW = 20
"""Parked batches of the reference: enough to claim each of them once."""

Times = dict[str, list[float]]


def rows(size: Size) -> Iterator[Row]:
    """Claim, provide, getStatus, listRuns; then memory."""
    calls = size.of(200, 10)
    depths = (1000, 10_000, 20_000, 50_000) if not size.smoke else (100,)
    with project() as place:
        found = asyncio.run(at_depths(place, depths, calls))
    few, _ = found[FEW]
    targets = {"claim": 1.5, "claim of a run": 1.5, "provide": 1.5, "getStatus": 1.5}
    for depth in depths:
        times, (taken_mib, json_mib) = found[depth]
        for call, values in times.items():
            name = f"{call}, {depth:,} parked"
            yield Row(name, values, f"{FEW} parked", few[call], "ms", targets.get(call))
        if depth <= 20_000:
            name = f"memory of {depth:,} parked, above idle"
            yield Row(name, [taken_mib], "their JSON", [json_mib], "MiB", 2)
    runs, each = (1000, 10) if not size.smoke else (20, 5)
    with project() as place:
        base = asyncio.run(with_runs(place, 10, each, calls))
        many = asyncio.run(with_runs(place, runs, each, calls))
    name = f"listRuns, {runs} runs x {each}"
    yield Row(name, many["listRuns"], f"10 runs x {each}", base["listRuns"], "ms", runs / 10)
    name = f"getStatus, {runs} runs x {each}"
    yield Row(name, many["getStatus"], f"10 runs x {each}", base["getStatus"], "ms", 1.5)


async def at_depths(
    place: BenchProject, depths: tuple[int, ...], calls: int
) -> dict[int, tuple[Times, tuple[float, float]]]:
    """Return, by depth, the milliseconds of each call, and the MiB taken and in their JSON."""
    info = place.daemon()
    found: dict[int, tuple[Times, tuple[float, float]]] = {}
    request = {"requestId": "r10000", "endpoint": "/u", "method": "GET", "metadata": METADATA}
    async with (
        DaemonClient.of(info) as control,
        connect(**place.options, timeout_s=None) as client,
    ):
        idle = rss_mib(info.pid)
        waiting: list[asyncio.Task[Mock]] = []
        for depth in (FEW, *depths):
            await park(client, control, waiting, depth)
            memory = rss_mib(info.pid) - idle, depth * len(json.dumps(request)) / 2**20
            times = {
                "getStatus": await timed_ms(calls, control.get_status),
                "listRuns": await timed_ms(calls, control.list_runs),
                "claim": await claims_ms(control, min(calls, depth), None),
                "claim of a run": await claims_ms(control, min(calls, depth), client.run_id),
                "provide": await provides_ms(control, min(calls, depth // 2)),
            }
            found[depth] = times, memory
            waiting = [task for task in waiting if not task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return found


async def park(client, control, waiting: list, depth: int) -> None:
    """Park batches of one request until so many wait."""
    while len(waiting) < depth:
        for _ in range(min(500, depth - len(waiting))):
            waiting.append(asyncio.create_task(client.request_mock("/u", metadata=METADATA)))
            for _ in range(2):  # so that each leaves in a batch of its own
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    while (await control.get_status()).pending < depth:
        await asyncio.sleep(0.05)


async def claims_ms(control: DaemonClient, calls: int, run_id: str | None) -> list[float]:
    held: list[Claim] = []

    async def claim() -> None:
        found = await control.claim_next_batch("bench", run_id=run_id)
        assert found is not None
        held.append(found)

    times = await timed_ms(calls, claim)
    for found in held:
        await control.release_batch("bench", found.batch_id, found.claim_token)
    return times


async def provides_ms(control: DaemonClient, calls: int) -> list[float]:
    """Time provides; each takes a batch away."""
    times: list[float] = []
    for _ in range(calls):
        claim = await control.claim_next_batch("answers")
        assert claim is not None
        mocks = [Mock(request["requestId"], 1) for request in claim.requests]
        times += await timed_ms(
            1,
            lambda claim=claim, mocks=mocks: control.provide_batch(
                "answers", claim.batch_id, claim.claim_token, mocks
            ),
        )
    return times


async def with_runs(place: BenchProject, runs: int, batches: int, calls: int) -> Times:
    """Return the milliseconds of calls while so many runs with parked batches are connected."""
    info = place.daemon()
    async with contextlib.AsyncExitStack() as stack, DaemonClient.of(info) as control:
        for run in range(runs):
            socket = await stack.enter_async_context(
                unix_connect(info.ipc_path, "ws://bench/test", compression=None)
            )
            hello = {"type": "HELLO_TEST", "token": info.token, "runId": f"r{run}", "pid": 1}
            await socket.send(json.dumps({**hello, "cwd": "/"}))
            for number in range(batches):
                request = {"requestId": f"q{number}", "endpoint": "/u", "method": "GET"}
                await socket.send(json.dumps({"type": "BATCH_MOCK_REQUEST", "requests": [request]}))
        while (await control.get_status()).pending < runs * batches:
            await asyncio.sleep(0.05)
        return {
            "listRuns": await timed_ms(calls, control.list_runs),
            "getStatus": await timed_ms(calls, control.get_status),
        }
