"""What an ``$id`` and an anchor name, and what references below them mean: through the gate."""

# ruff: noqa: E501 - a case is a line

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.gate import Contracts, Verdict
from mock_mcp.types import Mock

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
BASE = "https://any.test/"

LIST = {
    "$id": "list",
    "type": "array",
    "items": {"$dynamicRef": "#item"},
    "$defs": {"any": {"$dynamicAnchor": "item"}},
}
TREE_2019 = {
    "$id": "tree",
    "$recursiveAnchor": True,
    "properties": {"next": {"$recursiveRef": "#"}, "a": {}},
}

# What is wrong is a body that a reading without resources takes, or the other way round.
CASES: dict[str, tuple[dict[str, Any], Any, list[str]]] = {
    "a pointer begins at its resource": (
        {"$defs": {"x": NUMBER}, "properties": {"p": {"$id": "part", "$ref": "#/$defs/x", "$defs": {"x": TEXT}}}},
        {"p": 1}, ["/body/p type"],
    ),
    "the resource itself": (
        {"required": ["a"], "properties": {"p": {"$id": "part", "properties": {"q": {"$ref": "#"}}}}},
        {"a": 1, "p": {"q": {}}}, [],
    ),
    "an $id is read against the one around it": (
        {"$id": BASE, "$ref": "#/$defs/a/$defs/b", "$defs": {"a": {"$id": "folder/a", "$defs": {"b": {"$id": "b", "$ref": "c"}, "c": {"$id": "c", **TEXT}}}, "c": {"$id": "c", **NUMBER}}},
        1, ["/body type"],
    ),
    "the nearest $id around, not just above": (
        {"$id": BASE + "a", "allOf": [{"$ref": BASE + "b/d"}], "$defs": {"x": {"$id": BASE + "b/c", "$defs": {"y": {"$id": "d", **TEXT}}}}},
        1, ["/body type"],
    ),
    "an anchor belongs to its resource": (
        {"$ref": "#x", "$defs": {"a": {"$id": "part", "$defs": {"x": {"$anchor": "x", **NUMBER}}}, "b": {"$anchor": "x", **TEXT}}},
        1, ["/body type"],
    ),
    "an anchor of another resource": (
        {"$ref": "part#x", "$defs": {"a": {"$anchor": "x", **NUMBER}, "b": {"$id": "part", "$defs": {"x": {"$anchor": "x", **TEXT}}}}},
        1, ["/body type"],
    ),
    "an $id in an enum is data": (
        {"$ref": "part", "$defs": {"a": {"enum": [{"$id": "part", **NUMBER}]}, "b": {"not": {"$id": "part", **NUMBER}}}},
        1, [],
    ),
    "an $id in an example is data": (
        {"$ref": "part", "examples": [{"$id": "part"}], "$defs": {"a": {"default": {"$id": "part"}}, "b": {"$id": "part", **TEXT}}},
        1, ["/body type"],
    ),
    "an $anchor in a const is data": (
        {"$ref": "#x", "$defs": {"a": {"const": {"$anchor": "x"}}, "b": {"$anchor": "x", **TEXT}}},
        1, ["/body type"],
    ),
    "an $id in what no keyword names yields to a schema's": (
        {"$ref": "part", "unknown": {"$id": "part", **NUMBER}, "$defs": {"b": {"$defs": {"c": {"$id": "part", **TEXT}}}}},
        1, ["/body type"],
    ),
    "a property named $id is none": (
        {"properties": {"$id": TEXT, "p": {"$ref": "#/properties/$id"}}},
        {"p": 1}, ["/body/p type"],
    ),
    "a definition named enum is a schema": (
        {"$ref": "part", "$defs": {"enum": {"$id": "part", **TEXT}}},
        1, ["/body type"],
    ),
    "$dynamicRef to the outermost resource": (
        {"$id": BASE, "$ref": "list", "$defs": {"item": {"$dynamicAnchor": "item", **TEXT}, "l": LIST}},
        [1], ["/body/0 type"],
    ),
    "$dynamicRef to an anchor deep in its resource": (
        {"$id": BASE, "$ref": "list", "$defs": {"l": LIST}, "properties": {"p": {"items": {"$dynamicAnchor": "item", **TEXT}}}},
        [1], ["/body/0 type"],
    ),
    "$dynamicRef to a plain anchor stays": (
        {"$id": BASE, "$ref": "list", "$defs": {"item": {"$dynamicAnchor": "item", **TEXT}, "l": {**LIST, "$defs": {"any": {"$anchor": "item"}}}}},
        [1], [],
    ),
    "$dynamicRef does not see an anchor that is not dynamic": (
        {"$id": BASE, "$ref": "list", "$defs": {"item": {"$anchor": "item", **TEXT}, "l": LIST}},
        [1], [],
    ),
    "$dynamicRef with a pointer is a $ref": (
        {"$id": BASE, "$ref": "list", "$defs": {"any": {"$dynamicAnchor": "item", **TEXT}, "l": {**LIST, "items": {"$dynamicRef": "#/$defs/any"}}}},
        [1], [],
    ),
    "$dynamicRef does not see a resource that was left": (
        {"$id": BASE, "if": {"$id": "first", "$defs": {"t": {"$dynamicAnchor": "item", **TEXT}}}, "then": {"$id": "second", "$ref": "list", "$defs": {"t": {"$dynamicAnchor": "item", **NUMBER}}}, "$defs": {"l": LIST}},
        ["a"], ["/body/0 type"],
    ),
    "$dynamicRef into another resource": (
        {"$id": BASE, "properties": {"p": {"$dynamicRef": "list#item"}}, "$defs": {"l": LIST, "item": {"$dynamicAnchor": "item", **TEXT}}},
        {"p": 1}, ["/body/p type"],
    ),
    "two ways to one $dynamicRef": (
        {"properties": {"s": {"$id": "strings", "$ref": "list", "$defs": {"i": {"$dynamicAnchor": "item", **TEXT}}}, "n": {"$id": "numbers", "$ref": "list", "$defs": {"i": {"$dynamicAnchor": "item", **NUMBER}}}}, "$defs": {"l": LIST}},
        {"s": ["a", 1], "n": ["a", 1]}, ["/body/s/1 type", "/body/n/0 type"],
    ),
    "$recursiveRef to the outermost resource": (
        {"$id": BASE, "$recursiveAnchor": True, "$ref": "tree", "required": ["a"], "$defs": {"t": TREE_2019}},
        {"a": 1, "next": {}}, ["/body/next/a required"],
    ),
    "$recursiveRef without anchor is a $ref": (
        {"$id": BASE, "$recursiveAnchor": True, "$ref": "tree", "required": ["a"], "$defs": {"t": {**TREE_2019, "$recursiveAnchor": False, "type": "object"}}},
        {"a": 1, "next": {"next": 5}}, ["/body/next/next type"],
    ),
}  # fmt: skip


