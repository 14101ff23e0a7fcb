"""JSON-RPC 2.0 calls and answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mock_mcp import errors
from mock_mcp.types import Mock, Violation
from mock_mcp.wire import control as wire


def call(method: Any = "getStatus", params: Any = None, **more: Any) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": params} | more
    ).encode()


METHODS = {
    "getStatus": wire.GetStatus(),
    "listRuns": wire.ListRuns(),
    "claimNextBatch": wire.ClaimNextBatch("a", "r", 5, "b"),
    "getBatch": wire.GetBatch("b"),
    "provideBatch": wire.ProvideBatch("a", "b", "t", [Mock("x", {"y": 1})]),
    "releaseBatch": wire.ReleaseBatch("a", "b", "t", "why"),
    "renewClaim": wire.RenewClaim("a", "b", "t", 5),
    "waitForBatch": wire.WaitForBatch(5, "r"),
    "listBatches": wire.ListBatches("r", "pending"),
    "shutdown": wire.Shutdown(),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str) -> None:
    params = METHODS[method]
    assert wire.METHOD_OF[type(params)] == method
    text = wire.encode_result("x", params)  # any value; taken apart for its params
    decoded = json.loads(text)["result"]
    assert wire.decode_call(call(method, decoded), 100) == (1, params)


def test_optional_params_may_be_null() -> None:
    nulls = {"adapterId": "a", "runId": None, "leaseMs": None, "batchId": None}
    assert wire.decode_call(call("claimNextBatch", nulls), 100)[1] == wire.ClaimNextBatch("a")


@pytest.mark.parametrize(
    ("text", "error", "call_id"),
    [
        (b"", errors.ParseError, None),
        (b"{", errors.ParseError, None),
        (b"[]", errors.InvalidMessage, None),
        (b"{}", errors.InvalidMessage, None),
        (call(id=None), errors.InvalidMessage, None),
        (call(id=True), errors.InvalidMessage, None),
        (call(id=[1]), errors.InvalidMessage, None),
        (call(method=None), errors.InvalidMessage, None),
        (call(jsonrpc="1.0"), errors.InvalidMessage, None),
        (call("nonsense"), errors.MethodNotFound, 1),
        (call("nonsense", id="x"), errors.MethodNotFound, "x"),
        (call("getBatch"), errors.InvalidParams, 1),
        (call("getBatch", []), errors.InvalidParams, 1),
        (call("getBatch", {"batchId": 1}), errors.InvalidParams, 1),
        (call("listBatches", {"status": "lost"}), errors.InvalidParams, 1),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", errors.LimitExceeded, None),
    ],
)
def test_refusals(text: bytes, error: type[errors.MockMcpError], call_id: Any) -> None:
    with pytest.raises(wire.CallRefused) as refused:
        wire.decode_call(text, 100)
    assert type(refused.value.error) is error
    assert refused.value.call_id == call_id


def test_errors_carry_their_numbers_and_codes() -> None:
    numbers = {
        errors.ParseError: -32700,
        errors.InvalidMessage: -32600,
        errors.MethodNotFound: -32601,
        errors.InvalidParams: -32602,
        errors.InternalError: -32603,
        errors.UnknownBatch: -32000,
        errors.UnknownRun: -32000,
        errors.ClaimMismatch: -32001,
        errors.NotClaimed: -32002,
        errors.MocksMismatch: -32002,
        errors.LeaseEnded: -32003,
        errors.LimitExceeded: -32005,
    }
    for cls, number in numbers.items():
        answer = json.loads(wire.encode_error("id", cls("what happened")))
        assert answer == {
            "jsonrpc": "2.0",
            "id": "id",
            "error": {"code": number, "message": "what happened", "data": {"code": cls.code}},
        }
        assert wire.http_status(cls("x")) == (400 if number in (-32700, -32600) else 200)


def test_a_contract_violation_lists_everything() -> None:
    violation = Violation("a", "/x", "type", "string", "1", "Make it a string.")
    error = errors.ContractViolation("two", [violation], ["b"])
    answer = json.loads(wire.encode_error(1, error))["error"]
    assert answer["code"] == -32004
    assert answer["data"]["accepted"] == ["b"]
    assert answer["data"]["violations"] == [
        {
            "requestId": "a",
            "pointer": "/x",
            "keyword": "type",
            "expected": "string",
            "actual": "1",
            "hint": "Make it a string.",
        }
    ]
