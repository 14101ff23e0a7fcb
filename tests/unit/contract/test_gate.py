"""Mocks against their contract: sources, statuses, media types, headers, words."""

# ruff: noqa: E501 - documents and cases are tables

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.expected import sample_mock
from mock_mcp.contract.gate import Contracts, Verdict, contract_mode
from mock_mcp.contract.violations import MAX_VIOLATIONS
from mock_mcp.types import Mock

USER = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "createdAt": {"type": "string", "format": "date-time"},
        "role": {"enum": ["admin", "member", "guest"]},
    },
    "additionalProperties": False,
}

API: dict[str, Any] = {
    "openapi": "3.0.3",
    "servers": [{"url": "https://api.test/v1"}],
    "paths": {
        "/users/{id}": {
            "get": {
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/User"}}},
                        "headers": {
                            "X-Rate": {"required": True, "schema": {"type": "integer"}},
                            "X-Tags": {"schema": {"type": "array", "items": {"enum": ["a", "b"]}}},
                        },
                    },
                    "4XX": {"content": {"application/problem+json": {"schema": {"required": ["title"]}}}},
                    "503": {"description": "no body declared"},
                }
            },
            "delete": {"responses": {"204": {"description": "gone"}}},
            "put": {"responses": {"201": {"content": {"application/json": {}}}, "default": {}}},
        },
        "/report": {
            "get": {
                "responses": {
                    "200": {
                        "content": {
                            "text/plain": {"schema": {"type": "string", "minLength": 3}},
                            "image/*": {},
                            "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
                            "multipart/form-data": {},
                        }
                    }
                }
            }
        },
    },
    "components": {"schemas": {"User": USER, "Users": {"type": "array", "items": USER}}},
}  # fmt: skip

RATE = {"X-Rate": "10"}
GOOD = {"id": 1, "name": "Ada"}


@pytest.fixture
def contracts(tmp_path: Path) -> Contracts:
    (tmp_path / "api.json").write_text(json.dumps(API))
    return Contracts([DocumentSource(Path("api.json"))], root=tmp_path)


def request(path: str = "/users/1", method: str = "GET", **more: Any) -> dict[str, Any]:
    endpoint = path if "://" in path else f"https://api.test/v1{path}"
    return {"requestId": "req-1", "endpoint": endpoint, "method": method, **more}


def pairs(verdict: Verdict) -> list[str]:
    return [f"{v.pointer} {v.keyword}" for v in verdict.violations]


def test_a_valid_mock(contracts: Contracts) -> None:
    verdict = contracts.check_mock(request(), Mock("req-1", GOOD, headers=RATE))
    assert verdict.checked
    assert verdict.violations == ()
    assert verdict.unchecked_reason is None
    assert verdict.contract_hash is not None


def test_all_violations_at_once_in_order_of_place(contracts: Contracts) -> None:
    body = {"id": "1", "nmae": "Ada", "role": "Admin", "createdAt": "now"}
    verdict = contracts.check_mock(request(), Mock("req-1", body))
    assert sorted(pairs(verdict)) == sorted([
        "/headers/x-rate required", "/body/id type", "/body/name required",
        "/body/nmae additionalProperties", "/body/role enum", "/body/createdAt format",
    ])  # fmt: skip
    assert {v.request_id for v in verdict.violations} == {"req-1"}
    hints = {v.pointer: v.hint for v in verdict.violations}
    assert hints["/body/id"] == "Write an integer without quotes."
    assert hints["/body/name"].startswith('Rename "nmae" to "name"')
    assert hints["/body/nmae"].startswith('Rename "nmae" to "name"')
    assert hints["/body/role"] == 'Did you mean "admin"?'
    assert "2024-01-31T12:00:00Z" in hints["/body/createdAt"]
    advice = {v.pointer: v.advice for v in verdict.violations}
    assert advice["/body/role"].endswith('. Did you mean "admin"?')
    assert advice["/body/role"].startswith('Expected one of "')
    assert "Admin" not in advice["/body/role"]
    assert advice["/body/id"] == hints["/body/id"]


def test_an_undeclared_status_lists_the_declared(contracts: Contracts) -> None:
    verdict = contracts.check_mock(request(), Mock("req-1", GOOD, status=302))
    (violation,) = verdict.violations
    assert (violation.pointer, violation.keyword) == ("/status", "status")
    assert violation.expected == "one of 200, 4XX, 503"
    assert violation.actual == "302"


def test_the_absent_status_is_200(contracts: Contracts) -> None:
    verdict = contracts.check_mock(request("/users/1", "DELETE"), Mock("req-1", None))
    (violation,) = verdict.violations
    assert violation.pointer == "/status"
    assert "204" in violation.hint


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, {"title": "x"}, []),
        (404, {}, ["/body/title required"]),
        (499, {}, ["/body/title required"]),
        (503, None, []),
    ],
)
def test_a_declared_error_is_an_answer_like_others(
    contracts: Contracts, status: int, body: Any, expected: list[str]
) -> None:
    verdict = contracts.check_mock(request(), Mock("req-1", body, status=status))
    assert verdict.checked
    assert pairs(verdict) == expected


def test_a_body_where_none_is_declared_is_unchecked(contracts: Contracts) -> None:
    verdict = contracts.check_mock(request(), Mock("req-1", {"x": 1}, status=503))
    assert (verdict.checked, verdict.violations) == (False, ())
    assert "declares no body" in str(verdict.unchecked_reason)


