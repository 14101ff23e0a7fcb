"""Answers given for the whole run: which requests are the same, and what is forgotten."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from mock_mcp.core.broker import Broker, Status
from mock_mcp.core.effects import (
    Cancelled,
    Delivered,
    Reused,
    Submitted,
)
from mock_mcp.core.reuse import ReusableAnswers
from mock_mcp.errors import MocksMismatch, NotClaimed
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest

BASE = {
    "requestId": "a",
    "endpoint": "https://api.test/jobs/7",
    "method": "GET",
    "headers": {"Accept": "application/json", "x-trace": "1"},
    "metadata": {"instructions": "done", "test": {"name": "test_one"}},
}


def asked(**changes: Any) -> MockRequest:
    fields = {name: value for name, value in {**BASE, **changes}.items() if value is not None}
    raw = msgspec.Raw(json.dumps(fields).encode())
    return MockRequest(fields["requestId"], fields["endpoint"], fields["method"], raw)


def found(answers: ReusableAnswers, request: MockRequest) -> Mock | None:
    return answers.find([request], 1000).get(request.request_id)


def known() -> ReusableAnswers:
    answers = ReusableAnswers(10, 1000)
    answers.add(asked(), Mock("a", {"state": "done"}, 201, {"etag": "1"}, 5))
    return answers


@pytest.mark.parametrize(
    "changes",
    [
        {"requestId": "b"},
        {"headers": {"accept": "application/json", "x-trace": "2"}},
        {"metadata": {"test": {"name": "test_two"}, "instructions": "done"}},
    ],
)
def test_the_same_request_has_the_same_answer_under_its_own_id(changes):
    request = asked(**changes)
    assert found(known(), request) == Mock(
        request.request_id, {"state": "done"}, 201, {"etag": "1"}, 5
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "https://api.test/jobs/8"},
        {"endpoint": "https://api.test/jobs/7?page=2"},
        {"method": "POST"},
        {"body": {}},
        {"headers": {"accept": "text/csv"}},
        {"headers": {**BASE["headers"], "Range": "bytes=0-99"}},
        {"headers": {**BASE["headers"], "x-ms-range": "bytes=0-99"}},
        {"headers": {**BASE["headers"], "X-Amz-Target": "SQS.ReceiveMessage"}},
        {"headers": None},
        {"metadata": {"instructions": "failed"}},
        {"contract": {"mode": "off"}},
        {"later": 1},
    ],
)
def test_what_may_decide_the_answer_makes_another_request(changes):
    assert found(known(), asked(**changes)) is None


@pytest.mark.parametrize("match", [["x-tenant"], ["x-*"], ["x-trace", "x-tenant"]])
def test_headers_that_the_test_compares_make_another_request(match):
    answers = ReusableAnswers(10, 1000)
    contract = {"match": match}
    of_one = {"X-Tenant": "one", "date": "now"}
    answers.add(asked(contract=contract, headers=of_one), Mock("a", "of one"))
    assert found(answers, asked(contract=contract, headers={**of_one, "date": "then"})) is not None
    assert found(answers, asked(contract=contract, headers={**of_one, "X-Tenant": "two"})) is None


@pytest.mark.parametrize("contract", [{"match": "x-trace"}, {"match": [1, None]}, ["x-trace"], 1])
def test_what_another_client_means_by_contract_compares_nothing_more(contract):
    answers = ReusableAnswers(10, 1000)
    answers.add(asked(contract=contract), Mock("a", "done"))
    assert found(answers, asked(contract=contract, headers={**BASE["headers"], "x-trace": "2"}))


def test_the_oldest_answers_are_forgotten_first():
    answers = ReusableAnswers(2, 1000)
    for endpoint in ("/1", "/2", "/1", "/3"):
        answers.add(asked(endpoint=endpoint), Mock("a", endpoint))
    assert len(answers) == 2
    assert found(answers, asked(endpoint="/2")) is None
    assert found(answers, asked(endpoint="/1")) == Mock("a", "/1")


def test_bytes_are_bounded_too():
    answers = ReusableAnswers(10, 300)
    for endpoint in ("/1", "/2", "/3", "/4"):
        answers.add(asked(endpoint=endpoint), Mock("a", "x" * 70))
    assert 0 < len(answers) < 4
    assert found(answers, asked(endpoint="/4")) is not None
    answers.add(asked(endpoint="/4"), Mock("a", "x" * 300))
    assert found(answers, asked(endpoint="/4")) is None
    assert len(answers) > 0


# -- In the broker ------------------------------------------------------------------------------


def polled(capabilities: tuple[str, ...] = ("ack", "resume"), **limits: Any) -> Broker:
    """Return a broker whose run has had "done" for `BASE` for its whole length."""
    broker = Broker(Limits(**limits))
    broker.open_run(0, "r", 1, capabilities=capabilities)
    broker.submit(0, "r", [asked()])
    broker.claim(0, "A", 30, "t")
    broker.provide(0, "A", "batch:r:1", "t", [Mock("a", "done", reuse="run")])
    broker.acknowledge("r", "batch:r:1")
    broker.take_effects()
    return broker


@pytest.mark.parametrize("capabilities", [("ack", "resume"), ()])
def test_the_same_request_is_answered_at_once(capabilities):
    broker = polled(capabilities)
    broker.submit(1, "r", [asked(requestId="b")])
    submitted, reused, delivered = broker.take_effects()
    assert isinstance(submitted, Submitted)
    assert reused == Reused("r", "batch:r:2", ("b",))
    assert delivered == Delivered("r", "batch:r:2", "", (Mock("b", "done"),))
    assert broker.claimable() == (0, None)
    assert broker.claim(1, "A", 30, "t2") is None
    assert broker.is_live("batch:r:2") is bool(capabilities)


def test_a_test_never_sees_how_its_answer_may_be_used():
    broker = Broker()
    broker.open_run(0, "r", 1)
    broker.submit(0, "r", [asked()])
    broker.claim(0, "A", 30, "t")
    broker.provide(0, "A", "batch:r:1", "t", [Mock("a", 1, reuse="run")])
    (delivered,) = [each for each in broker.take_effects() if isinstance(each, Delivered)]
    assert delivered.mocks == (Mock("a", 1),)


def test_a_result_that_was_not_acknowledged_is_delivered_again():
    broker = polled()
    batch = broker.submit(1, "r", [asked(requestId="b")])
    broker.take_effects()
    broker.submit(2, "r", [asked(requestId="b")], batch.id)
    (delivered,) = broker.take_effects()
    assert isinstance(delivered, Delivered)
    assert delivered.mocks == (Mock("b", "done"),)


def test_only_what_is_new_is_asked_for():
    broker = polled()
    broker.submit(1, "r", [asked(requestId="b"), asked(requestId="c", method="PUT")])
    batch = broker.claim(1, "A", 30, "t2")
    assert batch is not None
    assert [request.request_id for request in batch.wanted] == ["c"]
    with pytest.raises(MocksMismatch, match="no such request: 'b'"):
        broker.provide(1, "A", batch.id, "t2", [Mock("b", 1), Mock("c", 2)])
    broker.take_effects()
    broker.provide(1, "A", batch.id, "t2", [Mock("c", 2)])
    (delivered,) = broker.take_effects()
    assert isinstance(delivered, Delivered)
    assert delivered.mocks == (Mock("b", "done"), Mock("c", 2))


@pytest.mark.parametrize("is_claimed", [False, True])
def test_a_batch_is_answered_when_all_that_was_new_is_cancelled(is_claimed):
    broker = polled()
    batch = broker.submit(1, "r", [asked(requestId="b"), asked(requestId="c", method="PUT")])
    if is_claimed:
        broker.claim(1, "A", 30, "t2")
    broker.take_effects()
    broker.cancel("r", batch.id, ["c"])
    assert [type(effect) for effect in broker.take_effects()] == [Cancelled, Delivered]
    assert batch.status is Status.FULFILLED
    assert (broker.pending, broker.claimed) == (0, 0)
    if is_claimed:  # the work of its holder is not refused
        assert broker.provide(2, "A", batch.id, "t2", [Mock("c", 2)]) is None
    with pytest.raises(NotClaimed):
        broker.provide(2, "B", batch.id, "t3", [Mock("c", 2)])


def test_a_known_answer_that_is_cancelled_answers_nothing_else():
    broker = polled()
    new = [asked(requestId=rid, method="PUT") for rid in ("c", "d")]
    batch = broker.submit(1, "r", [asked(requestId="b"), *new])
    broker.cancel("r", batch.id, ["b"])
    broker.cancel("r", batch.id, ["c"])
    claimed = broker.claim(2, "A", 30, "t2")
    assert claimed is batch, "one request is left, and nobody knows its answer"
    broker.provide(2, "A", batch.id, "t2", [Mock("d", 2)])
    assert batch.mocks == (Mock("d", 2),)


def test_no_other_run_gets_the_answer_nor_the_same_run_when_it_came_again():
    broker = polled()
    broker.open_run(1, "other", 2)
    broker.submit(1, "other", [asked()])
    assert broker.pending == 1
    broker.close_run(2, "r", 1, clean=True)
    broker.open_run(3, "r", 3)
    broker.submit(3, "r", [asked()])
    assert broker.pending == 2


def test_answers_of_a_run_are_bounded():
    broker = polled(reused_answers=0)
    broker.submit(1, "r", [asked(requestId="b")])
    assert broker.pending == 1


def test_what_is_reused_leaves_half_of_a_message_for_the_rest():
    size = len(msgspec.json.encode(Mock("a", "done")))
    broker = polled(frame_bytes=2 * 2 * size)
    batch = broker.submit(1, "r", [asked(requestId=rid) for rid in "bcd"])
    assert list(batch.reused) == ["b", "c"]
    assert [request.request_id for request in batch.wanted] == ["d"]
