from __future__ import annotations

import json
import math

import jsonschema_rs
import pytest

from mock_mcp.adapter.prompts import INSTRUCTIONS, serve_mocks
from mock_mcp.adapter.tools import TOOLS, arguments_of
from mock_mcp.errors import InvalidParams
from mock_mcp.serving.mocks import MockArgument, given
from mock_mcp.types import Mock

CLAIMED = {"batchId": "b", "claimToken": "t"}
READ_ONLY = {"get_status", "list_runs", "get_batch", "get_pending_batches", "get_schema"}


def test_the_nine_tools_are_there():
    assert [*TOOLS] == [
        "get_status",
        "list_runs",
        "claim_next_batch",
        "get_batch",
        "provide_batch_mock_data",
        "release_batch",
        "get_pending_batches",
        "renew_claim",
        "get_schema",
    ]


@pytest.mark.parametrize("tool", TOOLS.values(), ids=[*TOOLS])
def test_every_tool_is_complete_and_short(tool):
    assert tool.title
    assert 40 < len(tool.description.encode()) < 2048
    hints = tool.annotations
    assert hints.read_only_hint is (tool.name in READ_ONLY)
    assert hints.open_world_hint is False
    assert hints.destructive_hint is False
    assert isinstance(hints.idempotent_hint, bool)
    for schema in (tool.input_schema, tool.output_schema):
        assert schema["type"] == "object"
        assert "$ref" not in json.dumps(schema)
        jsonschema_rs.Draft202012Validator(schema)
    assert tool.input_schema["additionalProperties"] is False


def test_instructions_are_short():
    assert len(INSTRUCTIONS.encode()) < 2048
    assert "pytest -x" in serve_mocks("pytest -x")
    assert "None" not in serve_mocks(None)


def test_every_unknown_argument_is_named():
    with pytest.raises(InvalidParams, match=r"no argument 'run_id', 'foo'; it takes runId"):
        arguments_of("claim_next_batch", {"run_id": "x", "foo": 1, "waitMs": 1})
    with pytest.raises(InvalidParams, match="it takes none"):
        arguments_of("get_status", {"x": 1})


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("claim_next_batch", {"waitMs": 45_001}, r"<= 45000.*\$\.waitMs"),
        ("claim_next_batch", {"waitMs": -1}, "waitMs"),
        ("claim_next_batch", {"waitMs": "5"}, "waitMs"),
        ("claim_next_batch", {"leaseMs": 0}, "leaseMs"),
        ("claim_next_batch", {"leaseMs": math.nan}, "nan is not JSON"),
        ("claim_next_batch", {"leaseMs": True}, "leaseMs"),
        ("get_batch", {}, "batchId"),
        ("get_batch", {"batchId": None}, "batchId"),
        ("provide_batch_mock_data", {**CLAIMED}, "mocks"),
        ("provide_batch_mock_data", {**CLAIMED, "mocks": None}, "mocks"),
        ("provide_batch_mock_data", {**CLAIMED, "mocks": [None]}, r"mocks\[0\]"),
        ("provide_batch_mock_data", {**CLAIMED, "mocks": "[]"}, r"mocks`\. Send the JSON value"),
        ("provide_batch_mock_data", {**CLAIMED, "mocks": ["{}"]}, r"mocks\[0\]`\. Send the JSON"),
        ("provide_batch_mock_data", {**CLAIMED, "mocks": [{"requestId": "r"}]}, "data"),
        (
            "provide_batch_mock_data",
            {**CLAIMED, "mocks": [{"requestId": "r", "data": 1, "statusCode": 404}]},
            r"statusCode.*mocks\[0\].*takes requestId, data, status, headers, delayMs, reuse\.",
        ),
        (
            "provide_batch_mock_data",
            {**CLAIMED, "mocks": [{"requestId": "r", "data": 1, "status": 42}]},
            r"mocks\[0\]\.status",
        ),
        (
            "provide_batch_mock_data",
            {**CLAIMED, "mocks": [{"requestId": "r", "data": {"deep": [math.inf]}}]},
            "inf is not JSON",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_words(tool, arguments, message):
    with pytest.raises(InvalidParams, match=message) as refusal:
        arguments_of(tool, arguments)
    assert "correct the arguments and call again" in str(refusal.value)


def test_deep_arguments_are_refused():
    data: object = 1
    for _ in range(500):
        data = [data]
    with pytest.raises(InvalidParams, match="deeper"):
        arguments_of("provide_batch_mock_data", {**CLAIMED, "mocks": [{"data": data}]})


def test_an_optional_argument_that_is_null_is_absent():
    arguments = arguments_of("claim_next_batch", {"runId": None, "waitMs": 5})
    assert given(arguments.run_id) is None
    assert given(arguments.wait_ms) == 5


def test_a_mock_keeps_null_data_and_drops_null_fields():
    mock = {"requestId": "r", "data": None, "status": None, "headers": {"a": ["b"]}}
    (argument,) = arguments_of("provide_batch_mock_data", {**CLAIMED, "mocks": [mock]}).mocks
    assert isinstance(argument, MockArgument)
    assert argument.mock() == Mock("r", None, headers={"a": ["b"]})