def test_an_answer_without_body_must_have_none(contracts: Contracts) -> None:
    delete = request("/users/1", "DELETE")
    assert pairs(contracts.check_mock(delete, Mock("r", {}, status=204))) == ["/body content"]
    assert contracts.check_mock(delete, Mock("r", None, status=204)).violations == ()
    head = request("/users/1", "HEAD")
    assert pairs(contracts.check_mock(head, Mock("r", GOOD, headers=RATE))) == ["/body content"]


def test_a_body_without_schema_is_unchecked(contracts: Contracts) -> None:
    verdict = contracts.check_mock(request("/users/1", "PUT"), Mock("r", [1], status=201))
    assert (verdict.checked, verdict.violations) == (False, ())
    assert "declares no schema" in str(verdict.unchecked_reason)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-rate": "many"}, ["/headers/x-rate type"]),
        ({"X-RATE": ["10"]}, []),
        ({**RATE, "x-tags": "a, b"}, []),
        ({**RATE, "x-tags": ["a", "b"]}, []),
        ({**RATE, "x-tags": "a,c"}, ["/headers/x-tags/1 enum"]),
        ({**RATE, "content-type": "application/json; charset=utf-8"}, []),
        ({**RATE, "content-type": "text/html"}, ["/headers/content-type content-type"]),
    ],
)
def test_headers(contracts: Contracts, headers: dict[str, Any], expected: list[str]) -> None:
    assert pairs(contracts.check_mock(request(), Mock("r", GOOD, headers=headers))) == expected


@pytest.mark.parametrize(
    ("content_type", "body", "checked", "expected"),
    [
        ("text/plain", "some text", True, []),
        ("text/plain", "no", True, ["/body minLength"]),
        ("text/plain", {"a": 1}, False, ["/body content-type"]),
        (None, "some text", True, []),
        ("image/png", {"$base64": "aGk="}, False, []),
        ("image/png", {"$base64": "!"}, False, ["/body content-type"]),
        ("image/png", [1], False, ["/body content-type"]),
        ("application/x-www-form-urlencoded", {"$form": {"a": "1"}}, False, []),
        ("application/x-www-form-urlencoded", {"a": "1"}, False, ["/body content-type"]),
        ("multipart/form-data", {"$multipart": [{"name": "a", "data": "1"}]}, False, []),
        ("multipart/form-data", {"$multipart": ["a"]}, False, ["/body content-type"]),
    ],
)
def test_bodies_by_media_type(
    contracts: Contracts, content_type: str | None, body: Any, checked: bool, expected: list[str]
) -> None:
    headers = None if content_type is None else {"Content-Type": content_type}
    verdict = contracts.check_mock(request("/report"), Mock("r", body, headers=headers))
    assert pairs(verdict) == expected
    assert verdict.checked is checked


def lone(schema: Any) -> dict[str, Any]:
    return request("https://x.test/", metadata={"schema": schema})


EVADED = ["/headers/content-type content-type"]
OBJECT = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "content_type", "body", "checked", "expected"),
    [
        (OBJECT, "text/plain", "anything", False, EVADED),
        (OBJECT, "text/plain", {"id": "x"}, False, EVADED),
        (OBJECT, "image/png", {"$base64": "aGk="}, False, EVADED),
        (OBJECT, "application/x-www-form-urlencoded", {"$form": {"id": "x"}}, False, EVADED),
        (OBJECT, "multipart/form-data", {"$multipart": [{"name": "a"}]}, False, EVADED),
        (OBJECT, "application/*", {"id": "x"}, False, EVADED),
        (OBJECT, "application/vnd.api+json", {"id": "x"}, True, ["/body/id type"]),
        ({"type": "string", "minLength": 3}, "text/plain", "some", True, []),
        ({"type": "string", "minLength": 3}, "text/plain", "no", True, ["/body minLength"]),
        ({"type": "string"}, "text/plain", {"a": 1}, False, ["/body content-type"]),
        ({"type": "string"}, "image/png", {"$base64": "aGk="}, False, EVADED),
        ({"enum": ["a", "b"]}, "text/plain", "a", True, []),
        ({"enum": ["a", "b"]}, "text/plain", "c", True, ["/body enum"]),
    ],
)
def test_no_content_type_escapes_a_lone_schema(
    contracts: Contracts, *, schema: Any, content_type: str, body: Any, checked: bool, expected: Any
) -> None:
    mock = Mock("r", body, headers={"Content-Type": content_type})
    verdict = contracts.check_mock(lone(schema), mock)
    assert pairs(verdict) == expected
    assert verdict.checked is checked
    assert (verdict.contract_hash is not None) is checked


JSON_AND = {"application/json": {"schema": OBJECT}}


def answering(tmp_path: Path, declared: Any) -> Contracts:
    """Return the contract of an operation whose answer has these media types."""
    paths = {"/users/{id}": {"get": {"responses": {"200": {"content": declared}}}}}
    api = {"openapi": "3.0.0", "servers": [{"url": "https://api.test/v1"}], "paths": paths}
    (tmp_path / "api.json").write_text(json.dumps(api))
    return Contracts([DocumentSource(tmp_path / "api.json")])


