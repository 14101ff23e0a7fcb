"""Ten thousand inputs that are almost right, on each channel of a daemon behind a real socket.

Whatever comes, the daemon answers as the protocol says, with a typed error or a documented close,
and goes on: somebody else's claimed batch is answered at the end as if nothing had been.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mock_mcp import errors
from mock_mcp.wire.channel import InvalidBatch
from support.daemons import ServedDaemon
from support.fuzz import mutate_bytes, mutate_message
from support.http import RawHttp, RpcError, connect, post, rpc
from support.stress import pick
from support.ws import BINARY, CLOSE, CONT, PING, TEXT, Closed, WsClient, encode_frame, request

INPUTS = pick(150, 10_000)
ROUND = 40
"""Inputs after which the run, with all that it parked, makes way for a new one."""

FROM_DAEMON = {"HELLO_ACK", "BATCH_MOCK_RESULT", "BATCH_MOCK_ERROR", "HEARTBEAT_ACK", "ERROR"}
FROM_CLIENT = {"HELLO_TEST", "BATCH_MOCK_REQUEST", "BATCH_RESULT_ACK", "BATCH_CANCEL", "HEARTBEAT"}
DOCUMENTED = {1000, 1002, 1005, 1006, 1007, 1008, 1009}
ECHO = 0
STATUSES = {200, 400, 401, 404, 413, 431}


def codes(cls: type[errors.MockMcpError]) -> set[str]:
    return {cls.code}.union(*map(codes, cls.__subclasses__()))


CODES = codes(errors.MockMcpError) | {InvalidBatch.code}
RPC_CODES = {-32700, -32600, -32601, -32602, -32000, -32001, -32002, -32003, -32004, -32005}
"""Everything but -32603: no input may make the daemon fail."""


@contextmanager
def bystander(daemon: ServedDaemon) -> Iterator[None]:
    """Somebody else's batch, claimed before and answered after; and a daemon that lives."""
    test = daemon.attach("bystander", capabilities=["ack", "errors"])
    test.submit([request()])
    test.settle()
    claim = daemon.control.call(
        "claimNextBatch", adapterId="keeper", runId="bystander", leaseMs=600_000
    )
    yield
    assert daemon.control.health()["ok"] is True
    assert "bystander" in [run["runId"] for run in daemon.control.call("listRuns")["runs"]]
    with pytest.raises(RpcError) as stale:
        daemon.control.provide({**claim, "claimToken": "guessed"}, [], "keeper")
    assert stale.value.code == -32001
    provided = daemon.control.provide(claim, [{"requestId": "a", "data": "mine"}], "keeper")
    assert provided["ok"]
    result = test.recv()
    assert (result["type"], result["mocks"]) == (
        "BATCH_MOCK_RESULT",
        [{"requestId": "a", "data": "mine"}],
    )


# -- The test channel -----------------------------------------------------------------------------

HELLO = {
    "type": "HELLO_TEST", "token": "?", "runId": "fuzz", "pid": 1, "cwd": "/",
    "testMeta": {"testFile": "test_a.py", "testName": "test_b"}, "protocol": 1,
    "capabilities": ["ack", "errors", "resume"], "session": 3, "openBatches": ["batch:fuzz:1"],
}  # fmt: skip
BATCH = {
    "type": "BATCH_MOCK_REQUEST", "runId": "fuzz", "batchId": "batch:fuzz:1",
    "requests": [
        {"requestId": "a", "endpoint": "/users", "method": "GET", "headers": {"accept": "*/*"}},
        {"requestId": "b", "endpoint": "/users", "method": "POST", "body": {"n": [1, None, "é"]},
         "metadata": {"schema": {"type": "object"}}, "contract": {"mode": "warn"}},
    ],
}  # fmt: skip
MESSAGES: list[dict[str, Any]] = [
    HELLO,
    BATCH,
    BATCH,
    {"type": "BATCH_RESULT_ACK", "batchId": "batch:fuzz:1"},
    {"type": "BATCH_CANCEL", "batchId": "batch:fuzz:1", "requestIds": ["a"]},
    {"type": "HEARTBEAT", "runId": "fuzz"},
]


