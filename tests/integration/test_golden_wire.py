"""The test channel as DESIGN section 3 fixes it, spoken by a client without any extension field."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from support.daemons import ServedDaemon
from support.http import RawHttp, RpcError, post, rpc
from support.stress import STRESS
from support.ws import PING, PONG, TEXT, Frame, request

StartDaemon = Callable[..., ServedDaemon]


class TestHandshake:
    def test_hello_is_acknowledged(self, daemon: ServedDaemon) -> None:
        client = daemon.ws()
        ack = client.hello("run-1")
        assert ack["type"] == "HELLO_ACK"
        assert ack["runId"] == "run-1"
        assert type(ack["protocol"]) is int
        assert ack["daemonId"]
        assert ack["version"] == daemon.control.health()["version"]
        assert set(ack["capabilities"]) == {"ack", "errors", "resume"}
        assert None not in ack.values()

    def test_daemon_id_is_new_for_each_daemon(self, start_daemon: StartDaemon) -> None:
        first = start_daemon()
        one = first.ws().hello("run-1")["daemonId"]
        assert first.ws().hello("run-2")["daemonId"] == one
        first.run(first.daemon.stop())
        assert start_daemon().ws().hello("run-1")["daemonId"] != one

    def test_a_run_is_listed_as_its_hello_described_it(self, daemon: ServedDaemon) -> None:
        before = time.time() * 1000
        daemon.attach(testMeta={"testFile": "a.test.ts", "testName": "works"})
        (run,) = daemon.control.call("listRuns")["runs"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", run["startedAt"])
        assert before - 1000 < run["lastSeen"] < time.time() * 1000 + 1000
        assert {k: v for k, v in run.items() if k not in ("startedAt", "lastSeen")} == {
            "runId": "run-1",
            "pid": 4242,
            "cwd": "/",
            "pendingBatches": 0,
            "testMeta": {"testFile": "a.test.ts", "testName": "works"},
        }

    def test_null_means_absent(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(
            testMeta=None, protocol=None, capabilities=None, session=None, openBatches=None
        )
        (run,) = daemon.control.call("listRuns")["runs"]
        assert "testMeta" not in run
        client.submit(
            [request(body=None, headers=None, metadata=None, contract=None)], batchId=None
        )
        claim = daemon.control.claim()
        assert claim["requests"] == [request()]
        assert claim["batchId"] == "batch:run-1:1"

    def test_test_meta_omits_what_is_absent(self, daemon: ServedDaemon) -> None:
        daemon.attach(testMeta={"testFile": "a.test.ts", "testName": None})
        (run,) = daemon.control.call("listRuns")["runs"]
        assert run["testMeta"] == {"testFile": "a.test.ts"}

    def test_unknown_fields_of_a_message_are_ignored(self, daemon: ServedDaemon) -> None:
        daemon.attach(pid=1.5, future={"a": 1}, protocol=99, capabilities=["future"])

    def test_compression_offer_is_declined(self, daemon: ServedDaemon) -> None:
        offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
        client = daemon.ws(headers=[offer])
        assert client.response.startswith("HTTP/1.1 101 ")
        assert "sec-websocket-extensions" not in client.response.lower()
        client.hello("run-1")
        client.submit([request(metadata={"text": "a" * 100_000})])
        claim = daemon.control.claim()
        daemon.control.provide(claim, [{"requestId": "a", "data": "b" * 100_000}])
        assert client.recv()["mocks"] == [{"requestId": "a", "data": "b" * 100_000}]

    def test_silence_is_closed(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(hello_timeout_s=0.05)
        assert daemon.ws().expect_close() == (1008, "HELLO timeout")
        client = daemon.ws()
        client.send_frame(PING, b"x")
        assert client.recv_frame() == Frame(True, PONG, b"x")
        assert client.expect_close() == (1008, "HELLO timeout")

    def test_the_timeout_ends_with_hello(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(hello_timeout_s=0.2)
        client = daemon.attach()
        assert daemon.ws().expect_close() == (1008, "HELLO timeout")  # one whole timeout later
        client.settle()

    @pytest.mark.parametrize("token", ["", "wrong", "ünïcode", "0" * 64])
    def test_a_wrong_token_is_closed(self, daemon: ServedDaemon, token: str) -> None:
        client = daemon.ws()
        client.send({"type": "HELLO_TEST", "token": token, "runId": "r", "pid": 1, "cwd": "/"})
        assert client.expect_close() == (1008, "Invalid token")
        assert daemon.control.call("listRuns") == {"runs": []}

    def test_what_follows_a_wrong_token_is_not_served(self, daemon: ServedDaemon) -> None:
        client = daemon.ws()
        hello = {"type": "HELLO_TEST", "runId": "r", "pid": 1, "cwd": "/"}
        client.send(hello | {"token": "wrong"})
        client.send(hello | {"token": daemon.token})
        assert client.expect_close() == (1008, "Invalid token")
        assert daemon.control.call("listRuns") == {"runs": []}

    @pytest.mark.parametrize(
        "first",
        [
            '{"type":"HEARTBEAT","runId":"r"}',
            '{"type":"BATCH_MOCK_REQUEST","runId":"r","requests":[]}',
            '{"type":"NOBODY_KNOWS"}',
            "{}",
            "[]",
            "null",
            "not json",
            '{"type":"HELLO_TEST"}',
            '{"type":"HELLO_TEST","token":null,"runId":"r","pid":1,"cwd":"/"}',
            '{"type":"HELLO_TEST","token":"t","runId":7,"pid":1,"cwd":"/"}',
            '{"type":"HELLO_TEST","token":"t","runId":"r","pid":"1","cwd":"/"}',
            '{"type":"HELLO_TEST","token":"t","runId":"r","pid":true,"cwd":"/"}',
            '{"type":"HELLO_TEST","token":"t","runId":"r","pid":1}',
            '{"type":"HELLO_TEST","token":"t","runId":"r","pid":1,"cwd":"/","capabilities":"ack"}',
            '{"type":"HELLO_TEST","token":"t","runId":"r","pid":1,"cwd":"/","session":"1"}',
        ],
    )
    def test_anything_but_hello_first_is_closed(self, daemon: ServedDaemon, first: str) -> None:
        client = daemon.ws()
        client.send_text(first)
        assert client.expect_close() == (1008, "Expected HELLO_TEST")
        assert daemon.control.call("listRuns") == {"runs": []}

    def test_a_binary_first_frame_is_closed(self, daemon: ServedDaemon) -> None:
        client = daemon.ws()
        client.send_frame(2, b"{}")
        assert client.expect_close() == (1008, "Expected HELLO_TEST")


class TestBatches:
    def test_a_batch_is_answered(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request("a"), request("b", method="POST", body={"x": 1})])
        claim = daemon.control.claim()
        assert claim["batchId"] == "batch:run-1:1"
        assert claim["runId"] == "run-1"
        assert claim["requests"] == [request("a"), request("b", method="POST", body={"x": 1})]
        provided = daemon.control.provide(
            claim,
            [
                {
                    "requestId": "b",
                    "data": None,
                    "status": 404,
                    "headers": {"x-a": "1"},
                    "delayMs": 5,
                },
                {"requestId": "a", "data": {"name": "Zoë"}},
            ],
        )
        assert provided["ok"] is True
        assert provided["delivered"] is True
        assert client.recv() == {
            "type": "BATCH_MOCK_RESULT",
            "batchId": "batch:run-1:1",
            "mocks": [
                {"requestId": "a", "data": {"name": "Zoë"}},
                {
                    "requestId": "b",
                    "data": None,
                    "status": 404,
                    "headers": {"x-a": "1"},
                    "delayMs": 5,
                },
            ],
        }
        client.settle()

    def test_absent_fields_of_a_mock_are_omitted_never_null(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        mock = {"requestId": "a", "data": 1, "status": None, "headers": None, "delayMs": None}
        daemon.control.provide(daemon.control.claim(), [mock])
        text = client.recv_text()
        assert "null" not in text
        assert json.loads(text)["mocks"] == [{"requestId": "a", "data": 1}]

    def test_batch_ids_count_up(self, daemon: ServedDaemon) -> None:
        client = daemon.attach("run:with:colons")
        for number in (1, 2, 3):
            client.submit([request()])
            assert daemon.control.claim()["batchId"] == f"batch:run:with:colons:{number}"

    def test_a_clients_own_batch_id_is_kept(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()], batchId="batch:run-1:mine")
        assert daemon.control.claim()["batchId"] == "batch:run-1:mine"

    def test_everything_in_a_request_is_echoed(self, daemon: ServedDaemon) -> None:
        odd = {
            "endpoint": "/é?q=\u2028",
            "requestId": "a",
            "method": "whatever it says",
            "body": {"z": 1, "a": [None, True, 1.0, 1e2, -0.0, "\u0000", "😀", {}]},
            "headers": {"X-Any": ["1", None, {"deep": 1}]},
            "metadata": {"schema": {"response": {"type": "object"}}, "n": None},
            "contract": {"mode": "warn"},
            "unknown": None,
            "more": {"future": [1, 2]},
        }
        text = (
            json.dumps(odd, ensure_ascii=False)[:-1]
            + ', "big": 123456789012345678901234567890, "pair": "\\ud83d\\ude00"}'
        )
        client = daemon.attach()
        client.send_text('{"type":"BATCH_MOCK_REQUEST","runId":"run-1","requests":[' + text + "]}")
        claim = daemon.control.claim()
        (echoed,) = claim["requests"]
        assert echoed == json.loads(text)
        assert list(echoed) == list(json.loads(text))
        assert repr(echoed["body"]["a"][2]) == "1.0"
        (listed,) = daemon.control.call("listBatches")["batches"]
        assert listed["requests"] == [echoed]
        got = daemon.control.call("getBatch", batchId=claim["batchId"])
        assert got["requests"] == [echoed]

    def test_the_connections_run_id_wins(self, daemon: ServedDaemon) -> None:
        client = daemon.attach("run-1")
        client.send(
            {"type": "BATCH_MOCK_REQUEST", "runId": "someone-else", "requests": [request()]}
        )
        claim = daemon.control.claim()
        assert (claim["runId"], claim["batchId"]) == ("run-1", "batch:run-1:1")
        client.send({"type": "HEARTBEAT", "runId": "someone-else"})
        assert client.recv() == {"type": "HEARTBEAT_ACK", "runId": "run-1"}

    def test_results_reach_only_their_own_run(self, daemon: ServedDaemon) -> None:
        one, two = daemon.attach("one"), daemon.attach("two")
        one.submit([request()])
        two.submit([request()])
        daemon.control.provide(
            daemon.control.claim(runId="two"), [{"requestId": "a", "data": "for two"}]
        )
        assert two.recv()["mocks"][0]["data"] == "for two"
        one.settle()
        daemon.control.provide(daemon.control.claim(), [{"requestId": "a", "data": "for one"}])
        assert one.recv()["mocks"][0]["data"] == "for one"
        two.settle()

    @pytest.mark.parametrize("size", [1, 7, 1000, 65536])
    def test_a_large_non_ascii_mock_arrives_intact(self, daemon: ServedDaemon, size: int) -> None:
        """600 KB of text whose characters are 1 to 4 bytes, cut anywhere."""
        text = "aé水😀" * 61_000
        assert len(text.encode()) > 600_000
        client = daemon.ws(read_bytes=size)
        client.hello("run-1")
        batch = {"type": "BATCH_MOCK_REQUEST", "requests": [request(body=text)], "runId": "run-1"}
        # Fragments of the WebSocket are cut at this size (a byte each is too many for a test).
        client.send(batch, fragment=max(size, 13))
        claim = daemon.control.claim()
        assert claim["requests"][0]["body"] == text
        daemon.control.provide(claim, [{"requestId": "a", "data": {"text": text}}])
        assert client.recv()["mocks"][0]["data"] == {"text": text}

    def test_bytes_that_come_one_by_one(self, daemon: ServedDaemon) -> None:
        from support.ws import encode_frame

        client = daemon.attach()
        batch = {"type": "BATCH_MOCK_REQUEST", "requests": [request(body="é水😀")], "runId": ""}
        frame = encode_frame(TEXT, json.dumps(batch, ensure_ascii=False).encode())
        for byte in frame:
            client.sock.sendall(bytes([byte]))
        assert daemon.control.claim()["requests"][0]["body"] == "é水😀"

    def test_a_ping_between_fragments_is_answered(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        text = json.dumps({"type": "BATCH_MOCK_REQUEST", "runId": "", "requests": [request()]})
        client.send_frame(TEXT, text[:10].encode(), fin=False)
        client.ping(b"between")
        client.send_frame(0, text[10:].encode())
        assert daemon.control.claim()["requests"] == [request()]


class TestHeartbeat:
    def test_heartbeat_is_acknowledged(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.send({"type": "HEARTBEAT", "runId": "run-1"})
        assert client.recv() == {"type": "HEARTBEAT_ACK", "runId": "run-1"}

    @pytest.mark.parametrize("sign", ["ping", "message"])
    def test_signs_of_life(self, daemon: ServedDaemon, sign: str) -> None:
        client = daemon.attach()
        seen = daemon.control.call("listRuns")["runs"][0]["lastSeen"]
        while time.time() * 1000 < seen + 20:
            if sign == "ping":
                client.ping(b"still here")
            else:
                client.send({"type": "HEARTBEAT"})
                client.recv()
        assert daemon.control.call("listRuns")["runs"][0]["lastSeen"] > seen

    @pytest.mark.skipif(not STRESS, reason="takes 40 s; MOCK_MCP_STRESS=1 runs it")
    def test_nobody_is_evicted_for_a_missing_heartbeat(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        for _ in range(4):
            threading.Event().wait(10)
            client.ping()
        daemon.control.provide(daemon.control.claim(), [{"requestId": "a", "data": 1}])
        assert client.recv()["type"] == "BATCH_MOCK_RESULT"


class TestWithoutCapabilities:
    def test_a_close_purges_the_run_at_once(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        client.submit([request()])
        client.abort()
        until_gone(daemon, "run-1")
        with pytest.raises(RpcError, match="not found") as error:
            daemon.control.provide(claim, [{"requestId": "a", "data": 1}])
        assert error.value.code == -32000
        assert daemon.control.call("claimNextBatch", adapterId="x") is None

    def test_it_comes_back_with_the_same_run_id(self, daemon: ServedDaemon) -> None:
        first = daemon.attach()
        first.submit([request("old")])
        first.settle()
        first.abort()
        until_gone(daemon, "run-1")
        second = daemon.attach()
        second.submit([request("new")])
        claim = daemon.control.claim()
        assert claim["requests"] == [request("new")]
        daemon.control.provide(claim, [{"requestId": "new", "data": 1}])
        assert second.recv()["batchId"] == claim["batchId"]
        assert daemon.control.call("getStatus")["pending"] == 0

    def test_a_stale_answer_never_reaches_a_reused_batch_id(self, daemon: ServedDaemon) -> None:
        first = daemon.attach()
        first.submit([request("a")])
        stale = daemon.control.claim()
        first.abort()
        until_gone(daemon, "run-1")
        second = daemon.attach()
        second.submit([request("a")])
        second.settle()
        with pytest.raises(RpcError) as error:
            daemon.control.provide(stale, [{"requestId": "a", "data": "stale"}])
        assert error.value.code in (-32001, -32002, -32000)
        daemon.control.provide(daemon.control.claim(), [{"requestId": "a", "data": "fresh"}])
        assert second.recv()["mocks"][0]["data"] == "fresh"

    def test_a_takeover_replaces_the_older_socket_and_purges(self, daemon: ServedDaemon) -> None:
        older = daemon.attach()
        older.submit([request("old")])
        older.settle()
        newer = daemon.attach()
        assert older.expect_close() == (4001, "Replaced")
        assert daemon.control.call("getStatus")["pending"] == 0
        newer.submit([request("new")])
        older.abort()  # the close of an older socket never touches the newer session
        assert daemon.control.claim()["requests"] == [request("new")]
        assert [run["runId"] for run in daemon.control.call("listRuns")["runs"]] == ["run-1"]

    def test_what_a_replaced_socket_still_sends_is_ignored(self, daemon: ServedDaemon) -> None:
        older = daemon.attach()
        newer = daemon.attach()
        assert older.expect_close() == (4001, "Replaced")
        older.submit([request("late")])
        older.close()
        newer.settle()
        assert daemon.control.call("getStatus")["totalBatches"] == 0

    def test_a_result_is_done_once_written(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        assert daemon.control.provide(claim, [{"requestId": "a", "data": 1}])["delivered"] is True
        client.recv()
        assert daemon.control.call("listBatches") == {"batches": []}

    def test_a_refused_batch_closes_with_the_reason(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request("same"), request("same")])
        code, reason = client.expect_close()
        assert code == 1008
        assert "requestId" in reason

    def test_a_given_up_batch_closes_with_the_reason(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(claims_per_batch=1)
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        release(daemon, claim, "the schema is missing")
        code, reason = client.expect_close()
        assert code == 1008
        assert "given up" in reason

    def test_a_batch_that_nobody_answers_dies_with_the_reason(
        self, start_daemon: StartDaemon
    ) -> None:
        daemon = start_daemon(batch_ttl_s=0.1)
        client = daemon.attach()
        client.submit([request()])
        code, reason = client.expect_close()
        assert code == 1008
        assert reason

    def test_close_reasons_fit_a_close_frame(self, daemon: ServedDaemon) -> None:
        client = daemon.attach("r" * 200)
        client.submit([request()], batchId="é" * 500)
        code, reason = client.expect_close()
        assert code == 1008
        assert 0 < len(reason.encode()) <= 123

    def test_no_extension_message_ever_arrives(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(claims_per_batch=2)
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        release(daemon, claim, "later")
        claim = daemon.control.claim(leaseMs=1)  # expires
        client.submit([request("b")])
        assert client.expect_close()[0] == 1008  # and no BATCH_MOCK_ERROR before it


class TestStop:
    def test_tests_are_told(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon()
        plain = daemon.attach("plain")
        resuming = daemon.attach("resuming", capabilities=["resume", "ack", "errors"])
        plain.submit([request()])
        plain.settle()
        stop = threading.Thread(target=daemon.run, args=(daemon.daemon.stop(),))
        stop.start()
        for client in (plain, resuming):
            assert client.expect_close() == (1001, "Daemon shutting down")
            client.abort()
        stop.join()

    def test_who_waits_for_an_acknowledgement_is_promised_nothing(
        self, start_daemon: StartDaemon
    ) -> None:
        """What was not acknowledged ends with the daemon: its responder must find out."""
        daemon = start_daemon()
        client = daemon.attach(capabilities=["resume", "ack", "errors"])
        client.submit([request()])
        claim = daemon.control.claim()
        answer = {"adapterId": "adapter-1", "mocks": [{"requestId": "a", "data": 1}]}
        answer |= {name: claim[name] for name in ("batchId", "claimToken")}
        with RawHttp(daemon.path) as http:
            http.send(post(daemon.token, rpc("provideBatch", answer)))
            assert client.recv()["type"] == "BATCH_MOCK_RESULT"
            stop = threading.Thread(target=daemon.run, args=(daemon.daemon.stop(),))
            stop.start()
            assert http.at_end()
            client.abort()
            stop.join()

    def test_a_connection_before_its_hello_is_told_too(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon()
        client = daemon.ws()
        stop = threading.Thread(target=daemon.run, args=(daemon.daemon.stop(),))
        stop.start()
        assert client.expect_close() == (1001, "Daemon shutting down")
        client.abort()
        stop.join()


class TestSize:
    def test_a_frame_that_is_too_big_is_closed_with_1009(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(frame_bytes=10_000)
        client = daemon.attach()
        client.submit([request(body="x" * 9000)])
        client.settle()
        client.submit([request(body="x" * 10_000)])
        assert client.expect_close()[0] == 1009

    def test_fragments_count_together(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(frame_bytes=10_000)
        client = daemon.attach()
        client.send({"type": "x", "x": "x" * 20_000}, fragment=3000)
        assert client.expect_close()[0] == 1009


class TestAck:
    """Capability ``ack``: a result is kept until it is acknowledged."""

    ACK: ClassVar[dict[str, Any]] = {"capabilities": ["ack", "resume"]}

    def test_an_acknowledged_result_is_forgotten(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(**self.ACK)
        client.submit([request()])
        claim = daemon.control.claim()
        answer: list[Any] = []
        providing = threading.Thread(
            target=lambda: answer.append(
                daemon.control.provide(claim, [{"requestId": "a", "data": 1}])
            )
        )
        providing.start()
        result = client.recv()
        assert not answer, "it answers after the acknowledgement, not before"
        assert daemon.control.call("getBatch", batchId=result["batchId"])["status"] == "fulfilled"
        client.send({"type": "BATCH_RESULT_ACK", "batchId": result["batchId"]})
        providing.join()
        assert (answer[0]["ok"], answer[0]["delivered"]) == (True, True)
        assert daemon.control.call("listBatches") == {"batches": []}

    def test_a_result_is_redelivered_until_acknowledged(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(ack_timeout_s=0.05)
        client = daemon.attach(**self.ACK)
        client.submit([request()], batchId="batch:run-1:1")
        claim = daemon.control.claim()
        provided = daemon.control.provide(claim, [{"requestId": "a", "data": "kept"}])
        assert (provided["ok"], provided["delivered"]) == (True, False)
        result = client.recv()
        client.abort()
        for _ in range(2):
            client = daemon.attach(**self.ACK, openBatches=["batch:run-1:1"])
            client.submit([request()], batchId="batch:run-1:1")
            assert client.recv() == result
            client.abort()
        client = daemon.attach(**self.ACK, openBatches=["batch:run-1:1"])
        client.submit([request()], batchId="batch:run-1:1")
        assert client.recv() == result
        client.send({"type": "BATCH_RESULT_ACK", "batchId": "batch:run-1:1"})
        client.settle()
        assert daemon.control.call("listBatches") == {"batches": []}

    def test_a_late_acknowledgement_counts(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(ack_timeout_s=0.05)
        client = daemon.attach(**self.ACK)
        client.submit([request()])
        claim = daemon.control.claim()
        mocks = [{"requestId": "a", "data": 1}]
        assert daemon.control.provide(claim, mocks)["delivered"] is False
        client.send({"type": "BATCH_RESULT_ACK", "batchId": client.recv()["batchId"]})
        client.settle()
        assert daemon.control.provide(claim, mocks)["delivered"] is True

    def test_foreign_and_unknown_acknowledgements_change_nothing(
        self, start_daemon: StartDaemon
    ) -> None:
        daemon = start_daemon(ack_timeout_s=0.01)
        client = daemon.attach(**self.ACK)
        client.submit([request()])
        claim = daemon.control.claim()
        daemon.control.provide(claim, [{"requestId": "a", "data": 1}])
        client.recv()
        client.submit([request("b")])
        client.settle()
        other = daemon.attach("other", **self.ACK)
        before = daemon.control.snapshot()
        for sender, batch_id in [
            (other, "batch:run-1:1"),  # another run's
            (client, "batch:run-1:2"),  # not answered yet
            (client, "batch:run-1:99"),
            (client, ""),
        ]:
            sender.send({"type": "BATCH_RESULT_ACK", "batchId": batch_id})
            sender.settle()
        assert daemon.control.snapshot() == before


class TestErrors:
    """Capability ``errors``: a batch is refused by a message, and the connection stays."""

    def test_a_refused_batch_is_named(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(capabilities=["errors"])
        client.submit([request("same"), request("same")], batchId="batch:run-1:7")
        error = client.recv()
        assert (error["type"], error["batchId"]) == ("BATCH_MOCK_ERROR", "batch:run-1:7")
        assert error["code"]
        assert error["message"]
        assert set(error) == {"type", "batchId", "code", "message"}
        client.settle()

    @pytest.mark.parametrize(
        "batch_id", ["mine", "batch:run-2:1", "batch:run-1", "batch:run-1:", "", "batch:run-10:1"]
    )
    def test_a_batch_id_must_be_the_runs(self, daemon: ServedDaemon, batch_id: str) -> None:
        client = daemon.attach(capabilities=["errors"])
        client.submit([request()], batchId=batch_id)
        error = client.recv()
        assert (error["type"], error["batchId"]) == ("BATCH_MOCK_ERROR", batch_id)
        assert daemon.control.call("getStatus")["totalBatches"] == 0

    def test_a_given_up_batch_is_named_with_the_reasons(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(claims_per_batch=2)
        client = daemon.attach(capabilities=["errors"])
        client.submit([request()])
        for number in (1, 2):
            release(daemon, daemon.control.claim(), f"reason number {number}")
        error = client.recv()
        assert (error["type"], error["batchId"]) == ("BATCH_MOCK_ERROR", "batch:run-1:1")
        assert "reason number 1" in error["message"]
        assert "reason number 2" in error["message"]
        client.settle()

    def test_a_batch_that_nobody_answers_dies_with_the_reason(
        self, start_daemon: StartDaemon
    ) -> None:
        daemon = start_daemon(batch_ttl_s=0.05)
        client = daemon.attach(capabilities=["errors"])
        client.submit([request()])
        error = client.recv()
        assert (error["type"], error["batchId"]) == ("BATCH_MOCK_ERROR", "batch:run-1:1")
        assert daemon.control.call("getStatus")["pending"] == 0


class TestCancel:
    def test_a_whole_batch(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request("a"), request("b")])
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1"})
        client.settle()
        assert daemon.control.call("claimNextBatch", adapterId="x") is None
        with pytest.raises(RpcError, match="not found"):
            daemon.control.call("getBatch", batchId="batch:run-1:1")

    def test_some_requests(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request("a"), request("b")])
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1", "requestIds": ["a"]})
        client.settle()
        claim = daemon.control.claim()
        assert claim["requests"] == [request("b")]
        daemon.control.provide(claim, [{"requestId": "b", "data": 2}])
        assert client.recv()["mocks"] == [{"requestId": "b", "data": 2}]

    def test_mocks_for_what_was_cancelled_meanwhile_are_accepted_and_ignored(
        self, daemon: ServedDaemon
    ) -> None:
        client = daemon.attach()
        client.submit([request("a"), request("b")])
        claim = daemon.control.claim()
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1", "requestIds": ["a"]})
        client.settle()
        mocks = [{"requestId": "a", "data": 1}, {"requestId": "b", "data": 2}]
        assert daemon.control.provide(claim, mocks)["ok"] is True
        assert client.recv()["mocks"] == [{"requestId": "b", "data": 2}]

    def test_a_batch_cancelled_while_claimed_accepts_its_answer(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request("a")])
        claim = daemon.control.claim()
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1"})
        client.settle()
        provided = daemon.control.provide(claim, [{"requestId": "a", "data": 1}])
        assert (provided["ok"], provided["delivered"]) == (True, False)
        client.settle()

    def test_another_runs_batch_is_not_touched(self, daemon: ServedDaemon) -> None:
        client, other = daemon.attach("run-1"), daemon.attach("other")
        client.submit([request()])
        client.settle()
        before = daemon.control.snapshot()
        other.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1"})
        other.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1", "requestIds": ["a"]})
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1", "requestIds": ["zzz"]})
        client.send({"type": "BATCH_CANCEL", "batchId": "batch:run-1:1", "requestIds": []})
        other.settle()
        client.settle()
        assert daemon.control.snapshot() == before


class TestResume:
    """Capability ``resume``: the run waits for its client after an abnormal close."""

    RESUME: ClassVar[dict[str, Any]] = {"capabilities": ["resume", "ack", "errors"]}

    def test_a_run_outlives_an_abnormal_close(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(**self.RESUME)
        client.submit([request()], batchId="batch:run-1:x")
        claim = daemon.control.claim()
        client.abort()
        again = daemon.attach(**self.RESUME, openBatches=["batch:run-1:x"])
        again.submit([request()], batchId="batch:run-1:x")
        again.settle()
        assert daemon.control.call("getBatch", batchId="batch:run-1:x")["status"] == "claimed"
        answer = threading.Thread(
            target=daemon.control.provide, args=(claim, [{"requestId": "a", "data": 1}])
        )
        answer.start()
        assert again.recv()["batchId"] == "batch:run-1:x"
        again.send({"type": "BATCH_RESULT_ACK", "batchId": "batch:run-1:x"})
        answer.join()

    def test_the_grace_period_ends(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(grace_s=0.1)
        client = daemon.attach(**self.RESUME)
        client.submit([request()])
        client.settle()
        client.abort()
        until_gone(daemon, "run-1")
        assert daemon.control.call("getStatus")["pending"] == 0

    @pytest.mark.parametrize("code", [1000, 1001])
    def test_a_clean_close_purges_at_once(self, daemon: ServedDaemon, code: int) -> None:
        client = daemon.attach(**self.RESUME)
        client.submit([request()])
        client.close(code)
        until_gone(daemon, "run-1")  # the grace period is 10 s, the test's patience too

    def test_a_clean_close_purges_although_nobody_reads(self, start_daemon: StartDaemon) -> None:
        """A client may say 1000 while a large result is still on its way to it."""
        import struct

        daemon = start_daemon(ack_timeout_s=0.01, stop_s=0.1)
        client = daemon.attach(**self.RESUME)
        client.submit([request()])
        claim = daemon.control.claim()
        daemon.control.provide(claim, [{"requestId": "a", "data": "x" * 5_000_000}])
        client.send_frame(8, struct.pack(">H", 1000))
        until_gone(daemon, "run-1", timeout_s=5)

    def test_open_batches_name_what_is_still_wanted(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(**self.RESUME)
        for name in ("keep", "drop"):
            client.submit([request(name)], batchId=f"batch:run-1:{name}")
        client.settle()
        client.abort()
        daemon.attach(**self.RESUME, openBatches=["batch:run-1:keep", "batch:run-1:unknown"])
        listed = daemon.control.call("listBatches")["batches"]
        assert [batch["batchId"] for batch in listed] == ["batch:run-1:keep"]
        assert daemon.control.call("getStatus")["pending"] == 1

    def test_an_unknown_batch_is_parked(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(**self.RESUME, openBatches=["batch:run-1:5"])
        client.submit([request()], batchId="batch:run-1:5")
        assert daemon.control.claim()["batchId"] == "batch:run-1:5"

    def test_a_takeover_keeps_the_batches(self, daemon: ServedDaemon) -> None:
        older = daemon.attach(**self.RESUME, session=1)
        older.submit([request()], batchId="batch:run-1:1")
        older.settle()
        newer = daemon.attach(**self.RESUME, session=2, openBatches=["batch:run-1:1"])
        assert older.expect_close() == (4001, "Replaced")
        older.abort()
        newer.settle()
        assert daemon.control.call("getStatus")["pending"] == 1

    def test_a_lower_session_is_replaced(self, daemon: ServedDaemon) -> None:
        newer = daemon.attach(**self.RESUME, session=5)
        newer.submit([request()])
        newer.settle()
        before = daemon.control.snapshot()
        older = daemon.ws()
        older.send(
            {"type": "HELLO_TEST", "token": daemon.token, "runId": "run-1", "pid": 1, "cwd": "/"}
            | self.RESUME
            | {"session": 4, "openBatches": []}
        )
        assert older.expect_close() == (4001, "Replaced")
        older.abort()
        newer.settle()
        assert daemon.control.snapshot() == before

    def test_a_result_provided_while_nobody_is_connected_is_kept(
        self, start_daemon: StartDaemon
    ) -> None:
        daemon = start_daemon(ack_timeout_s=0.01)
        client = daemon.attach(**self.RESUME)
        client.submit([request()], batchId="batch:run-1:1")
        claim = daemon.control.claim()
        client.abort()
        provided = daemon.control.provide(claim, [{"requestId": "a", "data": "kept"}])
        assert provided["delivered"] is False
        again = daemon.attach(**self.RESUME, openBatches=["batch:run-1:1"])
        again.submit([request()], batchId="batch:run-1:1")
        assert again.recv()["mocks"] == [{"requestId": "a", "data": "kept"}]


def until_gone(daemon: ServedDaemon, run_id: str, *, timeout_s: float = 8) -> None:
    from support.ws import eventually

    def gone() -> bool:
        runs = daemon.control.call("listRuns")["runs"]
        return run_id not in [run["runId"] for run in runs]

    eventually(gone, timeout_s=timeout_s)


def release(daemon: ServedDaemon, claim: dict[str, Any], reason: str) -> None:
    result = daemon.control.call(
        "releaseBatch",
        adapterId="adapter-1",
        batchId=claim["batchId"],
        claimToken=claim["claimToken"],
        reason=reason,
    )
    assert result == {"ok": True}