@pytest.mark.parametrize(
    ("declared", "content_type", "accept", "body", "expected"),
    [
        ({**JSON_AND, "text/csv": {}}, "text/csv", None, "a,b", EVADED),
        ({**JSON_AND, "text/csv": {}}, "text/csv", "*/*", "a,b", EVADED),
        ({**JSON_AND, "text/csv": {}}, "text/csv", "application/json", "a,b", EVADED),
        ({**JSON_AND, "text/csv": {}}, "text/csv", "text/csv;q=0, */*", "a,b", EVADED),
        ({**JSON_AND, "text/csv": {}}, "text/csv", "application/json, Text/CSV;q=0.5", "a,b", []),
        ({**JSON_AND, "image/png": {}}, "image/png", "image/*", {"$base64": "aGk="}, []),
        ({**JSON_AND, "image/png": {}}, "image/png", "application/*", {"$base64": "aGk="}, EVADED),
        ({**JSON_AND, "image/*": {}}, "image/png", None, {"$base64": "aGk="}, EVADED),
        ({**JSON_AND, "application/xml": {"schema": OBJECT}}, "application/xml", None, "<a/>", EVADED),
        ({**JSON_AND, "application/hal+json": {}}, "application/hal+json", None, 5, EVADED),
        ({**JSON_AND, "text/csv": {}}, None, "text/csv", {"id": 1}, []),
        ({"application/xml": {"schema": OBJECT}}, "application/xml", None, "<a/>", []),
        ({"application/json": {}, "text/csv": {}}, "text/csv", None, "a,b", []),
        ({"*/*": {"schema": OBJECT}}, None, None, {"id": "x"}, ["/body/id type"]),
        ({"*/*": {"schema": OBJECT}}, "text/html", None, "<p>", EVADED),
        ({"*/*": {"schema": OBJECT}}, "text/html", "text/html", "<p>", []),
        ({"*/*": {"schema": {"type": "string", "format": "binary"}}}, "image/png", None, {"$base64": "aGk="}, []),
    ],
)  # fmt: skip
def test_only_the_test_may_ask_for_a_type_that_no_schema_judges(
    tmp_path: Path,
    *,
    declared: Any,
    content_type: str | None,
    accept: Any,
    body: Any,
    expected: Any,
) -> None:
    contracts = answering(tmp_path, declared)
    asked = request() if accept is None else request(headers={"Accept": accept})
    headers = None if content_type is None else {"content-type": content_type}
    verdict = contracts.check_mock(asked, Mock("r", body, headers=headers))
    assert pairs(verdict) == expected
    assert verdict.checked is (content_type is None)


EVENTS = {"text/event-stream": {"schema": OBJECT}}
NAMED = {
    "text/event-stream": {
        "schema": {
            "required": ["event", "data"],
            "properties": {"event": {"enum": ["a"]}, "data": OBJECT},
        }
    }
}
GOOD_EVENT = 'data: {"id": 1}\n\n'


@pytest.mark.parametrize(
    ("declared", "body", "expected"),
    [
        ({**JSON_AND, **EVENTS}, GOOD_EVENT * 2 + ": a comment\n\ndata: [DONE]\n\n", []),
        ({**JSON_AND, **EVENTS}, 'event: x\r\ndata: {"id":\r\ndata:1}\r\n\r\n', []),
        ({**JSON_AND, **EVENTS}, GOOD_EVENT + 'data: {"id": "x"}', ["/body/1/data/id type"]),
        ({**JSON_AND, **EVENTS}, "data: hello\n\n", ["/body/0 content-type"]),
        ({**JSON_AND, **EVENTS}, "data: [DONE]\n\n", EVADED),
        ({**JSON_AND, **EVENTS}, {"id": 1}, ["/body content-type"]),
        (EVENTS, GOOD_EVENT, []),
        ({**JSON_AND, **NAMED}, "event: a\n" + GOOD_EVENT, []),
        ({**JSON_AND, **NAMED}, "event: b\n" + GOOD_EVENT, ["/body/0/event enum"]),
    ],
)  # fmt: skip
def test_each_server_sent_event_is_judged(
    tmp_path: Path, *, declared: Any, body: Any, expected: list[str]
) -> None:
    contracts = answering(tmp_path, declared)
    mock = Mock("r", body, headers={"content-type": "text/event-stream; charset=utf-8"})
    verdict = contracts.check_mock(request(), mock)
    assert pairs(verdict) == expected
    assert verdict.checked is (expected != EVADED)


LINES = "application/x-ndjson"
EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": OBJECT},
        "event": {"type": "string"},
    },
}
KINDS = {
    "required": ["event", "data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "oneOf": [
        {"properties": {"event": {"const": "text"}}},
        {"properties": {"event": {"const": "json"}, "data": {"contentSchema": OBJECT}}},
    ],
}
LIST = {"type": "array", "items": OBJECT, "maxItems": 2}


