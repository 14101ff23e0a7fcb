"""Hostile and broken input: answered as the protocol says, changes nothing, kills nothing.

Every test compares all the daemon shows of its state before and after, and uses the daemon again.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.daemons import ServedDaemon
from support.http import RawHttp, post, rpc
from support.ws import BINARY, CONT, PING, TEXT, Closed, WsClient, encode_frame, request

StartDaemon = Callable[..., ServedDaemon]
MIB = 1024 * 1024

HOSTILE_JSON = {
    "malformed": b'{"a": ',
    "trailing comma": b'{"a": [1,]}',
    "two values": b"{} {}",
    "single quotes": b"{'a': 1}",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "control character": b'{"a": "\x01"}',
    "lone surrogate, escaped": b'{"a": "\\ud800"}',
    "low surrogate first": b'{"a": "\\udc00\\ud800"}',
    "lone surrogate in a key": b'{"\\ud800": 1}',
    "lone surrogate, encoded": b'{"a": "\xed\xa0\x80"}',
    "not UTF-8": b'{"a": "\xff"}',
    "cut UTF-8": b'{"a": "\xf0\x9f\x98"}',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "5000-digit integer": b'{"a": ' + b"9" * 5000 + b"}",
    "huge float": b'{"a": 1e999}',
    "100000 deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100000 deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100000 open brackets": b"[" * 100_000,
    "300 deep": b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}",
    "leading zero": b'{"a": 01}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "nothing": b"",
}


@pytest.fixture
def busy(daemon: ServedDaemon) -> ServedDaemon:
    """A daemon with a run, a claimed batch and a parked one."""
    return make_busy(daemon)


def make_busy(daemon: ServedDaemon) -> ServedDaemon:
    client = daemon.attach("bystander")
    client.submit([request()])
    client.submit([request()])
    client.settle()
    daemon.control.claim()
    return daemon


@contextmanager
def nothing_changes(daemon: ServedDaemon) -> Iterator[None]:
    before = daemon.control.snapshot()
    yield
    assert daemon.control.snapshot() == before
    assert daemon.control.health()["ok"] is True


def refusal(client: WsClient) -> dict[str, Any]:
    """Return the ERROR message that must come, and check that the connection stays open."""
    message = client.recv()
    assert message["type"] == "ERROR", message
    assert set(message) == {"type", "code", "message"}
    assert message["code"]
    assert message["message"]
    client.settle()
    return message


class TestTestChannel:
    @pytest.mark.parametrize("name", HOSTILE_JSON)
    def test_text_that_is_no_message(self, busy: ServedDaemon, name: str) -> None:
        client = busy.attach()
        with nothing_changes(busy):
            client.send_text(HOSTILE_JSON[name])
            refusal(client)
        client.submit([request()])
        assert busy.control.claim(runId="run-1")["requests"] == [request()]

    @pytest.mark.parametrize("name", HOSTILE_JSON)
    def test_the_same_before_hello(self, busy: ServedDaemon, name: str) -> None:
        client = busy.ws()
        with nothing_changes(busy):
            client.send_text(HOSTILE_JSON[name])
            assert client.expect_close() == (1008, "Expected HELLO_TEST")

    @pytest.mark.parametrize("name", HOSTILE_JSON)
    def test_the_same_inside_a_batch(self, busy: ServedDaemon, name: str) -> None:
        """Opaque values are checked too; a test must not wait for a batch that was not parked."""
        client = busy.attach(capabilities=["errors"])
        item = b'{"requestId":"a","endpoint":"/","method":"GET","metadata":' + HOSTILE_JSON[name]
        head = (
            b'{"type":"BATCH_MOCK_REQUEST","runId":"run-1","batchId":"batch:run-1:1","requests":['
        )
        with nothing_changes(busy):
            client.send_text(head + item + b"}]}")
            assert client.recv()["type"] in ("ERROR", "BATCH_MOCK_ERROR")
            client.settle()

    @pytest.mark.parametrize(
        "message",
        [
            "null",
            "[]",
            "1",
            '"HEARTBEAT"',
            "{}",
            '{"type":null}',
            '{"type":7}',
            '{"type":"NOBODY_KNOWS"}',
            '{"type":"HELLO_ACK","runId":"x"}',
            '{"type":"BATCH_MOCK_RESULT","batchId":"batch:bystander:1","mocks":[]}',
            '{"type":"BATCH_RESULT_ACK"}',
            '{"type":"BATCH_RESULT_ACK","batchId":null}',
            '{"type":"BATCH_RESULT_ACK","batchId":7}',
            '{"type":"BATCH_CANCEL"}',
            '{"type":"BATCH_CANCEL","batchId":["batch:run-1:1"]}',
            '{"type":"BATCH_CANCEL","batchId":"batch:run-1:1","requestIds":"a"}',
            '{"type":"BATCH_CANCEL","batchId":"batch:run-1:1","requestIds":[null]}',
            '{"type":"HEARTBEAT","runId":7}',
        ],
    )
    def test_a_message_of_the_wrong_shape(self, busy: ServedDaemon, message: str) -> None:
        client = busy.attach()
        with nothing_changes(busy):
            client.send_text(message)
            refusal(client)

    BATCHES: tuple[Any, ...] = (
        None,
        {},
        "x",
        [],
        [None],
        [1],
        ["a"],
        [[]],
        [{}],
        [request(), None],
        [{"requestId": "a", "endpoint": "/"}],
        [{"requestId": "a", "method": "GET"}],
        [{"endpoint": "/", "method": "GET"}],
        [request(None)],  # type: ignore[arg-type]
        [request(7)],  # type: ignore[arg-type]
        [request("")],
        [request("x" * 100_000)],
        [request(endpoint=None)],
        [request(endpoint=["/"])],
        [request(method=7)],
        [request("a"), request("b"), request("a")],
    )

    @pytest.mark.parametrize("requests", BATCHES)
    def test_a_bad_batch_closes_a_client_without_errors(
        self, busy: ServedDaemon, requests: Any
    ) -> None:
        client = busy.attach()
        with nothing_changes_but_runs(busy):
            client.submit(requests)
            code, reason = client.expect_close()
            assert code == 1008
            assert reason

    @pytest.mark.parametrize("requests", BATCHES)
    def test_a_bad_batch_is_refused_by_name(self, busy: ServedDaemon, requests: Any) -> None:
        client = busy.attach(capabilities=["errors"])
        with nothing_changes(busy):
            client.submit(requests, batchId="batch:run-1:5")
            message = client.recv()
            assert (message["type"], message["batchId"]) == ("BATCH_MOCK_ERROR", "batch:run-1:5")
            assert message["code"]
            assert message["message"]
            client.settle()
        client.submit([request()], batchId="batch:run-1:5")
        assert busy.control.claim(runId="run-1")["batchId"] == "batch:run-1:5"

    @pytest.mark.parametrize("batch_id", [7, ["x"], {}, True])
    def test_a_batch_id_of_the_wrong_type(self, busy: ServedDaemon, batch_id: Any) -> None:
        client = busy.attach()
        with nothing_changes_but_runs(busy):
            client.submit([request()], batchId=batch_id)
            assert client.expect_close()[0] == 1008

    def test_a_batch_without_requests(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        with nothing_changes_but_runs(busy):
            client.send({"type": "BATCH_MOCK_REQUEST", "runId": "run-1"})
            assert client.expect_close()[0] == 1008

    def test_too_many_requests(self, start_daemon: StartDaemon) -> None:
        daemon = make_busy(start_daemon(batch_requests=3))
        client = daemon.attach(capabilities=["errors"])
        with nothing_changes(daemon):
            client.submit([request(str(n)) for n in range(4)], batchId="batch:run-1:1")
            assert client.recv()["type"] == "BATCH_MOCK_ERROR"

    def test_too_many_parked_batches(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(parked_batches=2)
        client = daemon.attach(capabilities=["errors"])
        client.submit([request()])
        client.submit([request()])
        client.settle()
        with nothing_changes(daemon):
            client.submit([request()], batchId="batch:run-1:9")
            assert client.recv()["type"] == "BATCH_MOCK_ERROR"
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1"})
        client.submit([request()], batchId="batch:run-1:9")
        client.settle()
        assert daemon.control.call("getStatus")["pending"] == 2

    def test_a_batch_id_that_is_taken(self, busy: ServedDaemon) -> None:
        client = busy.attach(capabilities=["errors"])
        client.submit([request("a")], batchId="batch:run-1:1")
        client.settle()
        with nothing_changes(busy):
            client.submit([request("b")], batchId="batch:run-1:1")
            assert client.recv()["type"] == "BATCH_MOCK_ERROR"

    def test_a_batch_id_of_a_run_whose_name_continues_this_one(self, busy: ServedDaemon) -> None:
        longer = busy.attach("run-1:2")
        longer.submit([request("theirs")])
        longer.settle()
        client = busy.attach("run-1", capabilities=["errors"])
        with nothing_changes(busy):
            client.submit([request("theirs")], batchId="batch:run-1:2:1")
            assert client.recv()["type"] == "BATCH_MOCK_ERROR"

    def test_a_second_hello(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        hello = {"type": "HELLO_TEST", "token": client.token, "pid": 1, "cwd": "/"}
        for run_id in ("run-1", "bystander", "new"):
            with nothing_changes(busy):
                client.send(hello | {"runId": run_id})
                refusal(client)

    def test_an_impossible_run_id(self, busy: ServedDaemon) -> None:
        for run_id in ("", "x" * 100_000):
            client = busy.ws()
            with nothing_changes(busy):
                client.send(
                    {"type": "HELLO_TEST", "token": client.token, "pid": 1, "cwd": "/"}
                    | {"runId": run_id}
                )
                assert client.expect_close()[0] == 1008

    def test_binary_messages(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        with nothing_changes(busy):
            client.send_frame(BINARY, b'{"type":"HEARTBEAT","runId":"run-1"}')
            refusal(client)

    def test_a_64_mb_frame(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        with nothing_changes_but_runs(busy):
            flood(client, encode_frame(TEXT, b"x" * (64 * MIB)))
            assert close_code(client) == 1009

    def test_64_mb_in_fragments(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        part = b"x" * MIB
        frames = encode_frame(TEXT, part, fin=False) + 63 * encode_frame(CONT, part, fin=False)
        with nothing_changes_but_runs(busy):
            flood(client, frames)
            assert close_code(client) == 1009

    def test_a_frame_that_says_it_is_endless(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        with nothing_changes_but_runs(busy):
            client.sock.sendall(b"\x81\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0")
            assert close_code(client) == 1009

    @pytest.mark.parametrize(
        "frame",
        [
            b"\x81\x05hello",  # not masked
            b"\xc1\x80\0\0\0\0",  # a compressed frame nobody agreed on
            b"\x83\x80\0\0\0\0",  # a reserved opcode
            b"\x80\x80\0\0\0\0",  # a continuation of nothing
            b"\x09\x80\0\0\0\0",  # a fragmented ping
            pytest.param(encode_frame(PING, b"x" * 126), id="a ping of 126 bytes"),  # a random mask
            b"\x88\x81\0\0\0\0\x03",  # half a close code
        ],
    )
    def test_frames_that_break_the_protocol(self, busy: ServedDaemon, frame: bytes) -> None:
        client = busy.attach()
        with nothing_changes_but_runs(busy):
            client.sock.sendall(frame)
            assert close_code(client) in (1002, 1006)

    def test_a_flood_of_pings(self, busy: ServedDaemon) -> None:
        client = busy.attach()
        with nothing_changes(busy):
            for _ in range(2000):
                client.send_frame(PING, b"")
            for _ in range(2000):
                client.recv_frame()

    def test_a_client_that_never_reads_is_cut_off(self, start_daemon: StartDaemon) -> None:
        daemon = make_busy(start_daemon(write_buffer_bytes=100_000))
        client = daemon.attach()
        with nothing_changes_but_runs(daemon):
            client.sock.settimeout(10)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                flood_for_ever(client)

    def test_a_client_that_pings_and_never_reads_is_cut_off(
        self, start_daemon: StartDaemon
    ) -> None:
        daemon = make_busy(start_daemon(write_buffer_bytes=100_000))
        client = daemon.attach()
        pings = encode_frame(PING, b"x" * 125) * 100_000
        with nothing_changes_but_runs(daemon):
            client.sock.settimeout(10)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                client.sock.sendall(pings)

    @pytest.mark.parametrize(
        "lines",
        [
            "Upgrade: websocket",
            "Upgrade: websocket\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13",
            f"Upgrade: websocket\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 7",
            "Upgrade: h2c",
        ],
    )
    def test_a_bad_handshake(self, busy: ServedDaemon, lines: str) -> None:
        head = f"GET /test HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{lines}\r\n\r\n"
        with nothing_changes(busy), RawHttp(busy.path) as http:
            http.send(head.encode())
            line = http.file.readline()
            assert line.startswith(b"HTTP/1.1 4"), line


class TestControlChannel:
    @pytest.mark.parametrize("name", HOSTILE_JSON)
    def test_a_body_that_is_no_call(self, busy: ServedDaemon, name: str) -> None:
        with nothing_changes(busy):
            answer = busy.control.http(HOSTILE_JSON[name])
            if "deep" in name and "300" in name:
                assert answer.body["error"]["code"] in (-32005, -32600, -32700)
            else:
                assert answer.status in (200, 400)
                assert answer.body["error"]["code"] in (-32700, -32600, -32005)
            assert answer.body["id"] is None

    @pytest.mark.parametrize("name", HOSTILE_JSON)
    def test_the_same_as_a_mock(self, busy: ServedDaemon, name: str) -> None:
        claim = claimed(busy)
        call = (
            b'{"jsonrpc":"2.0","id":1,"method":"provideBatch","params":{"adapterId":"adapter-1",'
            b'"batchId":"%s","claimToken":"%s","mocks":[{"requestId":"a","data":%s}]}}'
        ) % (claim["batchId"].encode(), claim["claimToken"].encode(), HOSTILE_JSON[name])
        with nothing_changes(busy):
            answer = busy.control.http(call)
            assert answer.body["error"]["code"] in (-32700, -32600, -32005, -32602)
        provided = busy.control.provide(claim, [{"requestId": "a", "data": "good"}])
        assert provided["ok"] is True

    @pytest.mark.parametrize("name", ["malformed", "100000 deep", "NaN", "5000-digit integer"])
    def test_the_same_as_an_id(self, busy: ServedDaemon, name: str) -> None:
        call = b'{"jsonrpc":"2.0","method":"getStatus","id":' + HOSTILE_JSON[name] + b"}"
        with nothing_changes(busy):
            assert "error" in busy.control.http(call).body

    def test_no_token(self, busy: ServedDaemon) -> None:
        with nothing_changes(busy):
            for body in (rpc("shutdown"), b"", b"x" * MIB, HOSTILE_JSON["100000 deep"]):
                assert busy.control.http(body, token=None).status == 401
                assert busy.control.http(body, token="wrong").status == 401

    def test_a_64_mb_body(self, busy: ServedDaemon) -> None:
        with nothing_changes(busy):
            answer = busy.control.http(b" " * (64 * MIB))
            assert answer.status == 413
            assert answer.body["id"] is None

    def test_a_64_mb_body_without_its_length(self, busy: ServedDaemon) -> None:
        head = post(busy.token, b"", headers={"Transfer-Encoding": "chunked"}, length=False)
        with nothing_changes(busy), RawHttp(busy.path) as http:
            http.send(head)
            chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
            for _ in range(64):
                http.send(chunk)
            http.send(b"0\r\n\r\n")
            assert http.read().status == 413

    def test_a_64_mb_body_without_token(self, busy: ServedDaemon) -> None:
        with nothing_changes(busy):
            assert busy.control.http(b" " * (64 * MIB), token=None).status == 401

    def test_an_endless_head(self, busy: ServedDaemon) -> None:
        with nothing_changes(busy), RawHttp(busy.path) as http:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                http.send(b"POST /control HTTP/1.1\r\nX: " + b"x" * (8 * MIB))
            answer = http.read()
            assert answer.status in (400, 431)
            assert answer.body["id"] is None

    def test_endless_trailers(self, busy: ServedDaemon) -> None:
        head = post(busy.token, b"", headers={"Transfer-Encoding": "chunked"}, length=False)
        with nothing_changes(busy), RawHttp(busy.path) as http:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                http.send(head + b"0\r\n")
                for number in range(200):
                    http.send(b"X-%d: %b\r\n" % (number, b"x" * 50_000))
            answer = http.read()
            assert answer.status in (400, 431)
            assert answer.body["id"] is None

    def test_a_body_that_never_ends_is_abandoned(self, busy: ServedDaemon) -> None:
        with nothing_changes(busy), RawHttp(busy.path) as http:
            http.send(post(busy.token, b"", headers={"Content-Length": "100"}, length=False))
            http.send(rpc("claimNextBatch", {"adapterId": "a"})[:50])

    @pytest.mark.parametrize(
        "head",
        [
            b"Content-Length: -1",
            b"Content-Length: x",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Content-Length: 99999999999999999999999",
        ],
    )
    def test_an_impossible_length(self, busy: ServedDaemon, head: bytes) -> None:
        with nothing_changes(busy), RawHttp(busy.path) as http:
            token = busy.token.encode()
            http.send(
                b"POST /control HTTP/1.1\r\nHost: x\r\nx-mock-mcp-token: " + token + b"\r\n"
                + head + b"\r\n\r\n"
            )  # fmt: skip
            assert http.read().status == 400

    @pytest.mark.parametrize("values", [[None], [1], "x", {"a": 1}, None])
    @pytest.mark.parametrize(
        "method", ["claimNextBatch", "getBatch", "provideBatch", "releaseBatch", "renewClaim"]
    )
    def test_params_of_the_wrong_shape(self, busy: ServedDaemon, method: str, values: Any) -> None:
        with nothing_changes(busy):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": values}
            answer = busy.control.http(json.dumps(body).encode())
            assert (answer.status, answer.body["error"]["code"]) == (200, -32602)
            assert answer.body["id"] == 1


def test_large_hostile_bodies_do_not_starve_others(busy: ServedDaemon) -> None:
    """DESIGN section 4: the event loop never blocks; /health answers within its 2 s."""
    text = b'["' + b"\\n" * (7 * MIB) + b'",' + b"[]," * 300 + b"1]"
    brackets = b"[" + b"[]," * (5 * MIB) + b"1]"
    for body in (text, brackets):
        with RawHttp(busy.path) as http:
            http.send(post(busy.token, body))
            with RawHttp(busy.path) as other:
                other.sock.settimeout(20)  # ten times the figure: machines are shared
                other.send(post(None, b"", method="GET", path="/health"))
                assert other.read().body["ok"] is True
            assert http.read().status == 400


def nothing_changes_but_runs(daemon: ServedDaemon) -> Any:
    """As `nothing_changes`, but the run of a closed connection may be gone (it has no batches)."""

    @contextmanager
    def check() -> Iterator[None]:
        before = daemon.control.snapshot()
        yield
        after = daemon.control.snapshot()
        assert after["batches"] == before["batches"]
        for name in ("pending", "claimed", "totalBatches"):
            assert after["status"][name] == before["status"][name]
        assert "bystander" in [run["runId"] for run in after["runs"]]
        assert daemon.control.health()["ok"] is True

    return check()


def flood_for_ever(client: WsClient) -> None:
    while True:
        client.sock.sendall(1000 * encode_frame(TEXT, b"x"))


def flood(client: WsClient, data: bytes) -> None:
    """Send in the background whatever the daemon still takes."""

    def send() -> None:
        with contextlib.suppress(OSError):
            client.sock.sendall(data)

    threading.Thread(target=send, daemon=True).start()


def close_code(client: WsClient) -> int:
    try:
        while True:
            client.recv_frame()
    except Closed as closed:
        return closed.code


def claimed(daemon: ServedDaemon) -> dict[str, Any]:
    client = daemon.attach("claimed")
    client.submit([request()])
    return daemon.control.claim(runId="claimed")
