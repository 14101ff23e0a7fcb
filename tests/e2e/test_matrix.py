"""Everything at once: several projects, test processes and responders, and no answer astray."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mock_mcp.control.client import DaemonClient
from mock_mcp.runtime.launch import ensure_daemon_running_async
from mock_mcp.types import DaemonInfo, Mock
from support.daemons import environment
from support.responder import respond_to
from support.script import Script
from support.stress import pick
from support.ws import HANG_S

BATCHES = pick(15, 200)
"""Batches of each test process."""
PROJECTS, PROCESSES, RESPONDERS = 2, 4, 3
WHOLE_S = 300.0
"""Only turns a hang into a failure."""

TEST_PROCESS = """
    async def main():
        root, run_id, count = sys.argv[1:]
        async with mock_mcp.connect(
            project_root=root, run_id=run_id, enabled=True, timeout_s=None, max_batch_size=1
        ) as client:
            async def ask(number):
                endpoint = f"/{run_id}/{number}"
                mock = await client.request_mock(endpoint)
                assert mock.data == {"run": run_id, "endpoint": endpoint}, mock
            for first in range(0, int(count), 10):
                last = min(first + 10, int(count))
                await asyncio.gather(*(ask(number) for number in range(first, last)))
            await client.wait_for_pending_requests()
    asyncio.run(main())
    print("all answered")
"""


@pytest.fixture
def projects(short_dir: Path, project: Path) -> list[Path]:
    roots = [project]
    for number in range(1, PROJECTS):
        root = project.with_name(f"{project.name}-{number}")
        root.mkdir()
        (root / "pyproject.toml").touch()
        roots.append(root)
    return roots


@pytest.fixture
def test_process(cache_dir: Path) -> Iterator[Callable[[Path, str], subprocess.Popen[str]]]:
    """Start a process that asks for mocks and checks that each is its own."""
    processes: list[subprocess.Popen[str]] = []
    code = "import asyncio, sys\nimport mock_mcp\n" + textwrap.dedent(TEST_PROCESS)

    def start(root: Path, run_id: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", code, str(root), run_id, str(BATCHES)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(cache_dir),
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=HANG_S)


def answers(run_id: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one mock per request that says for whom it is."""
    return [
        {
            "requestId": request["requestId"],
            "data": {"run": run_id, "endpoint": request["endpoint"]},
        }
        for request in requests
    ]


@asynccontextmanager
async def control_responder(name: str, infos: list[DaemonInfo]) -> AsyncIterator[Callable[[], Any]]:
    """Answer over the control channel of every daemon."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(DaemonClient.of(info)) for info in infos]
        served: list[str] = []

        async def serve_one(client: DaemonClient) -> None:
            while True:
                await client.wait_for_batch(15_000)
                while claim := await client.claim_next_batch(name):
                    mocks = [
                        Mock(each["requestId"], each["data"])
                        for each in answers(claim.run_id, claim.requests)
                    ]
                    provided = await client.provide_batch(
                        name, claim.batch_id, claim.claim_token, mocks
                    )
                    assert provided.delivered
                    served.append(claim.batch_id)

        async def serve() -> None:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(serve_one(client))

        yield lambda: (serve(), served)


@asynccontextmanager
async def mcp_responder(root: Path, cache_dir: Path) -> AsyncIterator[Callable[[], Any]]:
    """Answer as an assistant does: through an adapter process, over MCP."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "mock_mcp", "adapter", "--project-root", str(root)],
        env=environment(cache_dir),
    )
    async with Client(stdio_client(server), mode="auto") as client:
        served: list[str] = []

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            assert isinstance(result.structured_content, dict)
            return result.structured_content

        async def serve() -> None:
            while True:
                claim = await call("claim_next_batch", waitMs=15_000)
                if not claim.get("batchId"):
                    continue
                mocks = answers(claim["runId"], claim["requests"])
                await call(
                    "provide_batch_mock_data",
                    batchId=claim["batchId"],
                    claimToken=claim["claimToken"],
                    mocks=mocks,
                )
                served.append(claim["batchId"])

        yield lambda: (serve(), served)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["control", "mcp"])
async def test_every_batch_is_answered_once_and_to_its_own_run(
    kind, projects, cache_dir, test_process
):
    infos = [await ensure_daemon_running_async(root, cache_dir=cache_dir) for root in projects]
    async with AsyncExitStack() as stack:
        tasks, lists = [], []
        for number in range(RESPONDERS):
            if kind == "control":
                responder = control_responder(f"responder-{number}", infos)
            else:
                responder = mcp_responder(projects[number % PROJECTS], cache_dir)
            begin = await stack.enter_async_context(responder)
            serve, served = begin()
            tasks.append(asyncio.create_task(serve))
            lists.append(served)

        run_ids = [f"p{p}-t{t}" for p in range(PROJECTS) for t in range(PROCESSES)]
        processes = [test_process(projects[int(run_id[1])], run_id) for run_id in run_ids]
        try:
            async with asyncio.timeout(WHOLE_S):
                ends = [asyncio.to_thread(process.communicate) for process in processes]
                outputs = await _all_or_first_failure(ends, tasks)
                while sum(map(len, lists)) < len(run_ids) * BATCHES:  # a test goes on before the
                    await asyncio.sleep(0.01)  # responder is told that its answer has arrived
            assert [out for out, _ in outputs] == ["all answered\n"] * len(run_ids), outputs
            assert [process.returncode for process in processes] == [0] * len(run_ids)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        served = Counter(batch_id for served in lists for batch_id in served)
        of_runs = Counter(batch_id.rpartition(":")[0] for batch_id in served)
        assert of_runs == {f"batch:{run_id}": BATCHES for run_id in run_ids}
        assert set(served.values()) == {1}
        for info in infos:
            async with DaemonClient.of(info) as control:
                status = await control.get_status()
                assert (status.total_batches, status.pending, status.claimed, status.runs) == (
                    PROCESSES * BATCHES,
                    0,
                    0,
                    0,
                )


async def _all_or_first_failure(ends: list[Any], tasks: list[asyncio.Task[None]]) -> list[Any]:
    """Return the outputs of all processes, or raise what a responder died of."""
    everything = asyncio.gather(*ends)
    await asyncio.wait({everything, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            await task
    outputs: list[Any] = await everything
    return outputs


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.asyncio
async def test_a_responder_killed_with_a_claim_is_replaced_by_another(project, cache_dir):
    info = await ensure_daemon_running_async(project, cache_dir=cache_dir)
    test = Script(
        project,
        cache_dir,
        """
        with mock_mcp.connect_sync(**WHERE) as client:
            say(client.request_mock("/a").data)
        """,
    )
    killed = Script(
        project,
        cache_dir,
        """
        async def main():
            info = mock_mcp.ensure_daemon_running(WHERE["project_root"])
            async with mock_mcp.DaemonClient.of(info) as client:
                await client.wait_for_batch(15_000)
                claim = await client.claim_next_batch("killed", lease_ms=500)
                say(claim.batch_id)
                await asyncio.Event().wait()
        asyncio.run(main())
        """,
    )
    try:
        batch_id = await asyncio.to_thread(killed.line)
        killed.process.send_signal(signal.SIGKILL)
        async with respond_to(info) as responder:
            claim = await responder.claim()
            assert claim.batch_id == batch_id
            assert [(each.outcome, each.adapter_id) for each in claim.history] == [
                ("expired", "killed")
            ]
            assert await responder.provide(claim)
        assert await asyncio.to_thread(test.end) == (0, "/a\n", "")
    finally:
        killed.close()
        test.close()