@pytest.mark.parametrize(
    ("kind", "media", "body", "expected"),
    [
        (LINES, {"schema": OBJECT}, '{"id": 1}\n\n{"id": 2}\n', []),
        (LINES, {"schema": OBJECT}, '{"id": 1}\n{"id": "x"}', ["/body/1/id type"]),
        (LINES, {"schema": OBJECT}, '{"id": 1}\n{"id": ', ["/body/1 content-type"]),
        (LINES, {"schema": OBJECT}, [{"id": 1}, {"id": "x"}], ["/body/1/id type"]),
        (LINES, {"schema": OBJECT}, [{"id": 1}, '{"id": 2}'], []),
        (LINES, {"schema": OBJECT}, {"id": 1}, ["/body content-type"]),
        (LINES, {"schema": LIST}, [{"id": 1}, {"id": "x"}], ["/body/1/id type"]),
        (LINES, {"schema": LIST}, '{"id": 1}\n' * 3, ["/body maxItems"]),
        (LINES, {"itemSchema": {"type": "array"}}, "[1]\n[2]\n5\n", ["/body/2 type"]),
        (LINES, {"schema": {"type": "string", "minLength": 9}}, [1, 2], ["/body minLength"]),
        (LINES, {"itemSchema": {"const": "a"}}, '"a"\n"b"\n', ["/body/1 const"]),
        ("application/jsonl", {"itemSchema": OBJECT}, [{"id": "x"}], ["/body/0/id type"]),
        ("application/vnd.x+x-ndjson", {"schema": OBJECT}, [{"id": "x"}], ["/body/0/id type"]),
        ("application/json-seq", {"itemSchema": OBJECT}, '\x1e{"id":1}\n\x1e{}\n', ["/body/1/id required"]),
        ("text/event-stream", {"itemSchema": EVENT}, GOOD_EVENT, []),
        ("text/event-stream", {"itemSchema": EVENT}, 'data: {"id": "x"}\n\n', ["/body/0/data/id type"]),
        ("text/event-stream", {"itemSchema": KINDS}, "event: text\ndata: hi\n\n", []),
        ("text/event-stream", {"itemSchema": KINDS}, [{"event": "json", "data": {"id": "x"}}], ["/body/0/data/id type"]),
        ("text/event-stream", {"schema": OBJECT}, [{"data": {"id": 1}}, {"id": 2}, "[DONE]"], []),
        ("text/event-stream", {"schema": OBJECT}, [{"event": "x", "data": {"id": "x"}}], ["/body/0/data/id type"]),
        ("text/event-stream", {"schema": OBJECT}, [": ping", 'data: {"id": "x"}'], ["/body/1/data/id type"]),
    ],
)  # fmt: skip
def test_each_item_of_a_sequence_is_judged(
    tmp_path: Path, *, kind: str, media: Any, body: Any, expected: list[str]
) -> None:
    contracts = answering(tmp_path, {kind: media})
    mock = Mock("r", body, headers={"content-type": kind})
    verdict = contracts.check_mock(request(), mock)
    assert pairs(verdict) == expected
    assert verdict.checked


def test_a_long_stream_is_judged_whole_and_explained_by_its_head(tmp_path: Path) -> None:
    contracts = answering(tmp_path, {LINES: {"schema": OBJECT}})

    def verdict(items: list[Any]) -> Verdict:
        mock = Mock("r", items, headers={"content-type": LINES})
        return contracts.check_mock(request(), mock)

    (only,) = verdict([*[{"id": 1}] * 1000, {}]).violations
    assert only.pointer == "/body/1000/id"
    assert len(verdict([{}] * 100_000).violations) == MAX_VIOLATIONS + 1


@pytest.mark.parametrize(("stream", "expected"), [(True, []), (False, EVADED)])
def test_a_stream_without_items_is_unchecked_and_must_be_asked_for(
    tmp_path: Path, *, stream: bool, expected: list[str]
) -> None:
    contracts = answering(tmp_path, {**JSON_AND, **EVENTS})
    mock = Mock("r", ["[DONE]"], headers={"content-type": "text/event-stream"})
    verdict = contracts.check_mock(request(body={"stream": stream}), mock)
    assert pairs(verdict) == expected
    assert not verdict.checked


@pytest.mark.parametrize("kind", ["text/event-stream", LINES])
@pytest.mark.parametrize(("id_", "expected"), [(1, []), ("x", ["type"])])
def test_a_lone_schema_judges_each_item(kind: str, id_: Any, expected: list[str]) -> None:
    asked = request(metadata={"schema": OBJECT}, body={"stream": True}, headers={"accept": kind})
    item = {"data": {"id": id_}} if kind == "text/event-stream" else {"id": id_}
    mock = Mock("r", [item], headers={"content-type": kind})
    verdict = Contracts().check_mock(asked, mock)
    assert verdict.checked
    assert [violation.keyword for violation in verdict.violations] == expected
    sampled = sample_mock(Contracts(), asked, seed=1)
    assert sampled.headers == {"content-type": kind}
    assert Contracts().check_mock(asked, sampled).checked


@pytest.mark.parametrize(
    ("asked", "streams"),
    [
        ({"body": {"stream": True}, "headers": {"Accept": "application/json"}}, True),
        ({"body": {"stream": False}}, False),
        ({"body": '{"stream": true}'}, True),
        ({"body": {"$form": {"stream": "true"}}}, True),
        ({"body": {"$form": {"stream": "false"}}}, False),
        ({"body": {"$multipart": [{"name": "stream", "data": "true"}]}}, True),
        ({"path": "/users/1?stream=true"}, True),
        ({"headers": {"Accept": "text/event-stream"}}, True),
        ({"headers": {"Accept": "application/json, text/event-stream"}}, False),
    ],
)
def test_a_sample_is_a_stream_where_one_is_asked_for(
    tmp_path: Path, asked: dict[str, Any], *, streams: bool
) -> None:
    contracts = answering(tmp_path, {**JSON_AND, **EVENTS})
    mock = sample_mock(contracts, request(**asked), seed=1)
    assert contracts.check_mock(request(**asked), mock).checked
    if streams:
        assert mock.headers == {"content-type": "text/event-stream"}
        assert "id" in json.loads(mock.data.partition("\n")[0].removeprefix("data: "))
    else:
        assert "id" in mock.data


