"""The adapter as an MCP client starts it: a real process, spoken to over its standard streams."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import mcp_types as types
import pytest
import pytest_asyncio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mock_mcp import connect
from mock_mcp.client.collector import BatchMockCollector
from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import DaemonUnreachable
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.launch import ensure_daemon_running_async, find_daemons
from mock_mcp.types import Claim, DaemonInfo, Waiting
from support.responder import Responder

pytestmark = pytest.mark.asyncio

BOTH_ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
WAIT_MS = 45_000


class Place:
    """A project and a cache directory, and the processes on it until the test ends."""

    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self.root = path / "p"
        self.root.mkdir()
        self.cache_dir = path / "c"
        self.env = {**os.environ, "MOCK_MCP_CACHE_DIR": str(self.cache_dir)}
        self.args = ["-m", "mock_mcp", "adapter", "--project-root", str(self.root)]
        self._stack = stack

    async def daemon(self, name: str = "p") -> DaemonInfo:
        root = self.root.parent / name
        root.mkdir(exist_ok=True)
        return await ensure_daemon_running_async(root, cache_dir=self.cache_dir)

    async def control(self) -> DaemonClient:
        client = DaemonClient.of(await self.daemon())
        return await self._stack.enter_async_context(client)

    async def test(self) -> BatchMockCollector:
        return await self._stack.enter_async_context(
            connect(project_root=self.root, cache_dir=self.cache_dir, enabled=True)
        )

    @asynccontextmanager
    async def assistant(self, mode: str = "auto") -> AsyncIterator[Assistant]:
        server = StdioServerParameters(command=sys.executable, args=self.args, env=self.env)
        async with Client(stdio_client(server), mode=mode) as client:
            yield Assistant(client)

    async def stop_daemons(self) -> None:
        for info in find_daemons(CacheDirectory(self.cache_dir)):
            async with DaemonClient.of(info) as client:
                await client.shutdown()
                while True:  # it is gone when it answers no more
                    try:
                        await client.health()
                    except DaemonUnreachable:
                        break


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory(prefix="mm", ignore_cleanup_errors=True) as path:
        async with AsyncExitStack() as stack:
            place = Place(Path(path).resolve(), stack)
            stack.push_async_callback(place.stop_daemons)
            yield place


class Assistant:
    """An MCP client whose results are checked: the text is the structure."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def result(self, tool: str, **arguments: Any) -> tuple[bool, str, Any]:
        result = await self.client.call_tool(tool, arguments)
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        return result.is_error, content.text, result.structured_content

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        failed, text, structure = await self.result(tool, **arguments)
        assert not failed, text
        assert json.loads(text) == structure
        return structure

    async def provide(self, claim: Any, data: Any) -> Any:
        mocks = [{"requestId": each["requestId"], "data": data} for each in claim["requests"]]
        return await self("provide_batch_mock_data", **key(claim), mocks=mocks)


