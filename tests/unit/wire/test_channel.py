"""The messages of the test channel: fields, nulls, and what is opaque."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mock_mcp.errors import InvalidMessage, LimitExceeded
from mock_mcp.limits import Limits
from mock_mcp.types import Mock
from mock_mcp.wire.channel import (
    BatchCancel,
    BatchMockError,
    BatchMockResult,
    BatchResultAck,
    ErrorMessage,
    Heartbeat,
    HeartbeatAck,
    HelloAck,
    HelloTest,
    InvalidBatch,
    SubmittedBatch,
    decode_from_client,
    decode_from_daemon,
    encode_message,
)

LIMITS = Limits()
REQUEST = {"requestId": "a", "endpoint": "/", "method": "GET"}


def from_client(message: Any) -> Any:
    return decode_from_client(json.dumps(message).encode(), LIMITS)


def batch(requests: Any, **more: Any) -> SubmittedBatch:
    message = {"type": "BATCH_MOCK_REQUEST", "runId": "r", "requests": requests} | more
    found = from_client(message)
    assert isinstance(found, SubmittedBatch)
    return found


def encoded(message: Any) -> Any:
    return json.loads(encode_message(message))


def test_encoding_uses_the_names_of_the_wire_and_omits_what_is_absent() -> None:
    assert encoded(HelloTest("t", "r", 1, "/")) == {
        "type": "HELLO_TEST",
        "token": "t",
        "runId": "r",
        "pid": 1,
        "cwd": "/",
    }
    assert encoded(HelloAck("r", 1, "d", "v", ["ack"])) == {
        "type": "HELLO_ACK",
        "runId": "r",
        "protocol": 1,
        "daemonId": "d",
        "version": "v",
        "capabilities": ["ack"],
    }
    assert encoded(HelloAck("r")) == {"type": "HELLO_ACK", "runId": "r"}
    assert encoded(BatchMockResult("b", [Mock("a", None)])) == {
        "type": "BATCH_MOCK_RESULT",
        "batchId": "b",
        "mocks": [{"requestId": "a", "data": None}],
    }
    assert encoded(BatchMockResult("b", [Mock("a", 1, 201, {"x": ["1"]}, 5)]))["mocks"] == [
        {"requestId": "a", "data": 1, "status": 201, "headers": {"x": ["1"]}, "delayMs": 5}
    ]
    assert encoded(BatchResultAck("b")) == {"type": "BATCH_RESULT_ACK", "batchId": "b"}
    assert encoded(BatchCancel("b")) == {"type": "BATCH_CANCEL", "batchId": "b"}
    assert encoded(BatchMockError("b", "c", "m")) == {
        "type": "BATCH_MOCK_ERROR",
        "batchId": "b",
        "code": "c",
        "message": "m",
    }
    assert encoded(HeartbeatAck("r")) == {"type": "HEARTBEAT_ACK", "runId": "r"}
    assert encoded(ErrorMessage("c", "m")) == {"type": "ERROR", "code": "c", "message": "m"}


@pytest.mark.parametrize(
    "message",
    [
        HelloTest("t", "r", 1, "/", capabilities=["ack"], session=3, open_batches=["b"]),
        BatchResultAck("b"),
        BatchCancel("b", ["a"]),
        BatchCancel("b"),
        Heartbeat("r"),
    ],
)
def test_what_a_client_sends_is_understood(message: Any) -> None:
    assert decode_from_client(encode_message(message), LIMITS) == message


@pytest.mark.parametrize(
    "message",
    [
        HelloAck("r", 1, "d", "v", ["ack"]),
        BatchMockResult("b", [Mock("a", {"x": 1})]),
        BatchMockError("b", "c", "m"),
        HeartbeatAck("r"),
        ErrorMessage("c", "m"),
    ],
)
def test_what_a_daemon_sends_is_understood(message: Any) -> None:
    assert decode_from_daemon(encode_message(message), LIMITS) == message


def test_a_0_5_daemon_is_understood() -> None:
    text = b'{"type":"HELLO_ACK","runId":"r"}'
    assert decode_from_daemon(text, LIMITS) == HelloAck("r")


def test_messages_of_later_revisions_are_ignored_by_a_client() -> None:
    assert decode_from_daemon(b'{"type":"LATER","x":1}', LIMITS) is None


def test_null_means_absent() -> None:
    hello = {"type": "HELLO_TEST", "token": "t", "runId": "r", "pid": 1.5, "cwd": "/"}
    optional = ("testMeta", "protocol", "capabilities", "session", "openBatches")
    assert from_client(hello | dict.fromkeys(optional)) == HelloTest("t", "r", 1.5, "/")
    cancel = {"type": "BATCH_CANCEL", "batchId": "b", "requestIds": None}
    assert from_client(cancel) == BatchCancel("b")
    nulls = dict.fromkeys(("body", "headers", "metadata", "contract"))
    (request,) = batch([REQUEST | nulls], batchId=None).requests
    assert json.loads(bytes(request.json)) == REQUEST


def test_a_null_elsewhere_is_a_value() -> None:
    whole = REQUEST | {"body": {"a": None}, "unknown": None, "headers": {"x": None}}
    (request,) = batch([whole]).requests
    assert json.loads(bytes(request.json)) == whole


@pytest.mark.parametrize(
    ("fields", "names_contract"),
    [
        ({"metadata": {"schema": {}}}, True),
        ({"metadata": {"schemaUrl": "a.json"}}, True),
        ({"contract": {"documents": []}}, True),
        ({"metadata": {"notes": {"schema": {}}}, "contract": {"mode": "warn"}}, False),
        ({"metadata": ["schema"], "contract": "documents", "body": {"schema": {}}}, False),
        ({"metadata": None, "contract": None}, False),
    ],
)
def test_a_request_may_bring_a_contract(fields: dict[str, Any], names_contract: bool) -> None:
    (request,) = batch([REQUEST | fields]).requests
    assert request.names_contract is names_contract


def test_a_request_that_stays_as_it_is_is_passed_on_byte_for_byte() -> None:
    raw = '{ "method":"GET",\t"z":1.00,"y":null,"endpoint":"\\u002f", "requestId":"a",'
    raw += '"n":1E2,"k":"\\ud83d\\ude00"}'
    text = '{"type":"BATCH_MOCK_REQUEST","runId":"r","requests":[' + raw + "]}"
    found = decode_from_client(text.encode(), LIMITS)
    assert isinstance(found, SubmittedBatch)
    assert bytes(found.requests[0].json) == raw.encode()
    assert found.requests[0].endpoint == "/"


def test_escaped_and_repeated_names_mean_the_same_to_all() -> None:
    item = json.dumps(REQUEST)
    for text in (
        '{"type":"BATCH_MOCK_REQUEST","runId":"r","requ\\u0065sts":[' + item + "]}",
        '{"type":"BATCH_MOCK_REQUEST","runId":"r","requests":[1,2],"requests":[' + item + "]}",
    ):
        found = decode_from_client(text.encode(), LIMITS)
        assert isinstance(found, SubmittedBatch)
        assert json.loads(bytes(found.requests[0].json)) == REQUEST


@pytest.mark.parametrize(
    "requests",
    [None, {}, [None], [1], [{}], [REQUEST | {"requestId": ""}], [REQUEST | {"method": None}]],
)
def test_a_bad_batch_keeps_its_id(requests: Any) -> None:
    with pytest.raises(InvalidBatch) as error:
        batch(requests, batchId="batch:r:1")
    assert error.value.batch_id == "batch:r:1"
    with pytest.raises(InvalidBatch) as error:
        batch(requests)
    assert error.value.batch_id is None


def test_ids_are_limited() -> None:
    batch([REQUEST | {"requestId": "é" * LIMITS.id_chars}])
    with pytest.raises(InvalidBatch):
        batch([REQUEST | {"requestId": "x" * (LIMITS.id_chars + 1)}])


@pytest.mark.parametrize(
    "message", [None, [], 1, "x", {}, {"type": None}, {"type": 1}, {"type": "LATER"}]
)
def test_what_is_no_message(message: Any) -> None:
    with pytest.raises(InvalidMessage):
        from_client(message)


def test_a_deep_message_is_refused() -> None:
    deep = '{"type":"HEARTBEAT","x":' + "[" * 300 + "]" * 300 + "}"
    with pytest.raises(LimitExceeded):
        decode_from_client(deep.encode(), LIMITS)