def test_violations_are_bounded_and_say_how_many_more(contracts: Contracts) -> None:
    schema = {"type": "array", "items": {"type": "object", "required": ["a", "b"]}}
    verdict = contracts.check_mock(lone(schema), Mock("r", [*[{}] * 40, 5]))
    assert len(verdict.violations) == MAX_VIOLATIONS + 1
    assert verdict.violations[0].pointer == "/body/40"
    assert verdict.violations[-1].keyword == "more"
    assert "31 more" in verdict.violations[-1].actual


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([{}] * 20_000, 50),
        ([{"a": 1}] * 20_000 + [{}], 1),
        ({"x": [[{}] * 9_000]}, 50),
        ([{"a": 1}] * 70, 1),
    ],
)
def test_long_lists_are_judged_whole_and_explained_by_their_head(
    contracts: Contracts, body: Any, expected: int
) -> None:
    lists = {
        "items": {"anyOf": [{"$ref": "#/$defs/list"}, {"$ref": "#/$defs/item"}]},
        "type": "array",
    }
    item = {"type": "object", "required": ["a"]}
    schema = {
        "properties": {"x": {"$ref": "#/$defs/list"}},
        "items": item,
        "minItems": 60,
        "maxItems": 69,
        "$defs": {"list": lists, "item": item},
    }
    if len(body) > 70:
        del schema["maxItems"]
    verdict = contracts.check_mock(lone(schema), Mock("r", body))
    assert len(verdict.violations) == expected
    assert "minItems" not in {violation.keyword for violation in verdict.violations}


@pytest.mark.parametrize(
    ("schema", "body", "hint"),
    [
        ({"propertyNames": {"pattern": "^[a-z]+$"}}, {"A1": 1}, 'Rename "A1": names here must satisfy pattern "^[a-z]+$".'),
        ({"contains": {"type": "string"}}, [1], 'Give at least 1 items that satisfy {"type": "string"}.'),
        ({"contains": {"type": "string"}, "minContains": 2}, ["a"], 'Give at least 2 items that satisfy {"type": "string"}.'),
        ({"contains": {"type": "string"}, "maxContains": 1}, ["a", "b"], 'Give at most 1 items that satisfy {"type": "string"}.'),
        ({"oneOf": [{"const": "cat"}, {"const": "dog"}]}, "dogs", 'Did you mean "dog"?'),
        ({"oneOf": [{"const": "cat"}, {"const": "dog"}]}, "x", 'Use one of "cat", "dog".'),
        ({"anyOf": [{"enum": ["cat"]}, {"type": "null"}]}, "x", 'Use "cat".'),
        ({"anyOf": [{"const": "cat"}, {"type": "string", "minLength": 3}]}, "x", 'Use "cat". (Closest of 2 alternatives.)'),
    ],
)  # fmt: skip
def test_hints_name_what_would_be_right(
    contracts: Contracts, schema: Any, body: Any, hint: str
) -> None:
    verdict = contracts.check_mock(request(metadata={"schema": schema}), Mock("r", body))
    assert [violation.hint for violation in verdict.violations] == [hint]


def test_the_search_for_misspellings_is_bounded(contracts: Contracts) -> None:
    options = [f"{'long.name.' * 10}{i}" for i in range(200)]
    schema = {"properties": {f"p{i}": {"enum": options} for i in range(40)}}
    data = {f"p{i}": f"{'lang.nome.' * 10}{i}" for i in range(40)}
    verdict = contracts.check_mock(request(metadata={"schema": schema}), Mock("r", data))
    found = [v.hint.startswith("Did you mean") for v in verdict.violations]
    assert len(found) == 40
    assert any(found)
    assert not all(found)


def test_excerpts_are_bounded(contracts: Contracts) -> None:
    body = {
        "id": "x" * 10_000,
        "name": 1,
        **{f"key-{'y' * 500}{i}": "z" * 9_000 for i in range(99)},
    }
    verdict = contracts.check_mock(request(), Mock("r", body))
    assert verdict.violations
    for violation in verdict.violations:
        assert len(violation.expected) <= 200
        assert len(violation.actual) <= 200
        assert len(violation.hint) <= 400


def test_a_value_nested_too_deep_is_a_violation(contracts: Contracts) -> None:
    body: Any = 1
    for _ in range(50_000):
        body = [body]
    schema = {"$defs": {"L": {"items": {"$ref": "#/$defs/L"}}}, "$ref": "#/$defs/L"}
    metadata = {"schema": schema}
    verdict = contracts.check_mock(request("https://x.test/", metadata=metadata), Mock("r", body))
    assert pairs(verdict) == ["/body depth"]


# -- Sources ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "required": ["zip"]},
        {"summary": "A place", "response": {"type": "object", "required": ["zip"]}},
        {"description": "d", "response": {"$ref": "#/definitions/P", "definitions": {"P": {"required": ["zip"]}}}},
    ],
)  # fmt: skip
def test_metadata_schema_in_both_shapes_comes_first(contracts: Contracts, schema: Any) -> None:
    verdict = contracts.check_mock(request(metadata={"schema": schema}), Mock("r", {}))
    assert verdict.checked
    assert pairs(verdict) == ["/body/zip required"]


