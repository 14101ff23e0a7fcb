"""The session without I/O: frames in, frames and resolutions out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mock_mcp.client.session import Session, Ticket
from mock_mcp.errors import (
    BatchExpired,
    BatchGivenUp,
    BatchRefused,
    ClientClosed,
    InvalidMessage,
    MockMcpError,
    UnusableContract,
    VersionMismatch,
)
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, TestMeta

ACK = {"type": "HELLO_ACK", "runId": "run", "protocol": 1, "capabilities": ["ack"]}


class Harness:
    """A session whose outcomes are written down."""

    def __init__(
        self,
        limits: Limits | None = None,
        test_meta: TestMeta | None = None,
        batch_prefix: str = "",
    ) -> None:
        self.answers: list[tuple[str, Mock]] = []
        self.failures: list[tuple[str, MockMcpError]] = []
        self.errors: list[str] = []
        self.session = Session(
            "run",
            pid=7,
            cwd="/w",
            test_meta=test_meta,
            limits=limits or Limits(),
            on_answer=lambda ticket, mock: self.answers.append((ticket.request_id, mock)),
            on_failure=lambda ticket, error: self.failures.append((ticket.request_id, error)),
            on_error=self.errors.append,
            batch_prefix=batch_prefix,
        )

    def hello(self) -> dict[str, Any]:
        return json.loads(self.session.hello("secret"))

    def attach(self) -> list[Any]:
        self.hello()
        return self.receive(ACK)

    def receive(self, message: dict[str, Any]) -> list[Any]:
        return [json.loads(frame) for frame in self.session.receive(json.dumps(message).encode())]

    def submit(self, *tickets: Ticket) -> list[Any]:
        return [json.loads(frame) for frame in self.session.submit(tickets)]

    def cancel(self, ticket: Ticket) -> list[Any]:
        return [json.loads(frame) for frame in self.session.cancel(ticket)]

    def result(self, batch_id: str, *request_ids: str) -> list[Any]:
        mocks = [{"requestId": each, "data": each.upper()} for each in request_ids]
        return self.receive({"type": "BATCH_MOCK_RESULT", "batchId": batch_id, "mocks": mocks})


@pytest.fixture
def harness():
    return Harness()


@pytest.fixture
def attached(harness):
    assert harness.attach() == []
    return harness


def ticket(request_id: str = "a", size: int = 0) -> Ticket:
    body = {"requestId": request_id, "endpoint": "/" + "x" * size, "method": "GET"}
    return Ticket(request_id, f"GET /{request_id}", msgspec.Raw(json.dumps(body).encode()), None)


def ids(frame: dict[str, Any]) -> list[str]:
    return [each["requestId"] for each in frame["requests"]]


def test_hello_says_who_the_run_is():
    harness = Harness(test_meta=TestMeta("/w/test_a.py", "test_b"))
    assert harness.hello() == {
        "type": "HELLO_TEST",
        "token": "secret",
        "runId": "run",
        "pid": 7,
        "cwd": "/w",
        "testMeta": {"testFile": "/w/test_a.py", "testName": "test_b"},
        "protocol": 1,
        "capabilities": ["ack", "errors", "resume"],
        "session": 1,
        "openBatches": [],
    }


def test_what_is_unknown_is_omitted(harness):
    assert "testMeta" not in harness.hello()


def test_the_session_number_rises_with_every_attempt(harness):
    numbers = [harness.hello()["session"] for _ in range(4)]
    assert numbers == sorted(set(numbers))


def test_nothing_is_sent_before_the_hello_was_acknowledged(harness):
    assert harness.submit(ticket()) == []
    assert harness.hello()["openBatches"] == ["batch:run:1"]
    assert harness.submit(ticket("b")) == []
    sent = harness.receive(ACK)
    assert [frame["batchId"] for frame in sent] == ["batch:run:1", "batch:run:2"]


def test_a_batch_carries_its_requests_as_they_are(attached):
    (frame,) = attached.submit(ticket("a"), ticket("b"))
    assert frame == {
        "type": "BATCH_MOCK_REQUEST",
        "runId": "run",
        "batchId": "batch:run:1",
        "requests": [
            {"requestId": "a", "endpoint": "/", "method": "GET"},
            {"requestId": "b", "endpoint": "/", "method": "GET"},
        ],
    }


def test_each_batch_has_an_id_of_its_own(attached):
    batch_ids = [attached.submit(ticket(str(n)))[0]["batchId"] for n in range(5)]
    assert len(set(batch_ids)) == 5
    assert all(each.startswith("batch:run:") for each in batch_ids)


def test_two_clients_of_one_run_have_no_batch_id_in_common():
    first, second = (Harness(batch_prefix=prefix) for prefix in ("a-", "b-"))
    first.submit(ticket())
    second.submit(ticket())
    assert first.hello()["openBatches"] == ["batch:run:a-1"]
    assert second.hello()["openBatches"] == ["batch:run:b-1"]


def test_a_result_resolves_each_request_with_its_own_mock(attached):
    attached.submit(ticket("a"), ticket("b"))
    assert attached.session.waits
    assert attached.result("batch:run:1", "b", "a") == [
        {"type": "BATCH_RESULT_ACK", "batchId": "batch:run:1"}
    ]
    assert {name: mock.data for name, mock in attached.answers} == {"a": "A", "b": "B"}
    assert not attached.session.waits


def test_a_result_that_comes_again_is_acknowledged_again_and_resolves_nothing(attached):
    attached.submit(ticket("a"))
    attached.result("batch:run:1", "a")
    assert attached.result("batch:run:1", "a") == [
        {"type": "BATCH_RESULT_ACK", "batchId": "batch:run:1"}
    ]
    assert len(attached.answers) == 1


def test_a_result_that_lacks_a_mock_fails_that_request(attached):
    attached.submit(ticket("a"), ticket("b"))
    attached.result("batch:run:1", "a")
    ((failed, error),) = attached.failures
    assert failed == "b"
    assert isinstance(error, BatchRefused)


def test_a_reconnect_names_and_submits_what_waits_in_the_same_batches(attached):
    attached.submit(ticket("a"), ticket("b"))
    attached.submit(ticket("c"))
    attached.submit(ticket("d"))
    attached.result("batch:run:2", "c")
    attached.session.lost()
    assert attached.hello()["openBatches"] == ["batch:run:1", "batch:run:3"]
    sent = attached.receive(ACK)
    assert [(frame["batchId"], ids(frame)) for frame in sent] == [
        ("batch:run:1", ["a", "b"]),
        ("batch:run:3", ["d"]),
    ]


def test_cancelling_one_request_leaves_the_batch(attached):
    a, b = ticket("a"), ticket("b")
    attached.submit(a, b)
    assert attached.cancel(a) == [
        {"type": "BATCH_CANCEL", "batchId": "batch:run:1", "requestIds": ["a"]}
    ]
    attached.result("batch:run:1", "b")
    assert [name for name, _ in attached.answers] == ["b"]
    assert attached.failures == []


def test_cancelling_the_last_request_forgets_the_batch(attached):
    a = ticket("a")
    attached.submit(a)
    attached.cancel(a)
    assert not attached.session.waits
    attached.session.lost()
    assert attached.hello()["openBatches"] == []


def test_cancelling_twice_or_after_the_answer_sends_nothing(attached):
    a, b = ticket("a"), ticket("b")
    attached.submit(a, b)
    attached.cancel(a)
    assert attached.cancel(a) == []
    attached.result("batch:run:1", "b")
    assert attached.cancel(b) == []
    assert attached.cancel(ticket("never sent")) == []


def test_what_was_cancelled_while_away_is_not_submitted_again(attached):
    a, b, c = ticket("a"), ticket("b"), ticket("c")
    attached.submit(a, b)
    attached.submit(c)
    attached.session.lost()
    assert attached.cancel(a) == []
    assert attached.cancel(c) == []
    assert attached.hello()["openBatches"] == ["batch:run:1"]
    (frame,) = attached.receive(ACK)
    assert ids(frame) == ["b"]


def test_a_batch_cancelled_between_hello_and_its_acknowledgement_is_cancelled_at_the_daemon(
    attached,
):
    a = ticket("a")
    attached.submit(a)
    attached.session.lost()
    assert attached.hello()["openBatches"] == ["batch:run:1"]  # the daemon keeps it
    sent = attached.cancel(a) + attached.receive(ACK)
    assert [(frame["type"], frame["batchId"]) for frame in sent] == [
        ("BATCH_CANCEL", "batch:run:1")
    ]


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        ("batch-expired", BatchExpired),
        ("given-up", BatchGivenUp),
        ("unusable-contract", UnusableContract),
        ("limit-exceeded", BatchRefused),
        ("a-code-of-the-future", BatchRefused),
    ],
)
def test_an_error_fails_the_whole_batch_with_the_daemons_reason(attached, code, cls):
    attached.submit(ticket("a"), ticket("b"))
    attached.submit(ticket("c"))
    error = {"batchId": "batch:run:1", "code": code, "message": "because of this"}
    assert attached.receive({"type": "BATCH_MOCK_ERROR", **error}) == []
    assert [name for name, _ in attached.failures] == ["a", "b"]
    for _, failure in attached.failures:
        assert type(failure) is cls
        assert "because of this" in failure.message
    assert attached.session.waits


def test_an_error_of_the_channel_is_reported_and_fails_nothing(attached):
    attached.submit(ticket("a"))
    attached.receive({"type": "ERROR", "code": "invalid-message", "message": "what was that"})
    assert attached.errors == ["invalid-message: what was that"]
    assert attached.failures == []


@pytest.mark.parametrize(
    "ack",
    [
        {"type": "HELLO_ACK", "runId": "run"},
        {"type": "HELLO_ACK", "runId": "run", "protocol": None},
        {"type": "HELLO_ACK", "runId": "run", "protocol": 2, "version": "9.9"},
    ],
)
def test_another_revision_is_refused_by_name(harness, ack):
    harness.hello()
    with pytest.raises(VersionMismatch, match="stop"):
        harness.receive(ack)
    assert not harness.session.ready


def test_messages_of_the_future_are_ignored(attached):
    assert attached.receive({"type": "SOMETHING_NEW", "x": [1]}) == []
    assert attached.receive({"type": "HEARTBEAT_ACK", "runId": "run"}) == []
    assert attached.session.ready


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"type": 1}',
        b'{"type": "BATCH_MOCK_RESULT"}',
        b'{"type": "BATCH_MOCK_RESULT", "batchId": "b", "mocks": [null]}',
        b'{"type": "BATCH_MOCK_RESULT", "batchId": "b", "mocks": [{"requestId": 1}]}',
        b"\xff",
    ],
)
def test_a_frame_that_is_not_of_the_protocol_resolves_nothing(attached, text):
    attached.submit(ticket("a"))
    with pytest.raises(InvalidMessage):
        attached.session.receive(text)
    assert attached.answers == attached.failures == []
    assert attached.session.waits


def test_giving_up_fails_everything_once(attached):
    attached.submit(ticket("a"), ticket("b"))
    attached.submit(ticket("c"))
    attached.session.fail_all(ClientClosed("the end"))
    assert [name for name, _ in attached.failures] == ["a", "b", "c"]
    attached.session.fail_all(ClientClosed("the end"))
    assert len(attached.failures) == 3
    assert not attached.session.waits


def test_a_batch_that_would_not_fit_into_a_frame_is_split():
    harness = Harness(Limits(frame_bytes=4096))
    harness.attach()
    sent = harness.submit(*(ticket(str(n), size=1000) for n in range(7)))
    assert [each for frame in sent for each in ids(frame)] == [str(n) for n in range(7)]
    assert len({frame["batchId"] for frame in sent}) == len(sent) > 1
    assert all(len(json.dumps(frame)) <= 4096 for frame in sent)
