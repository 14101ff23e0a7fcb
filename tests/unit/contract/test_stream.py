"""Samples of streams: several items, in the order of a stream."""

# ruff: noqa: E501 - cases are tables

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.expected import expected, sample_mock
from mock_mcp.contract.gate import Contracts
from mock_mcp.sequential import split

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
ASKED = {
    "requestId": "r",
    "method": "POST",
    "endpoint": "https://api.test/chat",
    "body": {"stream": True, "model": "m1"},
}


def kind(name: str, **properties: Any) -> dict[str, Any]:
    fields = {"type": {"const": name}, **properties}
    return {"type": "object", "required": [*fields], "properties": fields}


def contract(tmp_path: Path, media: Any, *, told: str = "", media_type: str = EVENTS) -> Contracts:
    sent = {"type": "object", "properties": {"stream": {"type": "boolean", "description": told}}}
    post = {
        "requestBody": {"content": {"application/json": {"schema": sent}}},
        "responses": {"200": {"description": "", "content": {media_type: media}}},
    }
    api = {
        "openapi": "3.1.0",
        "servers": [{"url": "https://api.test"}],
        "paths": {"/chat": {"post": post}},
    }
    (tmp_path / "api.json").write_text(json.dumps(api))
    return Contracts([DocumentSource(tmp_path / "api.json")])


def sampled(contracts: Contracts, media_type: str = EVENTS) -> list[Any]:
    mock = sample_mock(contracts, ASKED, seed=1)
    assert contracts.check_mock(ASKED, mock).checked
    assert mock.headers == {"content-type": media_type}
    return split(mock.data, media_type)


INDEX = {"type": "integer", "minimum": 0}


@pytest.mark.parametrize(
    ("kinds", "order"),
    [
        (
            [
                kind("message_start"), kind("message_delta"), kind("message_stop"), kind("ping"),
                kind("error"), kind("content_block_start", index=INDEX),
                kind("content_block_delta", index=INDEX), kind("content_block_stop", index=INDEX),
            ],
            ("message_start content_block_start content_block_delta content_block_stop ping "
            "message_delta message_stop"),
        ),
        (
            [
                kind("response.completed"), kind("response.part.added", item_index=INDEX, part_index=INDEX),
                kind("response.part.done", item_index=INDEX, part_index=INDEX),
                kind("response.created"), kind("response.failed"), kind("response.in_progress"),
                kind("response.item.added", item_index=INDEX), kind("response.item.done", item_index=INDEX),
                kind("response.text.delta", item_index=INDEX, part_index=INDEX),
                kind("response.text.done", item_index=INDEX, part_index=INDEX),
            ],
            ("response.created response.in_progress response.item.added response.part.added "
            "response.text.delta response.text.done response.part.done response.item.done "
            "response.completed"),
        ),
        (
            [kind("a.start"), kind("a.stop"), kind("b.start"), kind("b.go"), kind("b.stop")],
            "a.start b.start b.go b.stop a.stop",
        ),
        ([kind("done"), kind("token"), kind("tool_call")], "tool_call token done"),
    ],
)  # fmt: skip
def test_there_is_an_event_of_each_kind_in_order(
    tmp_path: Path, kinds: list[Any], order: str
) -> None:
    items = sampled(contract(tmp_path, {"schema": {"oneOf": kinds}}))
    named = [(item["event"], item["data"]["type"]) for item in items]
    assert named == [(name, name) for name in order.split()]
    assert all(item["data"].get("item_index", 0) == 0 for item in items)


def test_what_begins_is_empty_and_events_are_counted(tmp_path: Path) -> None:
    message = {
        "type": "object",
        "required": ["content"],
        "properties": {"content": {"type": "array", "items": {"type": "string"}, "minItems": 0}},
    }
    kinds = [
        kind("stop", message=message, sequence_number=INDEX),
        kind("start", message=message, sequence_number=INDEX),
    ]
    start, stop = sampled(contract(tmp_path, {"schema": {"anyOf": kinds}}))
    assert start["data"]["message"] == {"content": []}
    assert stop["data"]["message"]["content"]
    assert [start["data"]["sequence_number"], stop["data"]["sequence_number"]] == [0, 1]