def test_an_object_with_response_and_a_schema_keyword_is_a_schema(contracts: Contracts) -> None:
    schema = {"type": "object", "response": {"type": "string"}}
    assert pairs(contracts.check_mock(request(metadata={"schema": schema}), Mock("r", "x"))) == [
        "/body type"
    ]


@pytest.mark.parametrize("schema", [{}, {"summary": "x"}, {"response": {}}, "User", None, 5, []])
def test_metadata_without_schema_falls_through(contracts: Contracts, schema: Any) -> None:
    metadata = {"schema": schema}
    assert contracts.resolve(request(metadata=metadata)).match is not None
    verdict = contracts.check_mock(request("https://x.test/", metadata=metadata), Mock("r", 1))
    assert not verdict.checked
    assert "metadata.schema holds no schema" in str(verdict.unchecked_reason)


@pytest.mark.parametrize(
    ("root", "part", "ref"),
    [
        ("https://any.test/schemas/pet", "/schemas/name", "/schemas/name"),
        ("https://any.test/schemas/pet", "https://any.test/schemas/name", "name"),
        ("https://any.test/schemas/pet", "name", "https://any.test/schemas/name"),
        (None, "name", "name"),
        (None, "http://[", "http://["),
    ],
)
def test_a_bundled_schema_refers_to_its_parts_by_id(
    contracts: Contracts, root: str | None, part: str, ref: str
) -> None:
    schema = {
        **({} if root is None else {"$id": root}),
        "properties": {"name": {"$ref": ref}},
        "$defs": {"n": {"$id": part, "type": "string"}},
    }
    verdict = contracts.check_mock(request(metadata={"schema": schema}), Mock("r", {"name": 1}))
    assert pairs(verdict) == ["/body/name type"]


def test_a_lone_schema_describes_success_only(contracts: Contracts) -> None:
    metadata = {"schema": {"type": "object"}}
    verdict = contracts.check_mock(request(metadata=metadata), Mock("r", "down", status=500))
    assert not verdict.checked
    assert "500" in str(verdict.unchecked_reason)


def test_an_unusable_metadata_schema_is_unchecked(contracts: Contracts) -> None:
    metadata = {"schema": {"$ref": "https://example.com/a.json"}}
    verdict = contracts.check_mock(request(metadata=metadata), Mock("r", 1))
    assert not verdict.checked
    assert "never fetched" in str(verdict.unchecked_reason)


@pytest.mark.parametrize(
    "url",
    [
        "api.json#/components/schemas/User",
        "{root}/api.json#/components/schemas/User",
        "file://{root}/api.json#/components/schemas/User",
        "api.json#/paths/~1users~1{{id}}/get",
    ],
)
def test_schema_url_into_a_local_document(contracts: Contracts, tmp_path: Path, url: str) -> None:
    metadata = {"schemaUrl": url.format(root=tmp_path)}
    verdict = contracts.check_mock(
        request("https://x.test/", metadata=metadata), Mock("r", {"id": 1}, headers=RATE)
    )
    assert verdict.checked, verdict.unchecked_reason
    assert pairs(verdict) == ["/body/name required"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.com/a.json#/x", "not local"),
        ("file://host/a.json", "another host"),
        ("../a.json#/x", "outside"),
        ("none.json#/x", "cannot be read"),
        ("api.json#/nope", "nothing is there"),
        ("api.json#nope", "nothing is there"),
        ("api.json#/servers/0", "is not a schema"),
        ("", "names no file"),
    ],
)
def test_a_schema_url_that_cannot_be_used_says_why(
    contracts: Contracts, url: str, words: str
) -> None:
    source = request("https://x.test/", metadata={"schemaUrl": url})
    verdict = contracts.check_mock(source, Mock("r", 1))
    assert not verdict.checked
    assert words in str(verdict.unchecked_reason)


@pytest.mark.parametrize(
    ("url", "words"),
    [("api.json#/nope", "api.json#/nope: nothing is there"), ("none.yaml#/x", "cannot be read")],
)
def test_a_wrong_local_schema_url_fails_the_request(
    contracts: Contracts, tmp_path: Path, url: str, words: str
) -> None:
    metadata = {"schemaUrl": url}
    (violation,) = contracts.check_request(request("/nowhere", metadata=metadata))
    assert violation.pointer == "/path"
    assert "metadata.schemaUrl: " in violation.hint
    assert words in violation.hint
    assert str(tmp_path) in violation.hint
    for sources in (contracts, Contracts(root=tmp_path)):
        with pytest.raises(ContractDocumentError, match=re.escape(words)):
            sources.check_request(request("https://x.test/", metadata=metadata))


def test_a_remote_schema_url_is_none_of_our_business(contracts: Contracts) -> None:
    metadata = {"schemaUrl": "https://x.test/a.json"}
    assert contracts.check_request(request("https://x.test/", metadata=metadata)) == ()


