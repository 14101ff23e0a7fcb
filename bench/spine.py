"""Measure the spine: start, connect, round trip, queue depth, memory.

Run: ``python bench/spine.py [--quick] [--json]``. Machines are noisy, so every figure stands beside
a reference measured in the same run: a bare interpreter that imports asyncio, and a bare relay that
passes the same bytes between the same three processes (test, middle, responder) over Unix sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mock_mcp import DaemonClient, Mock, connect, ensure_daemon_running
from mock_mcp.runtime.ipc import is_listening

SPAWN = multiprocessing.get_context("spawn")


# -- A responder in another process --------------------------------------------------------------


def respond(info, batches: int) -> None:
    """Claim and provide until told to stop by the end of the process."""

    async def work() -> None:
        async with DaemonClient.of(info) as client:
            while True:
                claim = await client.claim_next_batch("bench", wait_ms=30_000)
                if claim is None:
                    continue
                mocks = [Mock(request["requestId"], {"ok": True}) for request in claim.requests]
                await client.provide_batch("bench", claim.batch_id, claim.claim_token, mocks)

    asyncio.run(work())


# -- The bare relay: the same bytes through a process that does nothing else ----------------------


def relay(path: str) -> None:
    """Pass length-prefixed messages from the first peer to the second and back."""

    async def work() -> None:
        peers: list[asyncio.StreamWriter] = []
        arrived = asyncio.Event()

        async def serve(reader, writer) -> None:
            index = len(peers)
            peers.append(writer)
            if len(peers) == 2:
                arrived.set()
            await arrived.wait()
            while data := await reader.read(65536):
                peers[1 - index].write(data)

        server = await asyncio.start_unix_server(serve, path)
        async with server:
            await server.serve_forever()

    asyncio.run(work())


def echo(path: str, request_bytes: int, answer_bytes: int) -> None:
    """Answer every request through the relay with as many bytes as a result has."""

    async def work() -> None:
        while not Path(path).exists():
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(path)
        answer = b"x" * answer_bytes
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readexactly(request_bytes)
                writer.write(answer)

    asyncio.run(work())


async def through_relay(rounds: int, request_bytes: int, answer_bytes: int) -> list[float]:
    path = tempfile.mktemp(dir="/tmp")
    processes = [
        SPAWN.Process(target=relay, args=(path,), daemon=True),
        SPAWN.Process(target=echo, args=(path, request_bytes, answer_bytes), daemon=True),
    ]
    processes[0].start()
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_unix_connection(path)
    processes[1].start()
    request = b"x" * request_bytes
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        writer.write(request)
        await reader.readexactly(answer_bytes)
        times.append(time.perf_counter() - began)
    writer.close()
    for process in processes:
        process.terminate()
        process.join()
    Path(path).unlink()
    return times


# -- What is measured ----------------------------------------------------------------------------


def spawn_to_health(root: str, cache: str) -> float:
    began = time.perf_counter()
    info = ensure_daemon_running(root, cache_dir=cache)

    async def ask() -> None:
        async with DaemonClient.of(info) as client:
            await client.health()

    asyncio.run(ask())
    took = time.perf_counter() - began
    kill(info)
    return took


def kill(info) -> None:
    """Kill a daemon and wait until the system has closed its socket."""
    os.kill(info.pid, signal.SIGKILL)
    while is_listening(info.ipc_path):
        time.sleep(0.001)


def bare_interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
    return time.perf_counter() - began


async def timed_connect(root: str, cache: str) -> float:
    began = time.perf_counter()
    client = await connect(project_root=root, cache_dir=cache, enabled=True)
    took = time.perf_counter() - began
    await client.close()
    return took


async def round_trips(root: str, cache: str, rounds: int, requests: int, metadata) -> dict:
    info = ensure_daemon_running(root, cache_dir=cache)
    responder = SPAWN.Process(target=respond, args=(info, rounds), daemon=True)
    responder.start()
    times = []
    async with connect(project_root=root, cache_dir=cache, enabled=True) as client:
        for index in range(rounds + 20):
            if index == 20:
                cpu = cpu_seconds(info.pid)
            began = time.perf_counter()
            await asyncio.gather(
                *(client.request_mock(f"/u/{i}", metadata=metadata) for i in range(requests))
            )
            if index >= 20:
                times.append(time.perf_counter() - began)
        cpu = cpu_seconds(info.pid) - cpu
    responder.terminate()
    responder.join()
    return {"times": times, "daemon_cpu_ms": cpu / rounds * 1000}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def queue_depth(root: str, cache: str, depths: list[int], calls: int) -> list[dict]:
    """Time control calls with ever more parked batches (2 KB metadata each)."""
    rows = []
    info = ensure_daemon_running(root, cache_dir=cache)
    metadata = {"notes": "x" * 2000}
    request = {"endpoint": "/u", "method": "GET", "metadata": metadata}
    async with (
        DaemonClient.of(info) as control,
        connect(project_root=root, cache_dir=cache, enabled=True, timeout_s=None) as client,
    ):
        waiting: list[asyncio.Task] = []
        base = rss_mib(info.pid)
        for depth in depths:
            while len(waiting) < depth:
                for _ in range(min(500, depth - len(waiting))):
                    waiting.append(
                        asyncio.create_task(client.request_mock("/u", metadata=metadata))
                    )
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                await asyncio.sleep(0.01)
            while (await control.get_status()).total_batches < depth:
                await asyncio.sleep(0.05)
            row = {"parked": depth, "rss_mib": rss_mib(info.pid)}
            row["json_mib"] = depth * (len(json.dumps(request)) + 20) / 2**20
            row["base_mib"] = base
            row["get_status_us"] = await median_us(calls, control.get_status)
            row["list_runs_us"] = await median_us(calls, control.list_runs)
            if depth:
                row["claim_us"] = await claim_us(control, min(calls, depth // 2))
                row["provide_us"] = await provide_us(control, min(calls, depth // 2))
            rows.append(row)
            waiting = [task for task in waiting if not task.done()]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return rows


async def claim_us(control, calls: int) -> float:
    held, times = [], []
    for _ in range(calls):
        began = time.perf_counter()
        held.append(await control.claim_next_batch("bench"))
        times.append(time.perf_counter() - began)
    for claim in held:
        await control.release_batch("bench", claim.batch_id, claim.claim_token)
    return statistics.median(times) * 1e6


async def provide_us(control, calls: int) -> float:
    """Time provides; each one takes a batch away."""
    times = []
    for _ in range(calls):
        claim = await control.claim_next_batch("bench2")
        mocks = [Mock(request["requestId"], 1) for request in claim.requests]
        began = time.perf_counter()
        await control.provide_batch("bench2", claim.batch_id, claim.claim_token, mocks)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def throughput(root: str, cache: str, batches: int) -> float:
    """Return batches a second with 64 waiting at a time and two responders."""
    info = ensure_daemon_running(root, cache_dir=cache)
    responders = [SPAWN.Process(target=respond, args=(info, 0), daemon=True) for _ in range(2)]
    for responder in responders:
        responder.start()
    async with connect(project_root=root, cache_dir=cache, enabled=True) as client:
        await client.request_mock("/warm")

        async def one_after_another(count: int) -> None:
            for _ in range(count):
                await client.request_mock("/u")

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another(batches // 64) for _ in range(64)))
        took = time.perf_counter() - began
        total = (await status(info)).total_batches
    for responder in responders:
        responder.terminate()
        responder.join()
    return min(total - 1, batches) / took


async def status(info):
    async with DaemonClient.of(info) as control:
        return await control.get_status()


async def many_runs(root: str, cache: str, runs: int, batches: int, calls: int) -> dict:
    """Time listRuns with many connected runs, each with some parked batches."""
    from websockets.asyncio.client import unix_connect

    info = ensure_daemon_running(root, cache_dir=cache)
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
            "runs": runs,
            "parked": runs * batches,
            "list_runs_us": await median_us(calls, control.list_runs),
            "get_status_us": await median_us(calls, control.get_status),
        }


async def adapter_status(directory: Path, daemons: int, calls: int) -> float:
    """Return the median microseconds of the tool get_status over so many live daemons."""
    from mcp import Client

    from mock_mcp.adapter.server import Adapter

    cache = str(directory / "a")
    infos = []
    for number in range(daemons):
        root = directory / f"project{number}"
        root.mkdir(exist_ok=True)
        infos.append(ensure_daemon_running(root, cache_dir=cache))
    adapter = Adapter(project_root=directory / "project0", cache_dir=cache)
    async with Client(adapter.server()) as client:
        await client.call_tool("get_status", {})
        taken = await median_us(calls, lambda: client.call_tool("get_status", {}))
    for info in infos:
        kill(info)
    return taken


async def median_us(calls: int, function) -> float:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        await function()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


# -- The report ----------------------------------------------------------------------------------


def spread(times: list[float]) -> str:
    values = sorted(t * 1000 for t in times)
    return (
        f"{statistics.median(values):8.2f} ms  "
        f"(min {values[0]:.2f}, p95 {values[int(len(values) * 0.95)]:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    starts, rounds = (3, 50) if options.quick else (15, 1000)
    depths = [0, 100, 1000] if options.quick else [0, 1000, 10_000, 50_000]
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    report: dict = {}
    with tempfile.TemporaryDirectory(prefix="mm") as directory:
        root = str(Path(directory, "p"))
        Path(root).mkdir()
        cache = str(Path(directory, "c"))

        report["bare interpreter, import asyncio"] = [bare_interpreter() for _ in range(starts)]
        report["daemon spawn to /health"] = [spawn_to_health(root, cache) for _ in range(starts)]
        cold = []
        for _ in range(starts):
            cold.append(asyncio.run(timed_connect(root, cache)))
            kill(ensure_daemon_running(root, cache_dir=cache))
        report["connect, cold"] = cold
        info = ensure_daemon_running(root, cache_dir=cache)
        report["connect, warm"] = [
            asyncio.run(timed_connect(root, cache)) for _ in range(starts * 3)
        ]
        report["daemon base memory, MiB"] = rss_mib(info.pid)

        one = asyncio.run(round_trips(root, cache, rounds, 1, None))
        report["round trip, 1 request"] = one["times"]
        report["daemon CPU a batch, 1 request, ms"] = one["daemon_cpu_ms"]
        report["bare relay, the same bytes"] = asyncio.run(through_relay(rounds, 160, 90))
        metadata = {"notes": "x" * 2000}
        fifty = asyncio.run(round_trips(root, cache, max(20, rounds // 10), 50, metadata))
        report["round trip, 50 requests x 2 KB"] = fifty["times"]
        report["daemon CPU a batch, 50 x 2 KB, ms"] = fifty["daemon_cpu_ms"]
        report["bare relay, 50 x 2 KB"] = asyncio.run(
            through_relay(max(20, rounds // 10), 104_000, 2500)
        )
        report["throughput, 64 waiting, batches/s"] = asyncio.run(
            throughput(root, cache, 640 if options.quick else 12_800)
        )
        runs = asyncio.run(
            many_runs(root, cache, *((50, 5, 20) if options.quick else (1000, 10, 50)))
        )
        report["listRuns, " + f"{runs['runs']} runs, {runs['parked']} parked, ms"] = (
            runs["list_runs_us"] / 1000
        )
        for daemons in (1, 3 if options.quick else 20):
            taken = asyncio.run(adapter_status(Path(directory), daemons, 20))
            report[f"adapter's get_status, daemons: {daemons}, ms"] = taken / 1000
        report["parked batches"] = asyncio.run(
            queue_depth(root, cache, depths, 20 if options.quick else 200)
        )
        os.kill(info.pid, signal.SIGTERM)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        if name == "parked batches":
            print(f"{name}:")
            for row in value:
                print("   " + "  ".join(f"{k} {v:,.0f}" for k, v in row.items()))
        elif isinstance(value, list):
            print(f"{name:36} {spread(value)}")
        else:
            print(f"{name:36} {value:8.2f}")
    for name, base in (
        ("daemon spawn to /health", "bare interpreter, import asyncio"),
        ("connect, cold", "daemon spawn to /health"),
        ("round trip, 1 request", "bare relay, the same bytes"),
        ("round trip, 50 requests x 2 KB", "bare relay, 50 x 2 KB"),
    ):
        ratio = statistics.median(report[name]) / statistics.median(report[base])
        print(f"{name} / {base}: {ratio:.2f}x")


if __name__ == "__main__":
    main()
