"""One batch from a test to a responder in another process and back.

The reference is a relay: a process in the middle that does nothing but pass bytes, between the same
three processes, over Unix sockets and asyncio streams. The bare relay passes the submit and the
result, as if a responder could answer at once; the other one passes every message that the protocol
asks for, each as large as it is: the claim, what it says, what is provided and its two receipts.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.project import SPAWN, BenchProject, cpu_ms, process, project, respond, serve, timed_ms
from bench.report import Row, Size
from mock_mcp import DaemonClient, connect
from mock_mcp.runtime.ipc import is_listening

Target = Callable[..., None]
METADATA = {"notes": "x" * 2000}
WARM = 20


@dataclass(frozen=True)
class Exchange:
    """Bytes of each message of a batch; 0 where there is none."""

    submit: int
    claimed: int
    provide: int
    result: int
    receipt: int = 0  # from the test
    provided: int = 0
    claim: int = 0

    @property
    def bare(self) -> Exchange:
        """The two messages that would do if the responder could answer at once."""
        return Exchange(self.submit, self.submit, self.result, self.result)


SMALL = Exchange(207, 379, 418, 142, 94, 297, 276)
"""A batch of one request."""
LARGE = Exchange(104_150, 104_320, 2430, 2153, 94, 2900, 276)
"""A batch of 50 requests with 2 KB of metadata each."""


def rows(size: Size) -> Iterator[Row]:
    """Latency, rate and the daemon's processor time."""
    turns = size.of(3, 1)
    rounds = size.of(1000, 30)
    with project() as place:
        for runs in (1, 8):
            each = max(10, rounds // runs)
            ours, bare, every = in_turns(
                turns,
                lambda runs=runs, each=each: through_daemon(place, runs, each, 1),
                lambda runs=runs, each=each: through_relay(runs, each, SMALL.bare),
                lambda runs=runs, each=each: through_relay(runs, each, SMALL),
            )
            name = f"round trip, 1 request, runs: {runs}"
            yield Row(name, ours.times, "bare relay", bare.times, "ms", 3)
            yield Row(name, ours.times, "relay of every message", every.times, "ms", 3)
            name += ", time a batch"
            yield Row(name, ours.overall, "bare relay", bare.overall, "ms", 3)
            yield Row(name, ours.overall, "relay of every message", every.overall, "ms", 3)
            yield Row(f"{name}, daemon's processor", ours.cpu, "time a batch", ours.overall)
        ours, bare = in_turns(
            turns,
            lambda: through_daemon(place, 1, rounds, 1, target=ask_itself),
            lambda: through_relay(1, rounds, SMALL.bare, target=exchange_with_itself),
        )
        name = "round trip, 1 request, responder in the test's process"
        yield Row(name, ours.times, "bare relay", bare.times)
        yield Row(f"{name}, daemon's processor", ours.cpu, "time a batch", ours.overall)
        each = size.of(100, 10)
        ours, bare, every = in_turns(
            turns,
            lambda: through_daemon(place, 1, each, 50),
            lambda: through_relay(1, each, LARGE.bare),
            lambda: through_relay(1, each, LARGE),
        )
        name = "round trip, 50 requests x 2 KB"
        yield Row(name, ours.times, "bare relay", bare.times, "ms", 3)
        yield Row(name, ours.times, "relay of every message", every.times, "ms", 3)
        yield Row("50 x 2 KB, daemon's processor", ours.cpu, "time a batch", ours.overall)


@dataclass
class Found:
    """Milliseconds of each round trip, of one overall, and of the daemon's processor for one."""

    times: list[float]
    overall: list[float]
    cpu: list[float] = field(default_factory=list)


def in_turns(turns: int, *works: Callable[[], Found]) -> list[Found]:
    """Run works again and again, one after the other; return what each found in all its turns."""
    found = [Found([], []) for _ in works]
    for _ in range(turns):
        for known, work in zip(found, works, strict=True):
            new = work()
            known.times += new.times
            known.overall += new.overall
            known.cpu += new.cpu
    return found


def through_daemon(
    place: BenchProject, runs: int, rounds: int, requests: int, target: Target | None = None
) -> Found:
    """Let each run, in a process of its own, ask batch after batch."""
    info = place.daemon()
    responder = contextlib.nullcontext() if target else process(respond, info, runs)
    with responder:
        cpu = cpu_ms(info.pid)
        found = at_once(target or ask, [(place, rounds, requests)] * runs, rounds)
        cpu = cpu_ms(info.pid) - cpu
    found.cpu.append(cpu / ((rounds + WARM) * runs))
    return found


def ask(start: Any, results: Any, place: BenchProject, rounds: int, requests: int) -> None:
    """Be one run."""
    metadata = METADATA if requests > 1 else None

    async def work() -> None:
        async with connect(**place.options) as client:

            async def batch() -> None:
                await asyncio.gather(
                    *(client.request_mock(f"/u/{n}", metadata=metadata) for n in range(requests))
                )

            await repeat(batch, start, results, rounds)

    asyncio.run(work())


def ask_itself(start: Any, results: Any, place: BenchProject, rounds: int, requests: int) -> None:
    """Be one run, and who answers it, in one event loop."""

    async def work() -> None:
        async with (
            DaemonClient.of(place.daemon()) as daemon,
            connect(**place.options) as client,
            asyncio.TaskGroup() as tasks,
        ):
            answering = tasks.create_task(serve(daemon))
            await repeat(lambda: client.request_mock("/u/0"), start, results, rounds)
            answering.cancel()

    asyncio.run(work())


def at_once(target: Target, arguments: list[tuple[Any, ...]], rounds: int) -> Found:
    """Run a function in several processes, which begin to measure together."""
    start, results = SPAWN.Barrier(len(arguments)), SPAWN.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for each in arguments:
            stack.enter_context(process(target, start, results, *each))
        measured = [results.get() for _ in arguments]
    times = [value for _, _, values in measured for value in values]
    took = max(end for _, end, _ in measured) - min(began for began, _, _ in measured)
    return Found(times, [took * 1e3 / (rounds * len(arguments))])


async def repeat(
    work: Callable[[], Awaitable[object]], start: Any, results: Any, rounds: int
) -> None:
    """Warm up, wait for the others, and report when it was measured and each duration."""
    for _ in range(WARM):
        await work()
    start.wait()
    began = time.perf_counter()
    times = await timed_ms(rounds, work)
    results.put((began, time.perf_counter(), times))


# -- The relay ------------------------------------------------------------------------------------


class Pair:
    """What the relay knows of a test and its responder."""

    def __init__(self) -> None:
        self.writers: dict[bytes, asyncio.StreamWriter] = {}
        self.complete = asyncio.Event()
        self.claims = asyncio.Semaphore(0)

    async def join(self, side: bytes, writer: asyncio.StreamWriter) -> asyncio.StreamWriter:
        """Add one side; return the other one."""
        self.writers[side] = writer
        if len(self.writers) == 2:
            self.complete.set()
        await self.complete.wait()
        return self.writers[b"R" if side == b"T" else b"T"]


def relay(path: str, messages: Exchange) -> None:
    """Join the first connection of a test with the first of the responder, and so on."""

    async def work() -> None:
        pairs: list[Pair] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            side = await reader.read(1)
            if not side:
                return  # it was only looked whether somebody listens
            pair = next((pair for pair in pairs if side not in pair.writers), None)
            if pair is None:
                pairs.append(pair := Pair())
            other = await pair.join(side, writer)
            of_side = pass_on_of_test if side == b"T" else pass_on_of_responder
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await of_side(pair, reader, other, messages)

        server = await asyncio.start_unix_server(serve, path)
        async with server:
            await server.serve_forever()

    asyncio.run(work())


async def pass_on_of_test(
    pair: Pair, reader: asyncio.StreamReader, responder: asyncio.StreamWriter, messages: Exchange
) -> None:
    """Pass what a test says to its responder, if the protocol has it that has claimed."""
    while True:
        await reader.readexactly(messages.submit)
        if messages.claim:
            await pair.claims.acquire()
        responder.write(b"x" * messages.claimed)
        if messages.receipt:
            await reader.readexactly(messages.receipt)
            responder.write(b"x" * messages.provided)


async def pass_on_of_responder(
    pair: Pair, reader: asyncio.StreamReader, test: asyncio.StreamWriter, messages: Exchange
) -> None:
    """Pass what a responder says to its test."""
    while True:
        if messages.claim:
            await reader.readexactly(messages.claim)
            pair.claims.release()
        await reader.readexactly(messages.provide)
        test.write(b"x" * messages.result)


async def answers(path: str, messages: Exchange) -> None:
    """Be a responder."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"R")
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            writer.write(b"x" * messages.claim)
            await reader.readexactly(messages.claimed)
            writer.write(b"x" * messages.provide)
            if messages.provided:
                await reader.readexactly(messages.provided)


def answer(path: str, connections: int, messages: Exchange) -> None:
    """Be the other end of the relay."""

    async def work() -> None:
        await asyncio.gather(*(answers(path, messages) for _ in range(connections)))

    asyncio.run(work())


def through_relay(
    connections: int, rounds: int, messages: Exchange, target: Target | None = None
) -> Found:
    """Do the same through a process that only passes bytes on."""
    with tempfile.TemporaryDirectory(prefix="mm") as directory, contextlib.ExitStack() as stack:
        path = str(Path(directory, "relay"))
        stack.enter_context(process(relay, path, messages))
        while not is_listening(path):
            time.sleep(0.01)
        if target is None:
            stack.enter_context(process(answer, path, connections, messages))
        return at_once(target or exchange, [(path, rounds, messages)] * connections, rounds)


def exchange(start: Any, results: Any, path: str, rounds: int, messages: Exchange) -> None:
    """Be one end of the relay."""
    asyncio.run(exchanges(start, results, path, rounds, messages))


def exchange_with_itself(
    start: Any, results: Any, path: str, rounds: int, messages: Exchange
) -> None:
    """Be both ends of the relay, in one event loop."""

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(answers(path, messages))
            await exchanges(start, results, path, rounds, messages)
            answering.cancel()

    asyncio.run(work())


async def exchanges(start: Any, results: Any, path: str, rounds: int, messages: Exchange) -> None:
    """Send batches through the relay, one after another, each when the last one is answered."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"T")

    async def once() -> None:
        writer.write(b"x" * messages.submit)
        await reader.readexactly(messages.result)
        writer.write(b"x" * messages.receipt)

    await repeat(once, start, results, rounds)
