"""A client on the npm package ``ws`` that behaves as DESIGN section 3 says the 0.5 one does."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemons import DaemonProcess
from support.stress import STRESS
from support.ws import HANG_S, request

CLIENT = Path(__file__).parent / "node" / "client.mjs"
StartProcess = Callable[..., DaemonProcess]


@pytest.fixture(scope="session")
def ws_package(short_dir: Path) -> Path:
    """Where ``ws`` is installed; the tests are skipped, saying why, where it cannot be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are needed for the JavaScript client")
    prefix = short_dir / "npm"
    prefix.mkdir()
    install = subprocess.run(
        [npm, "install", "--prefix", str(prefix), "--no-audit", "--no-fund", "ws@8"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if install.returncode != 0:
        pytest.skip(f"`npm install ws@8` failed: {install.stderr.strip()[-300:]}")
    return prefix / "node_modules"


class NodeClient:
    def __init__(self, ws_package: Path, registry: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["node", str(CLIENT), str(ws_package), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"CLIENT": json.dumps({"registry": str(registry), "runId": "js-1"})},
        )

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], HANG_S)
        assert ready, "the client said nothing"
        event = json.loads(self.process.stdout.readline())
        assert isinstance(event, dict)
        return event

    def until(self, event: str, *, skip: tuple[str, ...] = ("pong",)) -> dict[str, Any]:
        """Return the next event, which must be this one; pongs may come before it."""
        while (found := self.read())["event"] != event:
            assert found["event"] in skip, found
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=HANG_S)


@pytest.fixture
def start_client(
    ws_package: Path, daemon_process: DaemonProcess
) -> Iterator[Callable[..., NodeClient]]:
    clients: list[NodeClient] = []

    def start(*arguments: str) -> NodeClient:
        client = NodeClient(ws_package, daemon_process.registry, *(arguments or ("15000",)))
        clients.append(client)
        assert client.until("open")["extensions"] == ""
        assert client.until("message")["message"]["type"] == "HELLO_ACK"
        return client

    yield start
    for client in clients:
        client.close()


def test_a_batch_is_answered(
    daemon_process: DaemonProcess, start_client: Callable[..., NodeClient]
) -> None:
    client = start_client()
    metadata = {"schema": {"summary": "é水😀", "response": {"type": "object"}}}
    client.send(submit=[request("a", metadata=metadata), request("b", body=[1, None])])
    control = daemon_process.control
    claim = control.claim()
    assert claim["batchId"] == "batch:js-1:1"
    assert claim["requests"] == [request("a", metadata=metadata), request("b", body=[1, None])]
    mocks = [
        {"requestId": "a", "data": {"text": "é水😀" * 50_000}},
        {"requestId": "b", "data": None},
    ]
    assert control.provide(claim, mocks)["delivered"] is True
    assert client.until("message")["message"] == {
        "type": "BATCH_MOCK_RESULT",
        "batchId": "batch:js-1:1",
        "mocks": mocks,
    }
    client.send(stop=True)
    assert client.until("close")["code"] == 1005
    assert client.process.wait(HANG_S) == 0


def test_pings_are_answered_and_count_as_life(
    daemon_process: DaemonProcess, start_client: Callable[..., NodeClient]
) -> None:
    client = start_client("50")
    control = daemon_process.control
    first = control.call("listRuns")["runs"][0]["lastSeen"]
    for _ in range(5):
        client.until("pong")
    assert control.call("listRuns")["runs"][0]["lastSeen"] > first


@pytest.mark.skipif(not STRESS, reason="takes 45 s; MOCK_MCP_STRESS=1 runs it")
def test_pings_every_15_s_and_no_heartbeat(
    daemon_process: DaemonProcess, start_client: Callable[..., NodeClient], monkeypatch: Any
) -> None:
    client = start_client("15000")
    client.send(submit=[request()])
    for _ in range(3):
        client.until("pong")
    control = daemon_process.control
    control.provide(control.claim(), [{"requestId": "a", "data": 1}])
    assert client.until("message")["message"]["type"] == "BATCH_MOCK_RESULT"


def test_the_daemon_is_restarted_under_it(
    daemon_process: DaemonProcess,
    start_process: StartProcess,
    start_client: Callable[..., NodeClient],
) -> None:
    client = start_client()
    client.send(submit=[request("before")])
    daemon_process.control.claim()
    daemon_process.process.terminate()
    closed = client.until("close")
    assert (closed["code"], closed["reason"]) == (1001, "Daemon shutting down")
    assert closed["rejected"] == 1
    daemon_process.wait_end()
    again = start_process().wait_ready()
    client.until("open", skip=("error", "close", "pong"))
    assert client.until("message")["message"]["runId"] == "js-1"
    client.send(submit=[request("after")])
    claim = again.control.claim()
    assert claim["requests"] == [request("after")]
    again.control.provide(claim, [{"requestId": "after", "data": 1}])
    assert client.until("message")["message"]["batchId"] == claim["batchId"]


def test_the_daemon_is_killed_under_it(
    daemon_process: DaemonProcess,
    start_process: StartProcess,
    start_client: Callable[..., NodeClient],
) -> None:
    client = start_client()
    daemon_process.process.kill()
    assert client.until("close")["code"] == 1006
    daemon_process.wait_end()
    again = start_process().wait_ready()
    client.until("open", skip=("error", "close", "pong"))
    assert client.until("message")["message"]["runId"] == "js-1"
    assert again.control.call("listRuns")["runs"][0]["runId"] == "js-1"


def test_a_refused_batch_fails_at_once(
    daemon_process: DaemonProcess, start_client: Callable[..., NodeClient]
) -> None:
    client = start_client()
    client.send(submit=[request("same"), request("same")])
    closed = client.until("close")
    assert closed["code"] == 1008
    assert "requestId" in closed["reason"]
    assert closed["rejected"] == 1
    client.until("open")
    assert client.until("message")["message"]["type"] == "HELLO_ACK"
    assert daemon_process.control.call("getStatus")["totalBatches"] == 0


def test_a_compression_offer_is_declined(
    daemon_process: DaemonProcess, start_client: Callable[..., NodeClient]
) -> None:
    client = start_client("15000", "offer")
    client.send(submit=[request(body="x" * 100_000)])
    control = daemon_process.control
    claim = control.claim()
    assert claim["requests"] == [request(body="x" * 100_000)]
    control.provide(claim, [{"requestId": "a", "data": "y" * 100_000}])
    assert client.until("message")["message"]["mocks"][0]["data"] == "y" * 100_000