class RawProcess:
    """The adapter's process, and the lines of a handshake client (protocol 2025-06-18)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._next_id = 0

    @classmethod
    async def start(cls, place: Place) -> Self:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, *place.args, env=place.env, stdin=pipe, stdout=pipe, stderr=pipe
        )
        raw = cls(process)
        await raw.call(
            "initialize",
            {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "raw", "version": "0"},
            },
        )
        raw.send({"method": "notifications/initialized"})
        return raw

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def request(self, method: str, params: dict[str, Any]) -> int:
        self._next_id += 1
        self.send({"id": self._next_id, "method": method, "params": params})
        return self._next_id

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(await self.process.stdout.readline())
        assert message["jsonrpc"] == "2.0"
        return message

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        request_id = self.request(method, params)
        answer = await self.answer()
        assert answer["id"] == request_id
        return answer["result"]

    async def tool(self, name: str, **arguments: Any) -> Any:
        result = await self.call("tools/call", {"name": name, "arguments": arguments})
        return result["structuredContent"]

    async def ended(self) -> tuple[int, str]:
        """Return the exit code and what was written to stderr; stdout must hold nothing more."""
        out, err = await self.process.communicate()
        for line in out.splitlines():  # calls under way may have been answered with an error
            assert json.loads(line)["jsonrpc"] == "2.0"
        assert self.process.returncode is not None
        return self.process.returncode, err.decode()


def key(claim: Any) -> dict[str, str]:
    return {"batchId": claim["batchId"], "claimToken": claim["claimToken"]}


async def pending(control: DaemonClient) -> Waiting:
    """Return when something is claimable."""
    waiting = await control.wait_for_batch(30_000)
    assert waiting.pending
    return waiting


async def answer_as_another(control: DaemonClient) -> Claim:
    """Claim and answer the next batch as another responder than the adapter."""
    responder = Responder(control)
    claim = await responder.claim()
    assert await responder.provide(claim)
    return claim


@BOTH_ERAS
async def test_an_assistant_serves_a_waiting_test(place, mode):
    test = await place.test()
    async with place.assistant(mode) as ask:
        assert len((await ask.client.list_tools()).tools) == 9
        assert (await ask("get_status"))["runs"] == 1
        for n in range(3):
            asked = asyncio.create_task(test.request_mock(f"/users/{n}", "GET"))
            claim = await ask("claim_next_batch", waitMs=WAIT_MS)
            assert claim["requests"][0]["endpoint"] == f"/users/{n}"
            text = f"Zoë 🦊 {n} " * 1000
            assert (await ask.provide(claim, text))["delivered"] is True
            assert (await asked).data == text
        assert (await ask("claim_next_batch"))["state"] == "empty"


@BOTH_ERAS
async def test_wrong_calls_are_told_apart(place, mode):
    await place.daemon()
    async with place.assistant(mode) as ask:
        with pytest.raises(Exception, match="Unknown tool") as caught:
            await ask.client.call_tool("provide", {})
        assert caught.value.error.code == -32602
        failed, text, _ = await ask.result("get_status", verbose=True)
        assert failed
        assert "'verbose'" in text
        failed, text, _ = await ask.result("claim_next_batch", leaseMs="long")
        assert failed
        assert "leaseMs" in text
        assert (await ask("claim_next_batch"))["state"] == "empty"


@BOTH_ERAS
async def test_a_cancelled_wait_leaves_no_claim(place, mode):
    control, test = await place.control(), await place.test()
    async with place.assistant(mode) as ask:
        waiting = asyncio.create_task(ask("claim_next_batch", waitMs=WAIT_MS))
        await ask("get_status")  # the server has read the call before this one
        waiting.cancel()
        await asyncio.wait([waiting])
        await ask("get_status")  # and the cancellation
        asked = asyncio.create_task(test.request_mock("/user", "GET"))
        await pending(control)
        claim = await ask("claim_next_batch")
        await ask.provide(claim, 1)
        assert (await asked).data == 1


async def test_an_answer_after_the_lease_reaches_the_test(place):
    control, test = await place.control(), await place.test()
    async with place.assistant("legacy") as ask:
        asked = asyncio.create_task(test.request_mock("/user", "GET"))
        claim = await ask("claim_next_batch", waitMs=WAIT_MS, leaseMs=50)
        await pending(control)  # the lease ended
        assert (await ask.provide(claim, "late"))["ok"] is True
        assert (await asked).data == "late"


@POSIX
async def test_an_answer_after_the_daemon_was_killed_reaches_the_test(place):
    test = await place.test()
    before = await place.daemon()
    async with place.assistant("auto") as ask:
        asked = asyncio.create_task(test.request_mock("/user", "GET"))
        claim = await ask("claim_next_batch", waitMs=WAIT_MS)
        os.kill(before.pid, signal.SIGKILL)
        assert (await ask.provide(claim, "kept"))["ok"] is True
        assert (await asked).data == "kept"
        assert (await place.daemon()).token != before.token


@POSIX
async def test_a_stopped_daemon_of_another_project_does_not_hold_up_this_one(place):
    other, test = await place.daemon("other"), await place.test()
    os.kill(other.pid, signal.SIGSTOP)
    try:
        async with place.assistant() as ask:
            asked = asyncio.create_task(test.request_mock("/user", "GET"))
            await ask.provide(await ask("claim_next_batch", waitMs=WAIT_MS), 1)
            assert (await asked).data == 1
            status = await ask("get_status")
            assert [each["projectRoot"] for each in status["daemons"]] == [str(place.root)]
            assert [each["projectRoot"] for each in status["unreachable"]] == [other.project_root]
    finally:
        os.kill(other.pid, signal.SIGCONT)


async def test_two_adapters_share_the_work(place):
    test = await place.test()
    served: list[str] = []

    async def work(ask: Assistant, done: asyncio.Event) -> None:
        while not done.is_set():
            claim = await ask("claim_next_batch", waitMs=500)
            if claim["state"] == "claimed":
                served.append(claim["batchId"])
                await ask.provide(claim, claim["batchId"])

    async with place.assistant("legacy") as one, place.assistant("auto") as two:
        done = asyncio.Event()
        answers = []
        async with asyncio.TaskGroup() as group:  # a worker that fails ends the test
            for ask in (one, two):
                group.create_task(work(ask, done))
            for n in range(20):
                wanted = [test.request_mock(f"/{n}/{part}", "GET") for part in range(2)]
                answers += await asyncio.gather(*wanted)
            done.set()
    assert len(served) == len(set(served)) == 20
    assert [answer.data for answer in answers] == [each for each in served for _ in range(2)]


async def test_at_the_end_of_stdin_claims_are_released_and_the_process_ends(place):
    control, test = await place.control(), await place.test()
    raw = await RawProcess.start(place)
    asked = asyncio.create_task(test.request_mock("/user", "GET"))
    claim = await raw.tool("claim_next_batch", waitMs=WAIT_MS)
    assert claim["state"] == "claimed"
    raw.request("tools/call", {"name": "claim_next_batch", "arguments": {"waitMs": WAIT_MS}})
    raw.process.stdin.close()
    assert await raw.ended() == (0, "")
    assert (await control.wait_for_batch(0)).pending == 1
    await answer_as_another(control)
    await asked


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_releases_claims_and_ends_the_process(place, number):
    control, test = await place.control(), await place.test()
    raw = await RawProcess.start(place)
    asked = asyncio.create_task(test.request_mock("/user", "GET"))
    await raw.tool("claim_next_batch", waitMs=WAIT_MS)
    raw.process.send_signal(number)
    await raw.process.wait()  # although stdin is still open
    assert raw.process.returncode == 128 + number
    assert (await control.wait_for_batch(0)).pending == 1
    await answer_as_another(control)
    await asked


@POSIX
async def test_a_killed_adapters_batch_comes_back_when_its_lease_ends(place):
    control, test = await place.control(), await place.test()
    raw = await RawProcess.start(place)
    asked = asyncio.create_task(test.request_mock("/user", "GET"))
    claim = await raw.tool("claim_next_batch", waitMs=WAIT_MS, leaseMs=300)
    raw.process.kill()
    await raw.process.wait()
    again = await answer_as_another(control)
    assert again.batch_id == claim["batchId"]
    assert [each.outcome for each in again.history] == ["expired"]
    assert (await asked).data == "/user"


async def test_garbage_on_stdin_is_survived(place):
    await place.daemon()
    raw = await RawProcess.start(place)
    raw.process.stdin.write(b"garbage\n\xff\xfe\n[]\n\n" + b"[" * 100_000 + b"\n")
    assert (await raw.tool("claim_next_batch"))["state"] == "empty"
    raw.process.stdin.close()
    assert await raw.ended() == (0, "")


@pytest.mark.parametrize("early", [False, True])
async def test_a_claim_cancelled_as_its_call_ends_is_given_back(place, early):
    test, control = await place.test(), await place.control()
    raw = await RawProcess.start(place)
    asked = asyncio.create_task(test.request_mock("/user", "GET"))
    await pending(control)
    cancelled = {"method": "notifications/cancelled", "params": {"requestId": raw._next_id + 1}}
    if early:  # as if the call had ended when the SDK came to cancel it
        raw.send(cancelled)
    await raw.tool("claim_next_batch")
    if not early:  # as if the answer were on its way
        raw.send(cancelled)
    await pending(control)
    claim = await raw.tool("claim_next_batch")
    assert claim["history"][0]["outcome"] == "released"
    mocks = [{"requestId": claim["requests"][0]["requestId"], "data": 1}]
    assert (await raw.tool("provide_batch_mock_data", **key(claim), mocks=mocks))["delivered"]
    assert (await asked).data == 1
    raw.process.stdin.close()
    assert await raw.ended() == (0, "")


@POSIX
async def test_a_client_that_reads_no_more_is_gone(place):
    test = await place.test()
    control = await place.control()
    raw = await RawProcess.start(place)
    asked = asyncio.create_task(test.request_mock("/user", "GET"))
    await raw.tool("claim_next_batch", waitMs=WAIT_MS)
    raw.process._transport.get_pipe_transport(1).close()
    await asyncio.sleep(0)  # asyncio closes it in its next turn: before the answer to what follows
    raw.request("ping", {})
    await pending(control)  # the claim is released
    raw.process.stdin.close()
    assert (await raw.process.wait(), await raw.process.stderr.read()) == (0, b"")
    asked.cancel()


async def test_a_call_that_cannot_be_parsed_is_answered(place):
    await place.daemon()
    raw = await RawProcess.start(place)
    half_a_surrogate, digits, depth = b'"\\ud83e"', b"9" * 5000, b"[" * 300 + b"]" * 300
    for data in (half_a_surrogate, digits, depth):
        params = b'{"name": "get_status", "arguments": {"x": %b}}' % data
        raw.process.stdin.write(  # members in the order of the SDK for JavaScript
            b'{"method": "tools/call", "params": %b, "jsonrpc": "2.0", "id": "a"}\n' % params
        )
        answer = await raw.answer()
        assert (answer["id"], answer["error"]["code"]) == ("a", types.PARSE_ERROR), data[:9]
        assert "was not read" in answer["error"]["message"]
    raw.process.stdin.write(b'{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": []}\n')
    answer = await raw.answer()
    assert (answer["id"], answer["error"]["code"]) == (2, types.INVALID_REQUEST)
    assert (await raw.tool("get_status"))["runs"] == 0
    raw.process.stdin.close()
    assert await raw.ended() == (0, "")


@POSIX
async def test_an_adapter_whose_directory_is_gone_serves_the_others(place):
    test = await place.test()
    gone = place.root.parent / "gone"
    gone.mkdir()
    code = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    code += "from mock_mcp.cli import main; main(['adapter'])"
    place.args = ["-P", "-c", code]  # as a command, which does not import from its directory
    asked = asyncio.create_task(test.request_mock("/user", "GET"))
    async with place.assistant() as ask:
        await ask.provide(await ask("claim_next_batch", waitMs=WAIT_MS), 1)
        assert (await asked).data == 1


@POSIX
async def test_a_closed_stdin_is_one_line(place):
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", '"$@" <&-', "sh", sys.executable, *place.args),
        env=place.env,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"mock-mcp: The adapter speaks MCP over standard input and output")
    assert err.count(b"\n") == 1