def request(**more: Any) -> dict[str, Any]:
    return {"requestId": "r1", "endpoint": "https://any.test/x", "method": "GET", **more}


def pairs(verdict: Verdict) -> list[str]:
    assert verdict.checked, verdict.unchecked_reason
    return sorted(f"{v.pointer} {v.keyword}" for v in verdict.violations)


@pytest.mark.parametrize(("schema", "body", "expected"), CASES.values(), ids=CASES)
def test_a_plain_schema(schema: dict[str, Any], body: Any, expected: list[str]) -> None:
    verdict = Contracts().check_mock(request(metadata={"schema": schema}), Mock("r1", body))
    assert pairs(verdict) == sorted(expected)


def test_dynamic_scopes_without_end_are_unchecked() -> None:
    names = [f"r{i}" for i in range(20)]
    parts = {
        name: {
            "$id": name,
            "$dynamicAnchor": name,
            "properties": {other: {"$ref": other} for other in names},
            "items": {"$dynamicRef": f"#{name}"},
        }
        for name in names
    }
    schema = {"$id": BASE, "$ref": "r0", "$defs": parts}
    verdict = Contracts().check_mock(request(metadata={"schema": schema}), Mock("r1", {}))
    assert "more than 2000 schemas" in str(verdict.unchecked_reason)


