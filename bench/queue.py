"""Control calls with ever more parked batches, and the memory they take."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

from websockets.asyncio.client import unix_connect

from bench.project import BenchProject, project, rss_mib, timed_ms
from bench.report import Row, Size
from mock_mcp import BatchMockCollector, DaemonClient, Mock, connect
from mock_mcp.types import Claim

METADATA = {"notes": "x" * 2000}
REQUEST = {"requestId": "r10000", "endpoint": "/u", "method": "GET", "metadata": METADATA}
FEW = 20
"""Parked batches of the reference: more than are claimed in one turn."""
TURN = 10
"""Calls of a kind before it is the other daemon's turn."""

Times = defaultdict[str, list[float]]
"""Milliseconds of each call, by its kind."""


def rows(size: Size) -> Iterator[Row]:
    """Claim, provide, getStatus, listRuns; then memory."""
    calls = size.of(200, 10)
    depths = (1000, 10_000, 20_000, 50_000) if not size.smoke else (100,)
    with project() as many, project() as few:
        yield from asyncio.run(at_depths(many, few, depths, calls))
    runs, each = (1000, 10) if not size.smoke else (20, 5)
    with project() as place:
        base = asyncio.run(with_runs(place, 10, each, calls))
        many_runs = asyncio.run(with_runs(place, runs, each, calls))
    name = f"listRuns, {runs} runs x {each}"
    yield Row(name, many_runs["listRuns"], f"10 runs x {each}", base["listRuns"], "ms", runs / 10)
    name = f"getStatus, {runs} runs x {each}"
    yield Row(name, many_runs["getStatus"], f"10 runs x {each}", base["getStatus"], "ms", 1.5)


async def at_depths(
    many: BenchProject, few: BenchProject, depths: tuple[int, ...], calls: int
) -> list[Row]:
    """Compare a daemon with ever more parked batches with one that has few, in turns."""
    found: list[Row] = []
    targets = {"claim": 1.5, "claim of a run": 1.5, "provide": 1.5, "getStatus": 1.5}
    async with Parked.at(many) as filled, Parked.at(few) as reference:
        idle = rss_mib(filled.pid)
        for depth in depths:
            await filled.park(depth)
            taken_mib = rss_mib(filled.pid) - idle
            ours, theirs = Times(list), Times(list)
            for _ in range(calls // TURN):
                for parked, least, times in ((filled, depth, ours), (reference, FEW, theirs)):
                    await parked.park(least)
                    await parked.measure(times)
            for call, values in ours.items():
                name = f"{call}, {depth:,} parked"
                found.append(
                    Row(name, values, f"{FEW} parked", theirs[call], "ms", targets.get(call))
                )
            if depth <= 20_000:
                name = f"memory of {depth:,} parked, above idle"
                json_mib = depth * len(json.dumps(REQUEST)) / 2**20
                found.append(Row(name, [taken_mib], "their JSON", [json_mib], "MiB", 2))
    return found


class Parked:
    """A daemon, and a run whose batches of one request wait there."""

    def __init__(self, pid: int, control: DaemonClient, client: BatchMockCollector) -> None:
        self.pid = pid
        self._control = control
        self._client = client
        self._waiting: list[asyncio.Task[Mock]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, place: BenchProject) -> AsyncIterator[Parked]:
        """Connect to a project's daemon."""
        info = place.daemon()
        async with (
            DaemonClient.of(info) as control,
            connect(**place.options, timeout_s=None) as client,
        ):
            parked = cls(info.pid, control, client)
            yield parked
            for task in parked._waiting:
                task.cancel()
            await asyncio.gather(*parked._waiting, return_exceptions=True)

    async def park(self, depth: int) -> None:
        """Park batches until so many wait."""
        waiting = self._waiting
        while len(waiting) < depth:
            for _ in range(min(500, depth - len(waiting))):
                asked = self._client.request_mock("/u", metadata=METADATA)
                waiting.append(asyncio.create_task(asked))
                for _ in range(2):  # so that each leaves in a batch of its own
                    await asyncio.sleep(0)
            await asyncio.sleep(0.01)
        while (await self._control.get_status()).pending < depth:
            await asyncio.sleep(0.05)

    async def measure(self, times: Times) -> None:
        """Time some calls of each kind; each provide takes a batch away."""
        control = self._control
        times["getStatus"] += await timed_ms(TURN, control.get_status)
        times["listRuns"] += await timed_ms(TURN, control.list_runs)
        times["claim"] += await self._claims_ms(None)
        times["claim of a run"] += await self._claims_ms(self._client.run_id)
        times["provide"] += await self._provides_ms()
        while sum(task.done() for task in self._waiting) < TURN:
            await asyncio.sleep(0.01)  # an answer is acknowledged before its task is woken
        self._waiting = [task for task in self._waiting if not task.done()]

    async def _claims_ms(self, run_id: str | None) -> list[float]:
        held: list[Claim] = []

        async def claim() -> None:
            found = await self._control.claim_next_batch("bench", run_id=run_id)
            assert found is not None
            held.append(found)

        times = await timed_ms(TURN, claim)
        for found in held:
            await self._control.release_batch("bench", found.batch_id, found.claim_token)
        return times

    async def _provides_ms(self) -> list[float]:
        times: list[float] = []
        for _ in range(TURN):
            claim = await self._control.claim_next_batch("answers")
            assert claim is not None
            mocks = [Mock(request["requestId"], 1) for request in claim.requests]
            times += await timed_ms(
                1,
                lambda claim=claim, mocks=mocks: self._control.provide_batch(
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
        times = Times(list)
        times["listRuns"] += await timed_ms(calls, control.list_runs)
        times["getStatus"] += await timed_ms(calls, control.get_status)
        return times