def is_surely_wrong(text: bytes) -> bool:
    """Tell, without the daemon's code, whether nobody could take this for a message."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return not isinstance(value, dict) or value.get("type") not in FROM_CLIENT


def check_message(message: Any) -> bool:
    """Check what the daemon sent; tell whether it is a refusal."""
    assert message["type"] in FROM_DAEMON, message
    if message["type"] not in ("ERROR", "BATCH_MOCK_ERROR"):
        return False
    assert message["code"] in CODES - {"internal-error"}, message
    assert message["message"], message
    return True


def answer_to(client: WsClient, text: bytes, codes: set[int]) -> str:
    """Send one text and return how the daemon took it.

    ``taken``, ``refused``, ``closed``, or ``welcomed`` if it was a hello.
    """
    refused = welcomed = False
    try:
        client.send_text(text)
        for sync in (b"first", b"second"):  # a pong may be ahead of the answer it follows
            client.send_frame(PING, sync)
            while (frame := client.recv_frame()).payload != sync:
                assert frame.opcode == TEXT, frame
                message = json.loads(frame.payload)
                refused |= check_message(message)
                welcomed |= message["type"] == "HELLO_ACK"
    except Closed as closed:
        end = closed
    else:
        return "welcomed" if welcomed else "refused" if refused else "taken"
    assert end.code in codes, end
    assert end.reason, "a close without a reason"
    return "closed"


def test_messages(daemon: ServedDaemon, measured: Callable[..., None]) -> None:
    chance = random.Random(1)
    seen = {"taken": 0, "refused": 0, "closed": 0}
    with bystander(daemon):
        client: WsClient | None = None
        for number in range(INPUTS):
            if client is not None and number % ROUND == 0:
                client.close()
                client = None
            if client is None:
                wanted = chance.choice([[], ["errors"], ["ack", "errors", "resume"]])
                client = daemon.attach("fuzz", capabilities=wanted)
            text = mutate_message(chance, [*MESSAGES, {**HELLO, "token": daemon.token}])
            how = answer_to(client, text, {1008})
            seen[how] += 1
            assert how != "taken" or not is_surely_wrong(text), text
            if how == "closed":
                client.abort()
                client = None
    assert min(seen.values()) > INPUTS / 1000, seen
    measured(inputs=INPUTS, **seen)


def test_first_messages(daemon: ServedDaemon, measured: Callable[..., None]) -> None:
    """Before the hello every input ends the connection, unless it is still a good hello."""
    chance = random.Random(2)
    seen = {"welcomed": 0, "closed": 0}
    first = {**HELLO, "token": daemon.token}
    with bystander(daemon):
        for _ in range(INPUTS):
            text = mutate_message(chance, [first])
            with WsClient(daemon.path, daemon.token) as client:
                how = answer_to(client, text, {1008, 4001})
                assert how in seen, text
                seen[how] += 1
                good_token = json.dumps(daemon.token).encode() in text
                assert how == "closed" or (good_token and not is_surely_wrong(text)), text
    assert min(seen.values()) > INPUTS / 1000, seen
    measured(inputs=INPUTS, **seen)


def test_frames(daemon: ServedDaemon, measured: Callable[..., None]) -> None:
    """Frames whose bytes are wrong: the connection ends, with a close code of RFC 6455 or 1008."""
    chance = random.Random(3)
    text = json.dumps(BATCH).encode()
    goodbye = encode_frame(CLOSE, b"\x03\xe8bye")
    valid = [
        encode_frame(TEXT, text),
        encode_frame(TEXT, text[:9], fin=False) + encode_frame(CONT, text[9:]),
        encode_frame(PING, b"ping"),
        encode_frame(BINARY, text),
        goodbye,
    ]
    ends: dict[int, int] = {}
    with bystander(daemon):
        for _ in range(INPUTS):
            frames = chance.choices(valid, k=2)
            data = b"".join(mutate_bytes(chance, frame) for frame in frames)
            with WsClient(daemon.path, daemon.token) as client:
                client.hello("fuzz", capabilities=["errors"])
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sock.sendall(data)
                    client.sock.shutdown(socket.SHUT_WR)
                code = end_of(client)
                if code not in DOCUMENTED:
                    assert goodbye in frames, data  # our own code, sent back as RFC 6455 asks
                    code = ECHO
                ends[code] = ends.get(code, 0) + 1
    measured(inputs=INPUTS, **{f"close_{code}": count for code, count in sorted(ends.items())})


def end_of(client: WsClient) -> int:
    """Return the close code; every message before it is one of the protocol."""
    try:
        while True:
            frame = client.recv_frame()
            if frame.opcode == TEXT:
                check_message(json.loads(frame.payload))
    except Closed as closed:
        return closed.code


# -- The control channel --------------------------------------------------------------------------


def calls(claim: dict[str, Any]) -> list[dict[str, Any]]:
    who = {name: claim[name] for name in ("batchId", "claimToken")} | {"adapterId": "fuzz"}
    mocks = [{"requestId": "a", "data": {"x": [1]}, "status": 200, "headers": {"x": "y"}},
             {"requestId": "b", "data": None, "delayMs": 1}]  # fmt: skip
    made: list[tuple[str, dict[str, Any]]] = [
        ("getStatus", {}),
        ("listRuns", {}),
        ("claimNextBatch", {"adapterId": "fuzz", "runId": "fuzz", "leaseMs": 1000}),
        ("getBatch", {"batchId": claim["batchId"]}),
        ("provideBatch", {**who, "mocks": mocks}),
        ("provideBatch", {**who, "mocks": mocks}),
        ("releaseBatch", {**who, "reason": "too hard"}),
        ("renewClaim", {**who, "leaseMs": 1000}),
        ("waitForBatch", {"runId": "fuzz", "waitMs": 0}),
        ("listBatches", {"runId": "fuzz", "status": "pending"}),
    ]
    return [{"jsonrpc": "2.0", "id": 7, "method": m, "params": p} for m, p in made]


def check_answer(status: int, body: Any) -> bool:
    """Check one answer of the control channel; tell whether it is a refusal."""
    assert status in STATUSES, (status, body)
    assert body["jsonrpc"] == "2.0"
    assert ("result" in body) != ("error" in body), body
    if "error" not in body:
        assert status == 200
        return False
    error = body["error"]
    assert error["code"] in RPC_CODES, body
    assert error["message"], body
    assert error["data"]["code"] in CODES, body
    return True


def is_surely_no_call(text: bytes) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return not isinstance(value, dict) or value.get("jsonrpc") != "2.0" or "method" not in value


def test_calls(start_daemon: Callable[..., ServedDaemon], measured: Callable[..., None]) -> None:
    chance = random.Random(4)
    seen = {"done": 0, "refused": 0}
    daemon = start_daemon(wait_max_s=0.01)  # a mutated wait is refused or short
    with bystander(daemon):
        corpus: list[dict[str, Any]] = []
        http = RawHttp(daemon.path)
        for number in range(INPUTS):
            if number % ROUND == 0:
                test = daemon.attach("fuzz")
                test.submit(BATCH["requests"])
                test.submit(BATCH["requests"])
                test.settle()
                claim = daemon.control.call("claimNextBatch", adapterId="fuzz", runId="fuzz")
                corpus = calls(claim)
            text = mutate_message(chance, corpus)
            http.send(post(daemon.token, text))
            answer = http.read()
            refused = check_answer(answer.status, answer.body)
            seen["refused" if refused else "done"] += 1
            assert refused or not is_surely_no_call(text), text
        http.close()
    assert min(seen.values()) > INPUTS / 1000, seen
    measured(inputs=INPUTS, **seen)


def test_http(daemon: ServedDaemon, measured: Callable[..., None]) -> None:
    """Bytes that are not quite HTTP: answered with a typed error, or closed when they end early."""
    chance = random.Random(5)
    upgrade = b"GET /test HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    status = rpc("getStatus")
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(status), status)
    valid = [
        post(daemon.token, status),
        post(None, status),
        post(None, b"", method="GET", path="/health"),
        post(daemon.token, chunks, headers={"Transfer-Encoding": "chunked"}, length=False),
        post(daemon.token, status, headers={"Expect": "100-continue"}),
        upgrade + key,
    ]
    seen = {"answered": 0, "refused": 0, "closed": 0}
    with bystander(daemon):
        for _ in range(INPUTS):
            data = mutate_bytes(chance, chance.choice(valid))
            said = exchange(daemon.path, data)
            seen["closed"] += not said
            for part in answers(said):
                seen["refused" if check_answer_bytes(*part) else "answered"] += 1
    assert min(seen.values()) > INPUTS / 1000, seen
    measured(inputs=INPUTS, **seen)


def exchange(path: str, data: bytes) -> bytes:
    """Send bytes and their end; return all that comes until the daemon closes."""
    sock = connect(path)
    said = b""
    with sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while part := sock.recv(65536):
            said += part
    return said


def answers(said: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield status and body of each HTTP answer."""
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 "), said
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        size = int(fields.get(b"content-length", b"0"))
        code = int(lines[0].split()[1])
        if code == 101:
            return  # what follows are frames
        yield code, rest[:size]
        said = rest[size:]


def check_answer_bytes(status: int, body: bytes) -> bool:
    if status == 100:
        return False
    if status == 426 or (status == 400 and not body.startswith(b"{")):
        return bool(body)  # a handshake of another kind: RFC 6455 section 4.4
    value = json.loads(body)
    return False if value.get("ok") is True else check_answer(status, value)