def openapi(schemas: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Root"}}}
    return {
        "openapi": "3.1.0",
        "paths": {"/x": {"get": {"responses": {"200": {"content": content}}}}},
        "components": {"schemas": schemas},
        **more,
    }


def check(path: Path, body: Any) -> Verdict:
    return Contracts([DocumentSource(path)]).check_mock(request(), Mock("r1", body))


TEMPLATE = {"items": {"$dynamicRef": "#t"}, "$defs": {"t": {"$dynamicAnchor": "t", "not": {}}}}
OPENAPI: dict[str, tuple[dict[str, Any], Any, list[str]]] = {
    "a reference out of an $id, to a component": (
        {"Root": {"$id": BASE + "root", "properties": {"p": {"$ref": "#/components/schemas/Text"}}}, "Text": TEXT},
        {"p": 1}, ["/body/p type"],
    ),
    "an anchor outside of an $id": (
        {"Root": {"$id": BASE + "root", "properties": {"p": {"$ref": "#text"}}}, "Text": {"$anchor": "text", **TEXT}},
        {"p": 1}, ["/body/p type"],
    ),
    "definitions of an $id": (
        {"Root": {"$id": BASE + "root", "properties": {"p": {"$ref": "#/$defs/x"}}, "$defs": {"x": TEXT}}},
        {"p": 1}, ["/body/p type"],
    ),
    "a relative reference between components with an $id": (
        {"Root": {"$id": BASE + "root", "properties": {"p": {"$ref": "text"}}}, "Text": {"$id": BASE + "text", **TEXT}},
        {"p": 1}, ["/body/p type"],
    ),
    "a generic schema, with $id": (
        {"Root": {"$id": BASE + "root", "$ref": "page", "$defs": {"t": {"$dynamicAnchor": "t", "$ref": "#/components/schemas/Text"}}}, "Page": {"$id": BASE + "page", **TEMPLATE}, "Text": TEXT},
        [1, "a"], ["/body/0 type"],
    ),
    "a generic schema, without $id": (
        {"Root": {"$ref": "#/components/schemas/Page", "$defs": {"t": {"$dynamicAnchor": "t", **TEXT}}}, "Page": TEMPLATE},
        [1, "a"], ["/body/0 type"],
    ),
    "a schema named default": (
        {"Root": {"$ref": "#text"}, "default": {"$anchor": "text", **TEXT}},
        1, ["/body type"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("schemas", "body", "expected"), OPENAPI.values(), ids=OPENAPI)
def test_an_openapi_document(
    schemas: dict[str, Any], body: Any, expected: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps(openapi(schemas)))
    assert pairs(check(path, body)) == sorted(expected)


def test_a_document_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    schemas = {"Root": {"$ref": BASE + "api#/components/schemas/Text"}, "Text": TEXT}
    path.write_text(json.dumps(openapi(schemas) | {"openapi": "3.2.0", "$self": BASE + "api"}))
    assert pairs(check(path, 1)) == ["/body type"]


def test_a_dialect_of_an_old_draft_has_lone_references(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    schemas = {"Root": {"$ref": "#/components/schemas/Text", "maxLength": 1}, "Text": TEXT}
    dialect = "http://json-schema.org/draft-07/schema#"
    path.write_text(json.dumps(openapi(schemas, jsonSchemaDialect=dialect)))
    assert pairs(check(path, "long")) == []


@pytest.mark.parametrize("base", [BASE + "schemas/root.json", "root.json", "main/root.json"])
def test_files_refer_to_each_other_whatever_their_id(tmp_path: Path, base: str) -> None:
    files = {
        "root.json": {"$id": base, "properties": {"p": {"$ref": "text.json#/$defs/t"}}},
        "text.json": {"$id": BASE + "schemas/text.json", "$defs": {"t": {"$ref": "#t"}, "u": {"$anchor": "t", **TEXT}}},
    }  # fmt: skip
    folder = tmp_path / base.rpartition("/")[0] if ":" not in base else tmp_path
    folder.mkdir(exist_ok=True)
    (tmp_path / "root.json").write_text(json.dumps(files["root.json"]))
    (folder / "text.json").write_text(json.dumps(files["text.json"]))
    asked = request(metadata={"schemaUrl": "root.json"})
    verdict = Contracts(root=tmp_path).check_mock(asked, Mock("r1", {"p": 1}))
    assert pairs(verdict) == ["/body/p type"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$id": BASE, "$ref": "elsewhere"}, "a schema in a message cannot refer to files"),
        ({"$ref": BASE + "elsewhere"}, "never fetched"),
        ({"$ref": "part#x", "$anchor": "x", "$defs": {"p": {"$id": "part"}}}, "no such anchor"),
        ({"$ref": "part#/$defs/p", "$defs": {"p": {"$id": "part"}}}, "nothing is there"),
    ],
)
def test_what_names_nothing_is_unchecked(schema: dict[str, Any], words: str) -> None:
    verdict = Contracts().check_mock(request(metadata={"schema": schema}), Mock("r1", 1))
    assert not verdict.checked
    assert words in str(verdict.unchecked_reason)