@pytest.mark.parametrize("told", ["ended by `data: [DONE]`", "a stream"])
def test_one_kind_comes_several_times_and_ends(tmp_path: Path, told: str) -> None:
    choice = {
        "type": "object",
        "required": ["index", "finish_reason"],
        "properties": {"index": INDEX, "finish_reason": {"enum": ["length", "stop", None]}},
    }
    chunk = {
        "type": "object",
        "required": ["id", "model", "choices"],
        "properties": {
            "id": {"type": "string"},
            "model": {"type": "string"},
            "choices": {"type": "array", "minItems": 2, "maxItems": 2, "items": choice},
        },
    }
    items = sampled(contract(tmp_path, {"schema": chunk}, told=told))
    assert (items[-1] == {"data": "[DONE]"}) is ("[DONE]" in told)
    chunks = [item["data"] for item in items if item["data"] != "[DONE]"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["model"] for chunk in chunks} == {"m1"}
    assert [[each["index"] for each in chunk["choices"]] for chunk in chunks] == [[0, 1]] * 3
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None, None, "stop"]


def test_lines_are_several_records_unless_one_says_that_it_is_the_last(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"id": {"type": "string", "format": "uuid"}}
    record = {"type": "object", "required": ["id"], "properties": fields}
    items = sampled(contract(tmp_path, {"itemSchema": record}, media_type=LINES), LINES)
    assert len({item["id"] for item in items}) == len(items) == 3
    part = {"type": "object", "required": ["done"], "properties": {"done": {"type": "boolean"}}}
    items = sampled(contract(tmp_path, {"schema": part}, media_type=LINES), LINES)
    assert [item["done"] for item in items] == [False, False, True]
    listed = {"type": "array", "items": record, "minItems": 2}
    assert len(sampled(contract(tmp_path, {"schema": listed}, media_type=LINES), LINES)) >= 2


def test_events_described_whole_have_their_name_and_their_json(tmp_path: Path) -> None:
    fields = {"n": {"type": "integer"}}
    data = {"type": "string", "contentMediaType": "application/json"}
    event = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {**data, "contentSchema": {"$ref": "#/components/schemas/N"}},
            "id": {"type": "string"},
            "retry": {"type": "integer"},
        },
    }
    contracts = contract(tmp_path, {"itemSchema": {"$ref": "#/components/schemas/Event"}})
    api = json.loads((tmp_path / "api.json").read_text())
    number = {"type": "object", "required": ["n"], "properties": fields}
    api["components"] = {"schemas": {"Event": event, "N": number}}
    (tmp_path / "api.json").write_text(json.dumps(api))
    for item in sampled(contracts):
        assert item.keys() == {"data"}
        assert type(item["data"]["n"]) is int
    named = {
        "oneOf": [
            {"required": ["event", "data"], "properties": {"event": {"const": name}, "data": each}}
            for name, each in (("count", number), ("done", {"const": "[DONE]"}))
        ]
    }
    items = sampled(contract(tmp_path, {"schema": named}))
    assert [item["event"] for item in items] == ["count", "done"]
    assert items[-1]["data"] == "[DONE]"


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ({"example": 'data: {"n":1}\n\ndata: {"n":2}\n\n'}, [{"data": {"n": 1}}, {"data": {"n": 2}}]),
        ({"example": [{"event": "a", "data": {"n": 3}}]}, [{"event": "a", "data": {"n": 3}}]),
        ({"examples": {"a": {"value": {"n": 4}}, "b": {"value": {"n": 5}}}}, [{"data": {"n": 4}}, {"data": {"n": 5}}]),
    ],
)  # fmt: skip
def test_an_example_of_the_document_is_the_stream(
    tmp_path: Path, given: Any, items: list[Any]
) -> None:
    number = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    wrong = {"value": "data: {}\n\n"}
    examples = {"wrong": wrong, **given.pop("examples", {})}
    contracts = contract(tmp_path, {"schema": number, "examples": examples, **given})
    assert sampled(contracts) == items
    wanted = expected(contracts, ASKED)
    assert wanted is not None
    assert list(wanted.examples) == [item["data"] for item in items]