def test_schema_url_of_a_document_is_searched_for_the_operation(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text(json.dumps(API))
    source = Contracts(root=tmp_path).resolve(request(metadata={"schemaUrl": "api.json"}))
    assert source.match is not None
    assert source.match.operation.label == "GET /users/{id}"


def test_the_tests_documents_come_before_the_projects(contracts: Contracts, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    content = {"application/json": {"schema": {"const": "other"}}}
    paths = {"/users/{id}": {"get": {"responses": {"200": {"content": content}}}}}
    other.write_text(json.dumps({"openapi": "3.1.0", "paths": paths}))
    listed = {"documents": [{"path": str(other), "server": "https://api.test/v1"}]}
    verdict = contracts.check_mock(request(contract=listed), Mock("r", "other"))
    assert verdict.checked
    assert verdict.violations == ()


def test_without_a_contract_the_reason_is_given(contracts: Contracts) -> None:
    verdict = Contracts().check_mock(request(), Mock("r", 1))
    assert verdict == Verdict(False, (), "no contract is registered for this request")
    verdict = contracts.check_mock(request("https://x.test/a"), Mock("r", 1))
    assert "https://x.test" in str(verdict.unchecked_reason)


@pytest.mark.parametrize("schema", [OBJECT, {"type": "string"}])
def test_a_sample_for_any_type_is_valid_and_names_no_type(tmp_path: Path, schema: Any) -> None:
    content = {"*/*": {"schema": schema}}
    paths = {"/users/{id}": {"get": {"responses": {"200": {"content": content}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    mock = sample_mock(contracts, request(), seed=1)
    assert mock.headers is None
    verdict = contracts.check_mock(request(), mock)
    assert verdict.checked
    assert verdict.violations == ()


@pytest.mark.parametrize(
    ("declared", "sent", "magic"),
    [
        ("image/png", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("image/*", "image/png", b"\x89PNG\r\n\x1a\n"),
        ("image/jpeg", "image/jpeg", b"\xff\xd8\xff"),
        ("image/gif", "image/gif", b"GIF89a"),
        ("application/pdf", "application/pdf", b"%PDF-"),
        ("application/zip", "application/zip", b"PK"),
        ("application/x-gzip", "application/x-gzip", b"\x1f\x8b"),
        ("audio/mpeg", "audio/mpeg", b"\0\1"),
        ("application/octet-stream", "application/octet-stream", b"\0\1"),
    ],
)
@pytest.mark.parametrize("schema", [{"type": "string", "format": "binary"}, None])
def test_a_sample_of_a_binary_type_is_bytes_of_that_kind(
    tmp_path: Path, declared: str, sent: str, magic: bytes, schema: Any
) -> None:
    content = {declared: {} if schema is None else {"schema": schema}}
    paths = {"/users/{id}": {"get": {"responses": {"200": {"content": content}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    mock = sample_mock(contracts, request(), seed=1)
    assert mock.headers == {"content-type": sent}
    assert base64.b64decode(mock.data["$base64"], validate=True).startswith(magic)


def test_a_sample_of_svg_is_text(tmp_path: Path) -> None:
    content = {"image/svg+xml": {"schema": {"type": "string"}}}
    paths = {"/users/{id}": {"get": {"responses": {"200": {"content": content}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    assert isinstance(sample_mock(contracts, request(), seed=1).data, str)


def test_a_sample_for_head_has_no_body(tmp_path: Path) -> None:
    content = {"application/json": {"schema": OBJECT}}
    paths = {"/users/{id}": {"head": {"responses": {"200": {"content": content}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    head = {**request(), "method": "HEAD"}
    mock = sample_mock(contracts, head, seed=1)
    assert mock.data is None
    assert contracts.check_mock(head, mock).violations == ()


PAIR = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "enum": [5]}}}


@pytest.mark.parametrize("status", ["201", "204"])
def test_a_sample_has_the_headers_that_its_answer_must_have(tmp_path: Path, status: str) -> None:
    headers = {
        "Location": {"required": True, "schema": {"type": "string", "format": "uri"}},
        "X-Left": {"required": True, "schema": {"type": "integer", "minimum": 5, "maximum": 5}},
        "X-Final": {"required": True, "schema": {"type": "boolean", "enum": [True]}},
        "X-Kinds": {
            "required": True,
            "schema": {"type": "array", "items": {"enum": ["a"]}, "minItems": 2, "maxItems": 2},
        },
        "X-Any": {"required": True},
        "X-Pair": {"required": True, "explode": True, "schema": PAIR},
        "X-Json": {"required": True, "content": {"application/json": {"schema": PAIR}}},
        "X-Rarely": {"schema": {"type": "string"}},
    }
    paths = {"/users/{id}": {"get": {"responses": {status: {"headers": headers}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    mock = sample_mock(contracts, request(), seed=1)
    assert contracts.check_mock(request(), mock).violations == ()
    sent = dict(mock.headers or {})
    assert str(sent.pop("location")).startswith("https://")
    assert json.loads(str(sent.pop("x-json"))) == {"n": 5}
    assert sent.pop("x-pair") == "n=5"
    assert sent == {"x-left": "5", "x-final": "true", "x-kinds": "a,a", "x-any": "sample"}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x-pair": "n=5", "x-json": '{"n": 5}'}, []),
        ({"x-pair": "n,5"}, ["/headers/x-pair/n required"]),
        ({"x-pair": "n=6"}, ["/headers/x-pair/n enum"]),
        ({"x-json": '{"n": 6}'}, ["/headers/x-json/n enum"]),
        ({"x-json": "n=5"}, ["/headers/x-json type"]),
    ],
)
def test_headers_are_read_as_they_are_declared(
    tmp_path: Path, headers: dict[str, Any], found: list[str]
) -> None:
    declared = {
        "X-Pair": {"explode": True, "schema": PAIR},
        "X-Json": {"content": {"application/json": {"schema": PAIR}}},
    }
    paths = {"/users/{id}": {"get": {"responses": {"200": {"headers": declared}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    assert pairs(contracts.check_mock(request(), Mock("r", None, headers=headers))) == found


@pytest.mark.parametrize(("key", "status"), [("2XX", None), ("4XX", 400), ("default", None)])
def test_a_sample_has_the_first_status_of_a_range(
    tmp_path: Path, key: str, status: int | None
) -> None:
    paths = {"/users/{id}": {"get": {"responses": {key: {}}}}}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": paths}))
    contracts = Contracts([DocumentSource(tmp_path / "api.json", "https://api.test/v1")])
    assert sample_mock(contracts, request(), seed=1).status == status


# -- What is ignored --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "body", "note"),
    [
        ({"type": "objct"}, 5, "/type 'objct' is not a type: any type is accepted"),
        ({"type": "string", "pattern": "(["}, "x", "/pattern is not valid: ignored"),
        ({"enum": []}, 5, "/enum is not a list of values: ignored"),
        ({"type": "object", "properties": {"a": 5}}, {}, "/properties/a is not a schema: any value is accepted"),
        ({"items": {"$ref": "#/$defs/A"}, "$defs": {"A": {"minLength": -1}}}, [], "/$defs/A/minLength is not a whole number of 0 or more: ignored"),
        ({"$ref": 5, "type": "integer"}, 5, "/$ref is not text: ignored"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, 5, "/$defs/A leads back to itself by $ref and allOf alone: ignored"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}, 5, "/$defs/B leads back to itself by $ref and allOf alone: ignored"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}, {"type": "integer"}]}}}, 5, "/$defs/A leads back to itself by $ref and allOf alone: ignored"),
    ],
)  # fmt: skip
def test_what_a_schema_says_wrongly_is_said_beside_the_verdict(
    contracts: Contracts, schema: Any, body: Any, note: str
) -> None:
    for _ in range(2):  # found once, said each time
        verdict = contracts.check_mock(lone(schema), Mock("r", body))
        assert verdict.checked
        assert verdict.violations == ()
        assert note in verdict.notes


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "description": 5, "format": "made-up", "nullable": True},
        {"items": {"$ref": "#/$defs/A"}, "$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"type": "string"}, {"items": {"$ref": "#/$defs/A"}}]}}},
    ],
)  # fmt: skip
def test_what_weakens_nothing_is_not_said(contracts: Contracts, schema: Any) -> None:
    assert contracts.check_mock(lone(schema), Mock("r", "x")).notes == ()


def test_each_schema_of_a_document_says_what_it_reaches(tmp_path: Path) -> None:
    """The broken definition is converted once; whatever reaches it is judged in part."""
    schemas = {"Bad": {"type": "objct"}, "Uses": {"properties": {"x": {"$ref": "#/components/schemas/Bad"}}}}  # fmt: skip
    paths = {
        f"/{name}": {"get": {"responses": {"200": {"content": {"application/json": {"schema": node}}}}}}
        for name, node in {
            "bad": {"$ref": "#/components/schemas/Bad"},
            "uses": {"$ref": "#/components/schemas/Uses"},
            "good": {"type": "object"},
        }.items()
    }  # fmt: skip
    api = {"openapi": "3.0.0", "paths": paths, "components": {"schemas": schemas}}
    (tmp_path / "api.json").write_text(json.dumps(api))
    contracts = Contracts([DocumentSource(tmp_path / "api.json")])
    for name, noted in (("uses", True), ("bad", True), ("good", False)):
        verdict = contracts.check_mock(request(f"http://x.test/{name}"), Mock("r", {}))
        assert verdict.checked
        assert bool(verdict.notes) is noted


def test_a_skipped_source_is_said_though_another_judges(contracts: Contracts) -> None:
    metadata = {"schemaUrl": "https://x.test/a.json"}
    verdict = contracts.check_mock(request(metadata=metadata), Mock("r", GOOD, headers=RATE))
    assert verdict.checked
    assert "not local" in verdict.notes[0]


# -- The contract's hash -----------------------------------------------------------------------


def hash_of(tmp_path: Path, api: dict[str, Any]) -> str | None:
    (tmp_path / "api.json").write_text(json.dumps(api))
    contracts = Contracts([DocumentSource(tmp_path / "api.json")])
    return contracts.check_mock(request(), Mock("r", GOOD, headers=RATE)).contract_hash


def test_the_hash_follows_what_is_asked_and_nothing_else(tmp_path: Path) -> None:
    base = hash_of(tmp_path, API)
    prose = json.loads(json.dumps(API))
    prose["components"]["schemas"]["User"]["description"] = "Somebody"
    prose["components"]["schemas"]["Users"]["maxItems"] = 5
    assert hash_of(tmp_path, prose) == base
    changed = json.loads(json.dumps(API))
    changed["components"]["schemas"]["User"]["properties"]["id"] = {"type": "string"}
    assert hash_of(tmp_path, changed) != base


@pytest.mark.parametrize(
    ("contract", "default", "mode"),
    [
        (None, "enforce", "enforce"),
        ({}, "warn", "warn"),
        ({"mode": "off"}, "enforce", "off"),
        ({"mode": "enforce"}, "off", "enforce"),
        ({"mode": "loud"}, "warn", "warn"),
        ({"mode": []}, "warn", "warn"),
        ("off", "enforce", "enforce"),
    ],
)
def test_the_test_chooses_the_mode(contract: Any, default: Any, mode: str) -> None:
    assert contract_mode({"contract": contract}, default) == mode
