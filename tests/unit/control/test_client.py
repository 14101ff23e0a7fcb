"""`DaemonClient` against a scripted peer: what it writes, and what it makes of every answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mock_mcp.control.client import DaemonClient
from mock_mcp.errors import (
    ClaimMismatch,
    ContractViolation,
    DaemonUnreachable,
    InternalError,
    InvalidMessage,
    InvalidParams,
    LeaseEnded,
    LimitExceeded,
    MethodNotFound,
    MocksMismatch,
    NotClaimed,
    ParseError,
    Unauthorized,
    UnknownBatch,
    UnknownRun,
    VersionMismatch,
)
from mock_mcp.types import Mock

pytestmark = pytest.mark.asyncio

HEALTH = {"ok": True, "pid": 1, "version": "1", "projectId": "p", "protocol": 1}
HANG_S = 10.0
NEVER = object()


class Peer:
    """An HTTP server that answers control calls from a list and writes down what it was asked."""

    def __init__(self) -> None:
        self.health: Any = HEALTH
        self.answers: list[Any] = []
        self.calls: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.connections = 0
        self.open = 0
        self.called = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.writers.append(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if head.startswith("GET /health "):
            answer: Any = self.health
            if answer is NEVER:
                await asyncio.Event().wait()
        else:
            lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            call = json.loads(await reader.readexactly(int(lines["Content-Length"])))
            self.calls.append(call)
            self.called.set()
            answer = self.answers.pop(0)
            if isinstance(answer, asyncio.Future):
                answer = await answer
            if answer is None:
                return False  # hang up
            if isinstance(answer, dict):
                answer = {"jsonrpc": "2.0", "id": call["id"], **answer}
        if isinstance(answer, bytes):
            writer.write(answer)
        else:
            body = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        return True


@pytest_asyncio.fixture
async def peer(short_dir: Path) -> AsyncIterator[Peer]:
    peer = Peer()
    path = short_dir / "peer.sock"
    server = await asyncio.start_unix_server(peer.serve, path)
    peer.path = str(path)
    yield peer
    server.close()
    for writer in peer.writers:
        writer.transport.abort()
    await server.wait_closed()
    path.unlink(missing_ok=True)
    await asyncio.sleep(0)


@pytest_asyncio.fixture
async def client(peer: Peer) -> AsyncIterator[DaemonClient]:
    async with DaemonClient(peer.path, "secret", timeout_s=HANG_S) as client:
        yield client
    gc.collect()  # a transport that was not closed warns, and a warning is an error


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body


CLAIM = {
    "batchId": "batch:r:1",
    "runId": "r",
    "requests": [{"requestId": "a", "endpoint": "/", "method": "GET", "extra": [1]}],
    "claimToken": "t",
    "leaseUntil": 5,
    "attempts": 1,
    "history": [{"outcome": "released", "adapterId": "x", "reason": "why"}],
}
STATUS = {
    "version": "1",
    "projectId": "p",
    "projectRoot": "/p",
    "pid": 1,
    "uptime": 5,
    "runs": 1,
    "pending": 2,
    "claimed": 3,
    "totalBatches": 4,
    "protocol": 1,
}
BATCH = {
    "batchId": "b",
    "runId": "r",
    "requests": [],
    "status": "claimed",
    "createdAt": 1,
    "claim": {"adapterId": "x", "leaseUntil": 2},
}
RUN = {"runId": "r", "pid": 1, "cwd": "/", "startedAt": "now", "lastSeen": 1, "pendingBatches": 0}

CALLS = [
    ("getStatus", {}, STATUS, lambda c: c.get_status()),
    ("listRuns", {}, {"runs": [RUN]}, lambda c: c.list_runs()),
    ("claimNextBatch", {"adapterId": "x"}, CLAIM, lambda c: c.claim_next_batch("x")),
    ("claimNextBatch", {"adapterId": "x"}, None, lambda c: c.claim_next_batch("x")),
    (
        "claimNextBatch",
        {"adapterId": "x", "runId": "r", "leaseMs": 5, "batchId": "b"},
        CLAIM,
        lambda c: c.claim_next_batch("x", run_id="r", lease_ms=5, batch_id="b"),
    ),
    (
        "claimNextBatch",
        {"adapterId": "x", "waitMs": 60_000},
        None,
        lambda c: c.claim_next_batch("x", wait_ms=60_000),
    ),
    ("getBatch", {"batchId": "b"}, BATCH, lambda c: c.get_batch("b")),
    ("listBatches", {}, {"batches": [BATCH]}, lambda c: c.list_batches()),
    (
        "listBatches",
        {"runId": "r", "status": "pending"},
        {"batches": []},
        lambda c: c.list_batches(run_id="r", status="pending"),
    ),
    (
        "provideBatch",
        {
            "adapterId": "x",
            "batchId": "b",
            "claimToken": "t",
            "mocks": [{"requestId": "a", "data": None, "status": 404, "delayMs": 2}],
        },
        {"ok": True, "message": "m", "delivered": False},
        lambda c: c.provide_batch("x", "b", "t", [Mock("a", None, 404, None, 2)]),
    ),
    (
        "releaseBatch",
        {"adapterId": "x", "batchId": "b", "claimToken": "t", "reason": "é"},
        {"ok": True},
        lambda c: c.release_batch("x", "b", "t", "é"),
    ),
    (
        "renewClaim",
        {"adapterId": "x", "batchId": "b", "claimToken": "t", "leaseMs": 9},
        {"leaseUntil": 7},
        lambda c: c.renew_claim("x", "b", "t", 9),
    ),
    ("waitForBatch", {"waitMs": 5}, {"pending": 0}, lambda c: c.wait_for_batch(5)),
    (
        "waitForBatch",
        {"waitMs": 5, "runId": "r"},
        {"pending": 1, "oldestCreatedAt": 3},
        lambda c: c.wait_for_batch(5, run_id="r"),
    ),
    ("shutdown", {}, {"ok": True}, lambda c: c.shutdown()),
]


@pytest.mark.parametrize(
    ("method", "params", "result", "call"), CALLS, ids=[f"{n}-{c[0]}" for n, c in enumerate(CALLS)]
)
async def test_a_call_is_json_rpc_with_the_token_in_a_header(  # noqa: PLR0917
    peer, client, method, params, result, call
):
    peer.answers = [{"result": result}]
    await call(client)
    (sent,) = peer.calls
    assert sent["jsonrpc"] == "2.0"
    assert sent["method"] == method
    assert sent.get("params", {}) == params
    assert "x-mock-mcp-token: secret\r\n" in peer.heads[-1]
    assert peer.heads[-1].startswith("POST /control HTTP/1.1\r\n")
    assert "secret" not in json.dumps(sent)


async def test_results_are_values(peer, client):
    peer.answers = [{"result": CLAIM}, {"result": None}, {"result": {"leaseUntil": 7}}]
    claim = await client.claim_next_batch("x")
    assert claim.requests == CLAIM["requests"]
    assert (claim.attempts, claim.history[0].reason) == (1, "why")
    assert await client.claim_next_batch("x") is None
    assert await client.renew_claim("x", "b", "t") == 7


async def test_fields_of_the_future_are_ignored(peer, client):
    peer.answers = [{"result": {**STATUS, "news": 1}, "more": 2}]
    assert (await client.get_status()).pid == 1


@pytest.mark.parametrize(
    ("error", "cls"),
    [
        ({"code": -32700}, ParseError),
        ({"code": -32600}, InvalidMessage),
        ({"code": -32601}, MethodNotFound),
        ({"code": -32602}, InvalidParams),
        ({"code": -32603}, InternalError),
        ({"code": -32000}, UnknownBatch),
        ({"code": -32000, "data": {"code": "unknown-run"}}, UnknownRun),
        ({"code": -32001}, ClaimMismatch),
        ({"code": -32002}, NotClaimed),
        ({"code": -32002, "data": {"code": "mocks-mismatch"}}, MocksMismatch),
        ({"code": -32003}, LeaseEnded),
        ({"code": -32005}, LimitExceeded),
        ({"code": -31999}, InternalError),
        ({"code": -32603, "data": {"code": "no-such-code"}}, InternalError),
        ({"code": -32603, "data": "not an object"}, InternalError),
    ],
)
async def test_an_error_is_typed_and_keeps_its_message(peer, client, error, cls):
    peer.answers = [{"error": {"message": "what happened", **error}}, {"result": STATUS}]
    with pytest.raises(cls, match="what happened") as caught:
        await client.get_status()
    assert type(caught.value) is cls
    await client.get_status()
    assert peer.connections == 1  # an error is an answer: the connection is kept


async def test_a_contract_violation_carries_what_is_wrong(peer, client):
    violation = {
        "requestId": "a",
        "pointer": "/body",
        "keyword": "type",
        "expected": "object",
        "actual": "1",
        "hint": "Send an object.",
    }
    data = {"violations": [violation], "accepted": ["b"]}
    peer.answers = [{"error": {"code": -32004, "message": "wrong", "data": data}}]
    with pytest.raises(ContractViolation) as caught:
        await client.provide_batch("x", "b", "t", [])
    assert caught.value.violations[0].hint == "Send an object."
    assert caught.value.accepted == ("b",)


async def test_a_refused_token_says_to_look_again(peer, client):
    error = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no"}})
    peer.answers = [http("401 Unauthorized", error.encode())]
    with pytest.raises(Unauthorized) as caught:
        await client.get_status()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "health",
    [
        {"ok": True, "pid": 1, "version": "0.5.2", "projectId": "p"},
        {**HEALTH, "protocol": 2},
        http("404 Not Found", b"{}"),
    ],
    ids=["npm", "newer", "no daemon"],
)
async def test_another_implementation_is_never_called(peer, client, health):
    peer.health = health
    with pytest.raises(VersionMismatch):
        await client.claim_next_batch("x")
    assert peer.calls == []


async def test_health_tells_of_any_implementation(peer, client):
    peer.health = {"ok": True, "pid": 1, "version": "0.5.2", "projectId": "p"}
    assert (await client.health()).protocol is None


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", b"not json"),
        http("200 OK", b"[]"),
        http("200 OK", b'{"result": {"version": 1}}'),
        http("200 OK", b"\xff"),
        http("200 OK", b"{}"),
        b"this is not HTTP\r\n\r\n",
    ],
    ids=["text", "array", "wrong fields", "not utf-8", "no result", "not http"],
)
async def test_nonsense_is_an_error_of_the_daemon(peer, client, answer):
    peer.answers = [answer, {"result": STATUS}]
    with pytest.raises(InternalError):
        await client.get_status()
    assert (await client.get_status()).pid == 1


async def test_a_closed_connection_is_unreachable_and_the_next_call_goes_on(peer, client):
    peer.answers = [None, {"result": STATUS}]
    with pytest.raises(DaemonUnreachable):
        await client.get_status()
    assert (await client.get_status()).pid == 1


async def test_nobody_listens(short_dir):
    async with DaemonClient(str(short_dir / "nobody.sock"), "t") as client:
        with pytest.raises(DaemonUnreachable, match="mock-mcp daemon"):
            await client.get_status()


async def test_a_silent_daemon_is_unreachable_after_the_timeout(peer):
    peer.health = NEVER
    async with DaemonClient(peer.path, "t", timeout_s=0.05) as client:
        with pytest.raises(DaemonUnreachable, match=r"0\.05 s"):
            await client.get_status()


async def test_a_wait_adds_to_the_timeout(peer):
    answer = asyncio.get_running_loop().create_future()
    peer.answers = [answer]
    async with DaemonClient(peer.path, "t", timeout_s=0.2) as client:
        await client.health()
        wait = asyncio.create_task(client.wait_for_batch(60_000))
        done, _ = await asyncio.wait({wait}, timeout=0.5)
        assert not done
        answer.set_result({"result": {"pending": 1}})
        assert (await wait).pending == 1


async def test_calls_one_after_the_other_share_a_connection(peer, client):
    peer.answers = [{"result": STATUS}] * 10
    for _ in range(10):
        await client.get_status()
    assert peer.connections == 1


async def test_calls_at_once_never_get_each_others_answers(peer, client):
    await client.health()
    answers = [asyncio.get_running_loop().create_future() for _ in range(20)]
    peer.answers = list(answers)
    calls = [asyncio.create_task(client.get_batch(str(n))) for n in range(20)]
    while len(peer.calls) < 20:
        peer.called.clear()
        await peer.called.wait()
    order = [call["params"]["batchId"] for call in peer.calls]
    for answer, batch_id in reversed(list(zip(answers, order, strict=True))):
        answer.set_result({"result": {**BATCH, "batchId": batch_id}})
    assert [(await call).batch_id for call in calls] == [str(n) for n in range(20)]
    assert peer.connections == 20


async def test_a_burst_does_not_keep_its_connections(peer, client):
    await test_calls_at_once_never_get_each_others_answers(peer, client)
    async with asyncio.timeout(HANG_S):
        while peer.open > 4:
            await asyncio.sleep(0.001)


async def test_an_abandoned_call_gives_its_answer_to_nobody(peer, client):
    late = asyncio.get_running_loop().create_future()
    peer.answers = [late, {"result": {**BATCH, "batchId": "second"}}]
    call = asyncio.create_task(client.get_batch("first"))
    await peer.called.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    second = await client.get_batch("second")
    late.set_result({"result": {**BATCH, "batchId": "first"}})
    assert second.batch_id == "second"
    assert peer.connections == 2


async def test_a_kept_connection_that_died_is_replaced(peer, client):
    peer.answers = [{"result": STATUS}] * 2
    await client.get_status()
    peer.writers[0].transport.abort()
    async with asyncio.timeout(HANG_S):
        while any(connection.usable for connection in client._idle):
            await asyncio.sleep(0)
    assert (await client.get_status()).pid == 1
    assert peer.connections == 2


async def test_after_close_every_call_is_refused(peer, client):
    await client.close()
    await client.close()
    with pytest.raises(DaemonUnreachable, match="closed"):
        await client.get_status()
    assert peer.connections == 0


async def test_close_ends_the_calls_under_way(peer, client):
    peer.answers = [asyncio.get_running_loop().create_future()]
    call = asyncio.create_task(client.wait_for_batch(60_000))
    await peer.called.wait()
    await client.close()
    done, _ = await asyncio.wait({call}, timeout=1)
    try:
        assert done
        assert isinstance(call.exception(), DaemonUnreachable)
    finally:
        call.cancel()
