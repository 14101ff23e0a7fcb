"""The control channel as DESIGN section 4 fixes it: methods, errors, HTTP statuses."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.daemons import ServedDaemon
from support.http import ControlClient, RawHttp, RpcError, connect, post, rpc
from support.ws import WsClient, request

StartDaemon = Callable[..., ServedDaemon]
MOCKS: list[Any] = [{"requestId": "a", "data": 1}]


def refused(daemon: ServedDaemon, method: str, **params: Any) -> RpcError:
    """Return the error of a call that must be refused and change nothing."""
    before = daemon.control.snapshot()
    with pytest.raises(RpcError) as error:
        daemon.control.call(method, **params)
    assert error.value.message
    assert daemon.control.snapshot() == before
    return error.value


def holder(claim: dict[str, Any], adapter_id: str = "adapter-1") -> dict[str, Any]:
    return {
        "adapterId": adapter_id,
        "batchId": claim["batchId"],
        "claimToken": claim["claimToken"],
    }


class TestHealth:
    def test_it_needs_no_token(self, daemon: ServedDaemon) -> None:
        health = daemon.control.health()
        assert health["ok"] is True
        assert health["projectId"] == daemon.info.project_id
        assert set(health) == {"ok", "pid", "version", "projectId", "protocol"}
        assert type(health["protocol"]) is int

    def test_a_query_changes_nothing(self, daemon: ServedDaemon) -> None:
        assert daemon.control.http(method="GET", path="/health?x=1", token=None).status == 200


class TestStatus:
    def test_status(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request("a")])
        client.submit([request("b")])
        daemon.control.claim()
        status = daemon.control.call("getStatus")
        assert status.pop("uptime") >= 0
        assert type(status["pid"]) is int
        assert status == {
            "version": daemon.control.health()["version"],
            "projectId": daemon.info.project_id,
            "projectRoot": daemon.info.project_root,
            "pid": status["pid"],
            "runs": 1,
            "pending": 1,
            "claimed": 1,
            "totalBatches": 2,
            "protocol": status["protocol"],
        }

    def test_runs(self, daemon: ServedDaemon) -> None:
        assert daemon.control.call("listRuns") == {"runs": []}
        client = daemon.attach("one")
        daemon.attach("two", testMeta={"testFile": "x"})
        client.submit([request()])
        client.settle()
        one, two = daemon.control.call("listRuns")["runs"]
        assert (one["runId"], one["pendingBatches"]) == ("one", 1)
        assert (two["runId"], two["pendingBatches"]) == ("two", 0)
        assert "testMeta" not in one
        assert two["testMeta"] == {"testFile": "x"}

    def test_params_may_be_absent_null_or_have_unknown_names(self, daemon: ServedDaemon) -> None:
        for params in (None, {}, {"unknown": 1}):
            answer = daemon.control.http(rpc("getStatus", params))
            assert answer.body["result"]["runs"] == 0
        answer = daemon.control.http(b'{"jsonrpc":"2.0","id":1,"method":"listRuns","params":null}')
        assert answer.body["result"] == {"runs": []}


class TestClaim:
    def test_nothing_to_claim_is_null(self, daemon: ServedDaemon) -> None:
        answer = daemon.control.http(rpc("claimNextBatch", {"adapterId": "a"}))
        assert answer.body == {"jsonrpc": "2.0", "id": 1, "result": None}

    def test_a_claim(self, daemon: ServedDaemon) -> None:
        daemon.attach().submit([request(metadata={"x": 1})])
        before = time.time() * 1000
        claim = daemon.control.claim()
        assert claim.pop("claimToken")
        assert before + 29_000 < claim.pop("leaseUntil") < time.time() * 1000 + 31_000
        assert claim == {
            "batchId": "batch:run-1:1",
            "runId": "run-1",
            "requests": [request(metadata={"x": 1})],
            "attempts": 0,
            "history": [],
        }

    def test_first_in_first_out_over_all_runs(self, daemon: ServedDaemon) -> None:
        one, two = daemon.attach("one"), daemon.attach("two")
        for client, name in [(one, "1"), (two, "2"), (one, "3"), (two, "4")]:
            client.submit([request(name)])
            client.settle()
        claimed = [daemon.control.claim()["requests"][0]["requestId"] for _ in range(4)]
        assert claimed == ["1", "2", "3", "4"]

    def test_a_released_batch_keeps_its_place_and_its_history(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        for name in ("1", "2"):
            client.submit([request(name)])
        claim = daemon.control.claim("first")
        daemon.control.call("releaseBatch", **holder(claim, "first"), reason="no schema")
        # Whoever released it is offered the others first; the next responder gets it at its place.
        assert daemon.control.claim("second")["requests"] == [request("1")]
        again = daemon.control.call("getBatch", batchId=claim["batchId"])
        assert (again["status"], again["claim"]["adapterId"]) == ("claimed", "second")

    def test_history_is_shown_to_the_next_claimant(self, daemon: ServedDaemon) -> None:
        daemon.attach().submit([request()])
        daemon.control.call(
            "releaseBatch", **holder(daemon.control.claim("one"), "one"), reason="no schema"
        )
        daemon.control.claim("two", leaseMs=1)
        claim = daemon.control.claim("three")
        assert claim["attempts"] == 2
        released, expired = claim["history"]
        assert (released["adapterId"], released["reason"]) == ("one", "no schema")
        assert (released["outcome"], expired["outcome"]) == ("released", "expired")
        assert expired["adapterId"] == "two"
        assert "reason" not in expired

    def test_by_run_and_by_batch(self, daemon: ServedDaemon) -> None:
        one, two = daemon.attach("one"), daemon.attach("two")
        one.submit([request()])
        two.submit([request()])
        two.submit([request()])
        two.settle()
        one.settle()

        def claim(**params: Any) -> Any:
            return daemon.control.call("claimNextBatch", adapterId="a", **params)

        assert claim(runId="nobody") is None
        assert claim(batchId="batch:two:9") is None
        assert claim(runId="one", batchId="batch:two:2") is None
        assert claim(batchId="batch:two:2")["batchId"] == "batch:two:2"
        assert claim(batchId="batch:two:2") is None
        assert claim(runId="two")["batchId"] == "batch:two:1"
        assert claim()["batchId"] == "batch:one:1"

    @pytest.mark.parametrize("lease_ms", [1, 1.5, 30_000, 600_000])
    def test_a_lease_in_range(self, daemon: ServedDaemon, lease_ms: float) -> None:
        daemon.attach().submit([request()])
        before = time.time() * 1000
        claim = daemon.control.claim(leaseMs=lease_ms)
        assert before - 500 < claim["leaseUntil"] - lease_ms < time.time() * 1000 + 500

    @pytest.mark.parametrize("lease_ms", [0, 0.5, -1, 600_001, 1e300, "1000", True, [1], {}])
    def test_a_lease_out_of_range(self, daemon: ServedDaemon, lease_ms: Any) -> None:
        daemon.attach().submit([request()])
        daemon.control.call("waitForBatch", waitMs=5000)
        assert refused(daemon, "claimNextBatch", adapterId="a", leaseMs=lease_ms).code == -32602
        claim = daemon.control.claim()
        error = refused(daemon, "renewClaim", **holder(claim), leaseMs=lease_ms)
        assert error.code == -32602
        assert daemon.control.call("renewClaim", **holder(claim))["leaseUntil"]

    @pytest.mark.parametrize("digits", [20, 400, 4000])
    def test_a_huge_lease(self, daemon: ServedDaemon, digits: int) -> None:
        error = refused(daemon, "claimNextBatch", adapterId="a", leaseMs=10**digits)
        assert error.code == -32602

    @pytest.mark.parametrize("adapter_id", [None, "", 7, ["a"], "x" * 10_000])
    def test_an_adapter_id_is_a_name(self, daemon: ServedDaemon, adapter_id: Any) -> None:
        daemon.attach().submit([request()])
        daemon.control.call("waitForBatch", waitMs=5000)
        assert refused(daemon, "claimNextBatch", adapterId=adapter_id).code == -32602


class TestGetBatch:
    def test_through_its_life(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        client.settle()
        batch = daemon.control.call("getBatch", batchId="batch:run-1:1")
        assert abs(batch.pop("createdAt") - time.time() * 1000) < 20_000
        assert batch == {
            "batchId": "batch:run-1:1",
            "runId": "run-1",
            "requests": [request()],
            "status": "pending",
        }
        claim = daemon.control.claim()
        batch = daemon.control.call("getBatch", batchId="batch:run-1:1")
        assert batch["status"] == "claimed"
        assert batch["claim"] == {"adapterId": "adapter-1", "leaseUntil": claim["leaseUntil"]}
        assert claim["claimToken"] not in json.dumps(batch)
        daemon.control.provide(claim, MOCKS)
        batch = daemon.control.call("getBatch", batchId="batch:run-1:1")
        assert batch["status"] == "fulfilled"
        assert "claim" not in batch

    @pytest.mark.parametrize("batch_id", ["", "batch:run-1:9", "batch:run-9:1", "nonsense"])
    def test_unknown(self, daemon: ServedDaemon, batch_id: str) -> None:
        daemon.attach().submit([request()])
        daemon.control.call("waitForBatch", waitMs=5000)
        error = refused(daemon, "getBatch", batchId=batch_id)
        assert error.code == -32000
        assert "not found" in error.message


class TestListBatches:
    def test_filters(self, daemon: ServedDaemon) -> None:
        one, two = daemon.attach("one"), daemon.attach("two")
        one.submit([request(metadata={"schema": {"type": "object"}})])
        one.submit([request()])
        one.settle()
        two.submit([request()])
        two.settle()
        daemon.control.claim()

        def ids(**params: Any) -> list[str]:
            return [b["batchId"] for b in daemon.control.call("listBatches", **params)["batches"]]

        assert ids() == ["batch:one:1", "batch:one:2", "batch:two:1"]
        assert ids(runId="one") == ["batch:one:1", "batch:one:2"]
        assert ids(status="claimed") == ["batch:one:1"]
        assert ids(status="pending", runId="two") == ["batch:two:1"]
        assert ids(status="fulfilled") == []
        assert ids(runId=None, status=None) == ids()
        first = daemon.control.call("listBatches")["batches"][0]
        assert first["requests"][0]["metadata"] == {"schema": {"type": "object"}}

    def test_errors(self, daemon: ServedDaemon) -> None:
        assert refused(daemon, "listBatches", status="nonsense").code == -32602
        error = refused(daemon, "listBatches", runId="nobody")
        assert error.code == -32000
        assert "not found" in error.message


class TestProvide:
    def test_without_ack_it_answers_once_written(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        provided = daemon.control.provide(daemon.control.claim(), MOCKS)
        assert provided["ok"] is True
        assert provided["delivered"] is True
        assert provided["message"]

    def test_a_repeated_provide_gets_the_same_answer(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        first = daemon.control.provide(claim, MOCKS)
        assert daemon.control.provide(claim, MOCKS) == first
        assert client.recv()["mocks"] == MOCKS
        client.settle()  # and it came once

    def test_the_same_answer_when_nobody_ever_got_it(self, start_daemon: StartDaemon) -> None:
        """A result that was not delivered does not become delivered by asking again."""
        daemon = start_daemon(ack_timeout_s=0.02, grace_s=0.2)
        client = daemon.attach(capabilities=["ack", "resume"])
        client.submit([request()])
        claim = daemon.control.claim()
        client.abort()
        first = daemon.control.provide(claim, MOCKS)
        assert (first["ok"], first["delivered"]) == (True, False)
        assert daemon.control.provide(claim, MOCKS)["delivered"] is False
        while daemon.control.call("listRuns")["runs"]:
            time.sleep(0.01)
        assert daemon.control.provide(claim, MOCKS)["delivered"] is False

    def test_without_ack_a_result_that_was_not_written_is_not_done(
        self, daemon: ServedDaemon
    ) -> None:
        """``resume`` without ``ack``: what could not be written waits for the reconnect."""
        client = daemon.attach(capabilities=["resume"])
        client.submit([request()], batchId="batch:run-1:1")
        claim = daemon.control.claim()
        client.abort()
        first = daemon.control.provide(claim, MOCKS)
        assert first["delivered"] is False
        assert daemon.control.provide(claim, MOCKS)["delivered"] is False
        client = daemon.attach(capabilities=["resume"], openBatches=["batch:run-1:1"])
        client.submit([request()], batchId="batch:run-1:1")
        assert client.recv()["mocks"] == MOCKS

    def test_the_wait_for_the_acknowledgement_ends(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(ack_timeout_s=0.05)
        client = daemon.attach(capabilities=["ack"])
        client.submit([request()])
        provided = daemon.control.provide(daemon.control.claim(), MOCKS)
        assert (provided["ok"], provided["delivered"]) == (True, False)

    def test_others_are_served_while_it_waits(self, daemon: ServedDaemon) -> None:
        client = daemon.attach(capabilities=["ack"])
        client.submit([request()])
        claim = daemon.control.claim()
        provided: list[Any] = []
        thread = threading.Thread(
            target=lambda: provided.append(daemon.control.provide(claim, MOCKS))
        )
        thread.start()
        result = client.recv()
        assert daemon.control.health()["ok"]
        client.send({"type": "BATCH_RESULT_ACK", "batchId": result["batchId"]})
        thread.join()
        assert provided[0]["delivered"] is True

    @pytest.mark.parametrize(
        "mocks",
        [
            [],
            [{"requestId": "a", "data": 1}],
            [{"requestId": "a", "data": 1}, {"requestId": "c", "data": 1}],
            [{"requestId": "a", "data": 1}, {"requestId": "a", "data": 2}],
            [{"requestId": i, "data": 1} for i in "abc"],
            [{"requestId": i, "data": 1} for i in "aba"],
        ],
    )
    def test_mocks_that_do_not_match(self, daemon: ServedDaemon, mocks: list[Any]) -> None:
        client = daemon.attach()
        client.submit([request("a"), request("b")])
        claim = daemon.control.claim()
        assert refused(daemon, "provideBatch", **holder(claim), mocks=mocks).code == -32002
        client.settle()
        both = [{"requestId": i, "data": i} for i in "ab"]
        assert daemon.control.provide(claim, both)["ok"] is True

    @pytest.mark.parametrize(
        "mocks",
        [
            None,
            {},
            "x",
            [None],
            [1],
            [{}],
            [{"requestId": "a"}],
            [{"data": 1}],
            [{"requestId": None, "data": 1}],
            [{"requestId": 1, "data": 1}],
            [{"requestId": "a", "data": 1, "status": "200"}],
            [{"requestId": "a", "data": 1, "status": 99}],
            [{"requestId": "a", "data": 1, "status": 1000}],
            [{"requestId": "a", "data": 1, "headers": []}],
            [{"requestId": "a", "data": 1, "headers": {"x": 1}}],
            [{"requestId": "a", "data": 1, "delayMs": "1"}],
            [{"requestId": "a", "data": 1, "delayMs": -1}],
        ],
    )
    def test_mocks_that_are_none(self, daemon: ServedDaemon, mocks: Any) -> None:
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        assert refused(daemon, "provideBatch", **holder(claim), mocks=mocks).code == -32602
        client.settle()

    def test_any_json_value_is_data(self, daemon: ServedDaemon) -> None:
        values = [None, True, 0, -1.5, 2**80, "é\u2028\u0000", [], {}, {"a": {"b": [None]}}]
        client = daemon.attach()
        client.submit([request(str(i)) for i in range(len(values))])
        mocks = [{"requestId": str(i), "data": value} for i, value in enumerate(values)]
        daemon.control.provide(daemon.control.claim(), mocks)
        assert client.recv()["mocks"] == mocks


class TestClaimErrors:
    """The typed refusals of provide, release and renew."""

    METHODS = ("provideBatch", "releaseBatch", "renewClaim")

    def refuse(self, daemon: ServedDaemon, method: str, **params: Any) -> RpcError:
        mocks = {"mocks": MOCKS} if method == "provideBatch" else {}
        return refused(daemon, method, **params, **mocks)

    @pytest.mark.parametrize("method", METHODS)
    def test_unknown_batch(self, daemon: ServedDaemon, method: str) -> None:
        error = self.refuse(daemon, method, adapterId="a", batchId="batch:x:1", claimToken="t")
        assert error.code == -32000
        assert "not found" in error.message

    @pytest.mark.parametrize("method", METHODS)
    def test_another_claim_or_a_wrong_token(self, daemon: ServedDaemon, method: str) -> None:
        daemon.attach().submit([request()])
        claim = daemon.control.claim()
        wrong = holder(claim) | {"claimToken": "wrong"}
        assert self.refuse(daemon, method, **wrong).code == -32001
        assert self.refuse(daemon, method, **holder(claim, "other")).code == -32001

    @pytest.mark.parametrize("method", METHODS)
    def test_not_claimed(self, daemon: ServedDaemon, method: str) -> None:
        client = daemon.attach()
        client.submit([request()])
        client.settle()
        params = {"adapterId": "a", "batchId": "batch:run-1:1", "claimToken": "t"}
        assert self.refuse(daemon, method, **params).code == -32002

    @pytest.mark.parametrize("method", METHODS)
    def test_released(self, daemon: ServedDaemon, method: str) -> None:
        daemon.attach().submit([request()])
        claim = daemon.control.claim()
        assert daemon.control.call("releaseBatch", **holder(claim)) == {"ok": True}
        assert self.refuse(daemon, method, **holder(claim)).code == -32002

    @pytest.mark.parametrize("method", METHODS)
    def test_your_lease_ended(self, daemon: ServedDaemon, method: str) -> None:
        daemon.attach().submit([request()])
        claim = daemon.control.claim(leaseMs=1)
        assert daemon.control.call("waitForBatch", waitMs=5000)["pending"] == 1
        assert self.refuse(daemon, method, **holder(claim)).code == -32003

    @pytest.mark.parametrize("method", METHODS)
    def test_your_lease_ended_and_another_holds_it(self, daemon: ServedDaemon, method: str) -> None:
        daemon.attach().submit([request()])
        stale = daemon.control.claim(leaseMs=1)
        current = daemon.control.claim("adapter-2")
        assert self.refuse(daemon, method, **holder(stale)).code in (-32001, -32003)
        assert daemon.control.provide(current, MOCKS, "adapter-2")["ok"] is True

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", ["adapterId", "batchId", "claimToken"])
    def test_missing_or_wrong_type(self, daemon: ServedDaemon, method: str, name: str) -> None:
        daemon.attach().submit([request()])
        params = holder(daemon.control.claim())
        missing = {k: v for k, v in params.items() if k != name}
        assert self.refuse(daemon, method, **missing).code == -32602
        for value in (None, 1, True, [], {}):
            assert self.refuse(daemon, method, **missing, **{name: value}).code == -32602

    def test_a_renewed_lease_lasts(self, daemon: ServedDaemon) -> None:
        daemon.attach().submit([request()])
        claim = daemon.control.claim(leaseMs=60_000)
        renewed = daemon.control.call("renewClaim", **holder(claim), leaseMs=600_000)
        assert set(renewed) == {"leaseUntil"}
        assert renewed["leaseUntil"] > claim["leaseUntil"] + 500_000

    def test_release_reason_must_be_text(self, daemon: ServedDaemon) -> None:
        daemon.attach().submit([request()])
        claim = daemon.control.claim()
        assert refused(daemon, "releaseBatch", **holder(claim), reason=1).code == -32602
        assert daemon.control.call("releaseBatch", **holder(claim), reason=None) == {"ok": True}


class TestWaitForBatch:
    def test_it_answers_at_once_when_something_is_claimable(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        client.submit([request()])
        client.submit([request()])
        client.settle()
        waited = daemon.control.call("waitForBatch", waitMs=60_000)
        assert waited["pending"] == 2
        assert abs(waited["oldestCreatedAt"] - time.time() * 1000) < 20_000
        assert daemon.control.call("getStatus")["pending"] == 2, "it claims nothing"

    @pytest.mark.parametrize("wait_ms", [0, 20])
    def test_the_time_is_up(self, daemon: ServedDaemon, wait_ms: int) -> None:
        assert daemon.control.call("waitForBatch", waitMs=wait_ms) == {"pending": 0}

    def test_it_is_pushed(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        with RawHttp(daemon.path) as http:
            wait = rpc("waitForBatch", {"waitMs": 60_000})
            http.send(post(daemon.token, wait) + post(daemon.token, rpc("getStatus", None, 2)))
            client.submit([request()])
            assert http.read().body["result"]["pending"] == 1
            assert http.read().body["id"] == 2, "what was pipelined behind it follows"

    def test_only_its_run_wakes_it(self, daemon: ServedDaemon) -> None:
        one, two = daemon.attach("one"), daemon.attach("two")
        with RawHttp(daemon.path) as http:
            http.send(post(daemon.token, rpc("waitForBatch", {"waitMs": 60_000, "runId": "two"})))
            one.submit([request()])
            one.settle()
            two.submit([request()])
            two.submit([request()])
            assert http.read().body["result"]["pending"] in (1, 2)

    def test_a_released_or_expired_batch_wakes_it(self, daemon: ServedDaemon) -> None:
        daemon.attach().submit([request()])
        for end in ("release", "expire"):
            claim = daemon.control.claim(leaseMs=30_000 if end == "release" else 100)
            with RawHttp(daemon.path) as http:
                http.send(post(daemon.token, rpc("waitForBatch", {"waitMs": 60_000})))
                if end == "release":
                    daemon.control.call("releaseBatch", **holder(claim))
                assert http.read().body["result"]["pending"] == 1

    def test_an_abandoned_wait_leaves_nothing(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        for _ in range(50):
            sock = connect(daemon.path)
            sock.sendall(post(daemon.token, rpc("waitForBatch", {"waitMs": 60_000})))
            sock.close()
        client.submit([request()])
        assert daemon.control.claim()["requests"] == [request()]
        assert daemon.control.call("getStatus")["claimed"] == 1

    def test_many_wait_at_once(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        waiting = [RawHttp(daemon.path) for _ in range(50)]
        for http in waiting:
            http.send(post(daemon.token, rpc("waitForBatch", {"waitMs": 60_000})))
        assert daemon.control.health()["ok"]
        client.submit([request()])
        for http in waiting:
            assert http.read().body["result"]["pending"] == 1
            http.close()

    @pytest.mark.parametrize("wait_ms", [-1, 1e300, "1", None, True, [], 10**400])
    def test_an_impossible_wait(self, daemon: ServedDaemon, wait_ms: Any) -> None:
        assert refused(daemon, "waitForBatch", waitMs=wait_ms).code == -32602

    def test_the_wait_must_be_given(self, daemon: ServedDaemon) -> None:
        assert refused(daemon, "waitForBatch").code == -32602


class TestClaimThatWaits:
    @staticmethod
    def claim(daemon: ServedDaemon, **params: Any) -> bytes:
        wanted = {"adapterId": "waits", "waitMs": 60_000, **params}
        return post(daemon.token, rpc("claimNextBatch", wanted))

    def test_it_is_pushed(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        with RawHttp(daemon.path) as http:
            http.send(self.claim(daemon))
            assert daemon.control.health()["ok"]
            client.submit([request()])
            claim = http.read().body["result"]
        assert claim["requests"] == [request()]
        assert daemon.control.call("renewClaim", **(holder(claim) | {"adapterId": "waits"}))

    @pytest.mark.parametrize("wait_ms", [None, 0, 20])
    def test_the_time_is_up(self, daemon: ServedDaemon, wait_ms: int | None) -> None:
        assert daemon.control.call("claimNextBatch", adapterId="waits", waitMs=wait_ms) is None

    def test_each_batch_goes_to_one(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        waiting = [RawHttp(daemon.path) for _ in range(20)]
        for http in waiting:
            http.send(self.claim(daemon))
        submitted = [client.submit([request(f"r{number}")]) for number in range(20)]
        claimed = [http.read().body["result"]["requests"][0]["requestId"] for http in waiting]
        assert sorted(claimed) == sorted(f"r{number}" for number in range(len(submitted)))
        for http in waiting:
            http.close()

    def test_only_its_run_wakes_it(self, daemon: ServedDaemon) -> None:
        one, two = daemon.attach("one"), daemon.attach("two")
        with RawHttp(daemon.path) as http:
            http.send(self.claim(daemon, runId="two"))
            one.submit([request()])
            one.settle()
            two.submit([request()])
            assert http.read().body["result"]["runId"] == "two"
        assert daemon.control.call("getStatus")["pending"] == 1

    def test_an_abandoned_wait_claims_nothing(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        for _ in range(50):
            sock = connect(daemon.path)
            sock.sendall(self.claim(daemon))
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b"", "the daemon has noticed"
            sock.close()
        client.submit([request()])
        assert daemon.control.claim()["attempts"] == 0

    @pytest.mark.parametrize("wait_ms", [-1, 1e300, "1", True, []])
    def test_an_impossible_wait(self, daemon: ServedDaemon, wait_ms: Any) -> None:
        daemon.attach().submit([request()])
        error = refused(daemon, "claimNextBatch", adapterId="waits", waitMs=wait_ms)
        assert error.code == -32602
        assert daemon.control.claim(), "nothing was claimed"


class TestShutdown:
    def test_it_answers_and_stops(self, daemon_process: Any) -> None:
        assert daemon_process.control.call("shutdown") == {"ok": True}
        assert daemon_process.wait_end() == 0
        assert not daemon_process.registry.exists()
        assert not daemon_process.socket.exists()

    def test_an_embedded_daemon_stops_serving_too(self, daemon: ServedDaemon) -> None:
        client = daemon.attach()
        assert daemon.control.call("shutdown") == {"ok": True}
        assert client.expect_close() == (1001, "Daemon shutting down")


class TestJsonRpcErrors:
    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"", 400, -32700),
            (b"not json", 400, -32700),
            (b"{", 400, -32700),
            (b'{"jsonrpc":"2.0","id":1,"method":"getStatus"} x', 400, -32700),
            (b'{"jsonrpc":"2.0","id":1,"method":"getStatus","params":{"a":NaN}}', 400, -32700),
            (b'"\xff"', 400, -32700),
            (b"\xef\xbb\xbf{}", 400, -32700),
            (b"null", 400, -32600),
            (b"1", 400, -32600),
            (b"[]", 400, -32600),
            (b'[{"jsonrpc":"2.0","id":1,"method":"getStatus"}]', 400, -32600),
            (b"{}", 400, -32600),
            (b'{"jsonrpc":"2.0","id":1}', 400, -32600),
            (b'{"jsonrpc":"1.0","id":1,"method":"getStatus"}', 400, -32600),
            (b'{"id":1,"method":"getStatus"}', 400, -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":7}', 400, -32600),
            (b'{"jsonrpc":"2.0","id":{},"method":"getStatus"}', 400, -32600),
        ],
    )
    def test_what_is_no_call(
        self, daemon: ServedDaemon, body: bytes, status: int, code: int
    ) -> None:
        answer = daemon.control.http(body)
        assert (answer.status, answer.body["error"]["code"]) == (status, code)
        assert answer.body["jsonrpc"] == "2.0"
        assert answer.body["id"] is None
        assert answer.body["error"]["message"]

    def test_unknown_method(self, daemon: ServedDaemon) -> None:
        answer = daemon.control.http(rpc("nonsense", {}, 7))
        assert answer.status == 200
        assert (answer.body["id"], answer.body["error"]["code"]) == (7, -32601)

    @pytest.mark.parametrize("params", ["[]", "[1]", '"x"', "1", "true"])
    def test_params_must_be_an_object(self, daemon: ServedDaemon, params: str) -> None:
        body = '{"jsonrpc":"2.0","id":"x","method":"claimNextBatch","params":' + params + "}"
        answer = daemon.control.http(body.encode())
        assert answer.status == 200
        assert (answer.body["id"], answer.body["error"]["code"]) == ("x", -32602)

    @pytest.mark.parametrize("call_id", [0, -1, 1.5, "", "é", 2**53, 10**30])
    def test_the_id_is_echoed(self, daemon: ServedDaemon, call_id: Any) -> None:
        for method in ("getStatus", "nonsense"):
            answer = daemon.control.http(rpc(method, {}, call_id))
            assert answer.status == 200
            assert answer.body["id"] == call_id


class TestHttp:
    def error(self, answer: Any, status: int) -> None:
        assert answer.status == status
        assert answer.body["jsonrpc"] == "2.0"
        assert answer.body["id"] is None
        assert type(answer.body["error"]["code"]) is int
        assert answer.body["error"]["message"]
        assert answer.headers["content-type"].startswith("application/json")

    @pytest.mark.parametrize("token", [None, "wrong", "0" * 64, "é"])
    def test_401(self, daemon: ServedDaemon, token: str | None) -> None:
        self.error(daemon.control.http(rpc("shutdown"), token=token), 401)
        assert daemon.control.health()["ok"]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", "/control"),
            ("PUT", "/control"),
            ("POST", "/health"),
            ("POST", "/"),
            ("GET", "/test"),
            ("GET", "/healthy"),
            ("POST", "/control/"),
            ("GET", "/test/../health"),
            ("DELETE", "/x?y=/control"),
        ],
    )
    def test_404(self, daemon: ServedDaemon, method: str, path: str) -> None:
        self.error(daemon.control.http(method=method, path=path), 404)
        self.error(daemon.control.http(method=method, path=path, token=None), 404)

    def test_413_by_its_length(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(body_bytes=1000)
        self.error(daemon.control.http(b" " * 1001), 413)
        assert daemon.control.http(rpc("getStatus").ljust(1000)).status == 200

    def test_413_chunked(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(body_bytes=1000)
        head = post(daemon.token, b"", headers={"Transfer-Encoding": "chunked"}, length=False)
        with RawHttp(daemon.path) as http:
            http.send(head + b"200\r\n" + b" " * 512 + b"\r\n" + b"200\r\n" + b" " * 512 + b"\r\n")
            http.send(b"0\r\n\r\n")
            self.error(http.read(), 413)

    def test_a_refused_head_is_answered_before_its_body(self, start_daemon: StartDaemon) -> None:
        """RFC 9110 section 10.1.1: who waits for 100 Continue gets it, or the final answer."""
        daemon = start_daemon(body_bytes=1000)
        expect = {"Expect": "100-continue"}
        for token, size, status in [
            (daemon.token, 2000, 413),
            ("wrong", 10, 401),
        ]:
            head = post(token, b"", headers=expect | {"Content-Length": str(size)}, length=False)
            with RawHttp(daemon.path) as http:
                http.sock.settimeout(5)
                http.send(head)
                self.error(http.read(), status)

    def test_expect_100_continue(self, daemon: ServedDaemon) -> None:
        body = rpc("getStatus")
        with RawHttp(daemon.path) as http:
            head = post(daemon.token, body, headers={"Expect": "100-continue"})
            http.send(head[: -len(body)])
            assert http.read().status == 100
            http.send(body)
            assert http.read().body["result"]["runs"] == 0

    def test_keep_alive(self, daemon: ServedDaemon) -> None:
        with RawHttp(daemon.path) as http:
            for number in range(5):
                http.send(post(daemon.token, rpc("getStatus", None, number)))
                assert http.read().body["id"] == number
            http.send(post("wrong", rpc("getStatus")))
            self.error(http.read(), 401)
            http.send(post(None, b"", method="GET", path="/nowhere"))
            self.error(http.read(), 404)
            http.send(post(daemon.token, b"nonsense"))
            self.error(http.read(), 400)
            http.send(post(daemon.token, rpc("getStatus", None, "still here")))
            assert http.read().body["id"] == "still here"

    def test_connection_close(self, daemon: ServedDaemon) -> None:
        with RawHttp(daemon.path) as http:
            http.send(post(daemon.token, rpc("getStatus"), headers={"Connection": "close"}))
            assert http.read().status == 200
            assert http.at_end()

    def test_http_1_0(self, daemon: ServedDaemon) -> None:
        with RawHttp(daemon.path) as http:
            http.send(b"GET /health HTTP/1.0\r\n\r\n")
            assert http.read().body["ok"] is True
            assert http.at_end()

    def test_pipelining(self, daemon: ServedDaemon) -> None:
        with RawHttp(daemon.path) as http:
            calls = [post(daemon.token, rpc("getStatus", None, n)) for n in range(200)]
            calls.insert(100, post(daemon.token, rpc("waitForBatch", {"waitMs": 5}, "wait")))
            http.send(b"".join(calls))
            ids = [http.read().body["id"] for _ in calls]
        assert ids == [*range(100), "wait", *range(100, 200)]

    def test_nothing_is_served_after_the_last_answer(
        self, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
    ) -> None:
        daemon = start_daemon(body_bytes=1000)
        daemon.attach().submit([request()])
        daemon.control.call("waitForBatch", waitMs=5000)
        before = daemon.control.snapshot()
        wait = rpc("waitForBatch", {"runId": "another", "waitMs": 5})
        calls = [wait, b" " * 2000, rpc("claimNextBatch", {"adapterId": "a"})]
        with RawHttp(daemon.path) as http:
            http.send(b"".join(post(daemon.token, call) for call in calls))
            assert http.read().status == 200
            assert http.read().status == 413
            assert http.at_end()
        assert daemon.control.snapshot() == before
        assert not caplog.records

    def test_chunked_body(self, daemon: ServedDaemon) -> None:
        body = rpc("getStatus", None, "é水😀")
        chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
        head = post(daemon.token, b"", headers={"Transfer-Encoding": "chunked"}, length=False)
        with RawHttp(daemon.path) as http:
            http.send(head + chunks)
            assert http.read().body["id"] == "é水😀"

    def test_bytes_that_come_one_by_one(self, daemon: ServedDaemon) -> None:
        body = '{"jsonrpc":"2.0","id":"é水😀","method":"getStatus"}'.encode()
        with RawHttp(daemon.path) as http:
            for byte in post(daemon.token, body):
                http.send(bytes([byte]))
            assert http.read().body["id"] == "é水😀"

    def test_a_slow_head_is_cut_off(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(handshake_timeout_s=0.1)
        with RawHttp(daemon.path) as http:
            http.send(b"POST /control HTTP/1.1\r\n")
            assert http.at_end()

    @pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"{}\n\n"])
    def test_garbage_is_400(self, daemon: ServedDaemon, garbage: bytes) -> None:
        with RawHttp(daemon.path) as http:
            http.send(garbage)
            self.error(http.read(), 400)
            assert http.at_end()

    def test_a_refused_head_serves_nothing(self, start_daemon: StartDaemon) -> None:
        """A refusal changes nothing, also when the whole request came in one piece."""
        daemon = start_daemon(header_bytes=1000)
        daemon.attach().submit([request()])
        daemon.control.call("waitForBatch", waitMs=5000)
        before = daemon.control.snapshot()
        with RawHttp(daemon.path) as http:
            call = rpc("claimNextBatch", {"adapterId": "a"})
            http.send(post(daemon.token, call, headers={"X-Long": "x" * 2000}))
            self.error(http.read(), 431)
            assert http.at_end()
        assert daemon.control.snapshot() == before

    def test_connect_is_404(self, daemon: ServedDaemon) -> None:
        """To the parser, CONNECT is an upgrade whatever its headers say."""
        with RawHttp(daemon.path) as http:
            http.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
            self.error(http.read(), 404)
            assert http.at_end()

    def test_an_upgrade_elsewhere_is_404_and_the_connection_goes_on(
        self, daemon: ServedDaemon
    ) -> None:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        with RawHttp(daemon.path) as http:
            http.sock.settimeout(5)
            http.send(post(None, b"", method="GET", path="/nope", headers=headers, length=False))
            answer = http.read()
            self.error(answer, 404)
            if answer.headers.get("connection", "").lower() == "close":
                assert http.at_end()
            else:
                http.send(post(None, b"", method="GET", path="/health"))
                assert http.read().body["ok"] is True

    def test_more_connections_than_allowed_are_refused(self, start_daemon: StartDaemon) -> None:
        daemon = start_daemon(connections=3)
        open_ = [daemon.attach(f"run-{n}") for n in range(3)]
        with RawHttp(daemon.path) as http:
            http.send(post(None, b"", method="GET", path="/health"))
            self.error(http.read(), 503)
        open_.pop().close()
        from support.ws import eventually

        def served() -> bool:
            with RawHttp(daemon.path) as http:
                http.send(post(None, b"", method="GET", path="/health"))
                return http.read().status == 200

        eventually(served)

    @pytest.mark.parametrize("size", [1, 1000, 65536])
    def test_a_large_non_ascii_mock_arrives_intact(self, daemon: ServedDaemon, size: int) -> None:
        """600 KB of text whose characters are 1 to 4 bytes, written in pieces cut anywhere."""
        text = "aé水😀" * 61_000
        client = daemon.attach()
        client.submit([request()])
        claim = daemon.control.claim()
        params = holder(claim) | {"mocks": [{"requestId": "a", "data": text}]}
        call = {"jsonrpc": "2.0", "id": 1, "method": "provideBatch", "params": params}
        data = post(daemon.token, json.dumps(call, ensure_ascii=False).encode())
        step = max(size, math.ceil(len(data) / 50_000))
        with RawHttp(daemon.path) as http:
            for start in range(0, len(data), step):
                http.send(data[start : start + step])
            assert http.read().body["result"]["delivered"] is True
        assert client.recv()["mocks"][0]["data"] == text


def test_a_claim_of_a_large_batch_is_read_slowly(daemon: ServedDaemon) -> None:
    text = "aé水😀" * 61_000
    client: WsClient = daemon.attach()
    client.submit([request(body=text)])
    client.settle()
    sock = connect(daemon.path)
    sock.sendall(post(daemon.token, rpc("claimNextBatch", {"adapterId": "a"})))
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1)
    head, _, body = data.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < size:
        body += sock.recv(4099)
    sock.close()
    assert json.loads(body)["result"]["requests"][0]["body"] == text


def test_a_last_answer_is_read_slowly(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(stop_s=0.05)
    client: WsClient = daemon.attach()
    client.submit([request(body="x" * 2_000_000)])
    client.settle()
    call = post(daemon.token, rpc("listBatches"), headers={"Connection": "close"})
    with RawHttp(daemon.path) as http:
        http.send(call)
        time.sleep(0.3)  # a reader that pauses much longer than a stopping daemon would wait
        assert len(http.read().body["result"]["batches"]) == 1
        assert http.at_end()


def test_events_are_told_when_they_happen(daemon: ServedDaemon):
    assert daemon.control.call("listEvents") == {"events": [], "last": 0}
    assert daemon.control.call("listEvents", waitMs=1) == {"events": [], "last": 0}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            ControlClient(daemon.path, daemon.token).call, "listEvents", waitMs=30_000
        )
        client = daemon.attach("run-1")
        client.submit([request("a", endpoint="/x")])
        (event,) = waiting.result()["events"]
    assert (event["seq"], event["event"], event["detail"]) == (1, "submit", "GET /x")
    assert event["batchId"] == "batch:run-1:1"
    assert event["at"] > 1_600_000_000_000
    assert daemon.control.call("listEvents", after=1) == {"events": [], "last": 1}
    # A number of a daemon that was here before: all that is known.
    assert len(daemon.control.call("listEvents", after=99)["events"]) == 1


def test_a_listing_too_long_to_be_sent_is_refused_in_words(start_daemon: StartDaemon):
    daemon = start_daemon(write_buffer_bytes=100_000)
    test = daemon.attach()
    for _ in range(3):
        test.submit([request("a", body="x" * 50_000)])
    test.settle()
    with pytest.raises(RpcError, match="limit write_buffer_bytes") as refused:
        daemon.control.call("listBatches")
    assert refused.value.code == -32005
    assert len(daemon.control.call("listBatches", brief=True)["batches"]) == 3


def test_a_brief_listing_leaves_out_what_is_large(daemon: ServedDaemon):
    client = daemon.attach("run-1")
    client.submit([request("a", body="x" * 1000, metadata={"schema": {}})])
    client.settle()
    (batch,) = daemon.control.call("listBatches", brief=True)["batches"]
    assert batch["requests"] == [{"requestId": "a", "endpoint": "/user", "method": "GET"}]


def test_nothing_is_logged_where_there_is_no_log(daemon: ServedDaemon):
    client = daemon.attach("run-1")
    client.submit([request("a")])
    client.settle()
    claim = daemon.control.call("claimNextBatch", adapterId="me")
    assert "logged" not in claim
    shown = {"adapterId": "me", "batchIds": [claim["batchId"]], "tool": "t", "text": "x"}
    assert daemon.control.call("logShown", **shown) == {"ok": True}
