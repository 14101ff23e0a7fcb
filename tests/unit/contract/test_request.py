"""Requests against their operation."""

# ruff: noqa: E501 - documents and cases are tables

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.gate import Contracts


def parameter(name: str, where: str, schema: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": schema, **more}


INTEGERS = {"type": "array", "items": {"type": "integer"}}
NEW = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"type": "object", "properties": {"zip": {"type": "integer"}}},
    },
}
ID = {"oneOf": [{"type": "string", "format": "uuid"}, {"type": "integer", "minimum": 1}]}
OK = {"200": {"description": "ok"}}

API: dict[str, Any] = {
    "openapi": "3.0.3",
    "paths": {
        "/items/{id}": {
            "parameters": [parameter("id", "path", {"type": "integer"}, required=True)],
            "get": {
                "parameters": [
                    parameter("q", "query", {"type": "string"}, required=True),
                    parameter("limit", "query", {"type": "integer", "maximum": 9}),
                    parameter("flag", "query", {"type": "boolean"}),
                    parameter("ids", "query", INTEGERS),
                    parameter("csv", "query", INTEGERS, explode=False),
                    parameter("pipe", "query", INTEGERS, style="pipeDelimited", explode=False),
                    parameter("where", "query", {"type": "object", "additionalProperties": False,
                              "properties": {"gt": {"type": "integer"}, "in": INTEGERS}},
                              style="deepObject"),
                    parameter("sort", "query", {"enum": ["up", "down"]}),
                    {"name": "json", "in": "query", "content": {"application/json": {"schema": INTEGERS}}},
                    parameter("X-Key", "header", {"type": "string", "minLength": 3}, required=True),
                    parameter("Authorization", "header", {"type": "string"}, required=True),
                    parameter("session", "cookie", {"type": "integer"}),
                ],
                "responses": OK,
            },
        },
        "/items": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": NEW},
                        "application/x-www-form-urlencoded": {"schema": NEW},
                        "multipart/form-data": {"schema": NEW},
                        "text/plain": {"schema": {"type": "string", "maxLength": 3}},
                    },
                },
                "responses": OK,
            }
        },
    },
}  # fmt: skip

SWAGGER: dict[str, Any] = {
    "swagger": "2.0",
    "paths": {
        "/items": {
            "get": {
                "parameters": [
                    {"name": "n", "in": "query", "type": "integer", "required": True},
                    {"name": "ids", "in": "query", "type": "array", "items": {"type": "integer"},
                     "collectionFormat": "pipes"},
                ],
                "responses": OK,
            },
            "post": {
                "parameters": [{"name": "b", "in": "body", "required": True, "schema": {
                    "$ref": "#/definitions/New"}}],
                "responses": OK,
            },
            "put": {
                "consumes": ["application/x-www-form-urlencoded"],
                "parameters": [
                    {"name": "a", "in": "formData", "type": "integer", "required": True},
                    {"name": "f", "in": "formData", "type": "file"},
                ],
                "responses": OK,
            },
        }
    },
    "definitions": {"New": NEW},
}  # fmt: skip

KEY = {"x-key": "abc"}


def check(tmp_path: Path, api: dict[str, Any], method: str, path: str, **more: Any) -> list[str]:
    file = tmp_path / "api.json"
    file.write_text(json.dumps(api))
    contracts = Contracts([DocumentSource(file)])
    endpoint = f"https://any.test{path}"
    request = {"requestId": "r", "endpoint": endpoint, "method": method, **more}
    found = contracts.check_request(request)
    assert all(v.request_id == "r" and v.hint for v in found)
    source = contracts.resolve(request)
    assert source.document is None or source.document.defects == ()
    return [f"{v.pointer} {v.keyword}" for v in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=a", []),
        ("", ["/query/q required"]),
        ("q=", []),
        ("q=5", []),
        ("q=a&limit=5", []),
        ("q=a&limit=10", ["/query/limit maximum"]),
        ("q=a&limit=x", ["/query/limit type"]),
        ("q=a&flag=true", []),
        ("q=a&flag=1", ["/query/flag type"]),
        ("q=a&ids=1&ids=2", []),
        ("q=a&ids=1&ids=x", ["/query/ids/1 type"]),
        ("q=a&csv=1,2", []),
        ("q=a&csv=1,x", ["/query/csv/1 type"]),
        ("q=a&pipe=1%7C2", []),
        ("q=a&where[gt]=5&where[in][]=1&where[in][]=2", []),
        ("q=a&where%5Bgt%5D=x", ["/query/where/gt type"]),
        ("q=a&where[lt]=5", ["/query/where/lt additionalProperties"]),
        ("q=a&sort=upp", ["/query/sort enum"]),
        ("q=a&json=[1]", []),
        ('q=a&json=["x"]', ["/query/json/0 type"]),
        ("q=a&unknown=1", []),
    ],
)  # fmt: skip
def test_query(tmp_path: Path, query: str, expected: list[str]) -> None:
    assert check(tmp_path, API, "GET", f"/items/1?{query}", headers=KEY) == expected


RANGE = {"$ref": "#/components/schemas/Range"}
STRINGS = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 2}}


@pytest.mark.parametrize(
    ("parameters", "query", "expected"),
    [
        ([parameter("f", "query", RANGE, required=True)], "gt=1", []),
        ([parameter("f", "query", RANGE, required=True)], "gt=x", ["/query/f/gt type"]),
        ([parameter("f", "query", RANGE, required=True)], "other=1", ["/query/f required"]),
        ([parameter("f", "query", {"allOf": [RANGE]}, required=True)], "gt=1", []),
        ([parameter("f", "query", STRINGS, required=True)], "any=1", []),
        ([parameter("f", "query", STRINGS)], "any=long", ["/query/f/any maxLength"]),
        ([parameter("f", "query", STRINGS), parameter("q", "query", {})], "q=long", []),
        ([parameter("f", "query", RANGE, style="pipeDelimited")], "f=gt|1", []),
        ([parameter("f", "query", RANGE, style="pipeDelimited")], "f=gt|x", ["/query/f/gt type"]),
        ([parameter("f", "query", {"type": "boolean"}, allowEmptyValue=True)], "f", []),
        ([parameter("f", "query", {"type": "boolean"}, allowEmptyValue=True)], "f=x", ["/query/f type"]),
        ([parameter("f", "query", {"type": "boolean"})], "f=", ["/query/f type"]),
        ([parameter("f", "query", {"enum": [1, 2, "all", True]})], "f=1", []),
        ([parameter("f", "query", {"enum": [1, 2, "all", True]})], "f=all", []),
        ([parameter("f", "query", {"enum": [1, 2, "all", True]})], "f=true", []),
        ([parameter("f", "query", {"enum": [1, 2, "all", True]})], "f=3", ["/query/f enum"]),
        ([parameter("f", "query", {"enum": ["1"]})], "f=1", []),
        ([parameter("f", "query", {"const": 1.5})], "f=1.5", []),
        ([parameter("f", "query", {"anyOf": [{"type": "string", "const": "all"}, {"type": "integer"}]})], "f=5", []),
        ([parameter("f", "query", ID)], "f=5", []),
        ([parameter("f", "query", ID)], "f=0", ["/query/f minimum"]),
        ([parameter("f", "query", ID)], "f=2b1c9c1e-7c1d-4f0e-9d1a-0c7f5e0b8a11", []),
        ([parameter("f", "query", {"type": "array", "items": ID})], "f=5&f=6", []),
        ([parameter("f", "query", {"oneOf": [{"type": "string", "pattern": "^c_"}, {"type": "integer"}]})], "f=5", []),
        ([parameter("f", "query", {"oneOf": [{"type": "string", "minLength": 5}, {"type": "boolean"}]})], "f=true", []),
        ([parameter("f", "query", {"type": ["string", "integer"], "maxLength": 2})], "f=12", []),
        ([parameter("f", "query", {"oneOf": [{"type": "string", "pattern": "^[0-9]{5}$"}, {"type": "integer"}]})], "f=01234", []),
    ],
)  # fmt: skip
def test_what_a_query_parameter_may_be(
    tmp_path: Path, parameters: list[Any], query: str, expected: list[str]
) -> None:
    limits = {"type": "object", "required": ["gt"], "properties": {"gt": {"type": "integer"}}}
    api = {
        "openapi": "3.0.3",
        "paths": {"/x": {"get": {"parameters": parameters, "responses": OK}}},
        "components": {"schemas": {"Range": limits}},
    }
    assert check(tmp_path, api, "GET", f"/x?{query}") == expected


@pytest.mark.parametrize(
    ("style", "explode", "array", "fields"),
    [
        ("simple", False, "1,{}", "a,{},b,2"),
        ("simple", True, "1,{}", "a={},b=2"),
        ("label", False, ".1,{}", ".a,{},b,2"),
        ("label", True, ".1.{}", ".a={}.b=2"),
        ("matrix", False, ";v=1,{}", ";v=a,{},b,2"),
        ("matrix", True, ";v=1;v={}", ";a={};b=2"),
    ],
)
def test_styles_of_a_path_parameter(
    tmp_path: Path, style: str, explode: bool, array: str, fields: str
) -> None:
    pair = {"properties": {"a": {"type": "integer"}, "b": {}}}
    for schema, text, place in ((INTEGERS, array, "1"), (pair, fields, "a")):
        item = parameter("v", "path", schema, required=True, style=style, explode=explode)
        call = {"get": {"parameters": [item], "responses": OK}}
        api = {"openapi": "3.0.3", "paths": {"/x/{v}": call}}
        assert check(tmp_path, api, "GET", f"/x/{text.format(5)}") == []
        assert check(tmp_path, api, "GET", f"/x/{text.format('x')}") == [f"/path/v/{place} type"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (KEY, []),
        ({}, ["/headers/X-Key required"]),
        (None, []),
        ({"X-KEY": "a"}, ["/headers/X-Key minLength"]),
        ({**KEY, "Cookie": "a=b; session=5"}, []),
        ({**KEY, "Cookie": "session=x"}, ["/cookies/session type"]),
    ],
)
def test_headers_and_cookies(tmp_path: Path, headers: Any, expected: list[str]) -> None:
    more = {} if headers is None else {"headers": headers}
    assert check(tmp_path, API, "GET", "/items/1?q=a", **more) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/items/x?q=a", ["/path/id type"]),
        ("GET", "/item/1", ["/path path"]),
        ("PATCH", "/items/1", ["/method method"]),
    ],
)
def test_path_and_method(tmp_path: Path, method: str, path: str, expected: list[str]) -> None:
    assert check(tmp_path, API, method, path) == expected


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", {"name": "a"}, []),
        ("application/json", {"name": 1}, ["/body/name type"]),
        ("application/json", {}, ["/body/name required"]),
        (None, {"name": 1}, ["/body/name type"]),
        ("application/json", '{"name": "a"}', []),
        ("application/json", '{"name": 1}', ["/body/name type"]),
        ("application/json", None, ["/body required"]),
        ("application/xml", "<x/>", ["/headers/content-type content-type"]),
        ("application/x-www-form-urlencoded", {"$form": {"name": "a", "age": "5"}}, []),
        ("application/x-www-form-urlencoded", {"$form": {"name": "a", "age": "x"}}, ["/body/age type"]),
        ("application/x-www-form-urlencoded", "name=a&age=x", ["/body/age type"]),
        (None, {"$form": {"age": "5"}}, ["/body/name required"]),
        (None, {"$form": {"name": "a", "tags": ["x", "y"]}}, []),
        (None, {"$form": {"name": "a", "tags[]": "x", "address[zip]": "1"}}, []),
        (None, {"$form": {"name": "a", "address[zip]": "x"}}, ["/body/address/zip type"]),
        (None, {"$form": {"name": "a", "address": '{"zip": 1}'}}, []),
        (None, {"$form": {"name": "a", "address": '{"zip": "x"}'}}, ["/body/address/zip type"]),
        (None, {"$form": {"name": "a", "address": "{zip"}}, ["/body/address type"]),
        (None, {"$form": {"name": '{"zip": 1}'}}, []),
        (None, {"$multipart": [{"name": "name", "data": "a"}, {"name": "address", "data": '{"zip": "x"}'}]}, ["/body/address/zip type"]),
        (None, {"$multipart": [{"name": "name", "data": "a"}, {"name": "tags", "data": ["x", 1]}]}, ["/body/tags/1 type"]),
        (None, {"$multipart": [{"name": "name", "data": "a"}, {"name": "age", "data": "x"}]}, ["/body/age type"]),
        ("multipart/form-data; boundary=x", {"$multipart": [{"name": "name", "data": "a"}]}, []),
        ("text/plain", "abc", []),
        ("text/plain", "abcd", ["/body maxLength"]),
    ],
)  # fmt: skip
def test_body(tmp_path: Path, content_type: str | None, body: Any, expected: list[str]) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    more = {} if body is None else {"body": body}
    assert check(tmp_path, API, "POST", "/items", headers=headers, **more) == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/items?n=1&ids=1|2", None, []),
        ("GET", "/items?n=x&ids=1|y", None, ["/query/n type", "/query/ids/1 type"]),
        ("GET", "/items", None, ["/query/n required"]),
        ("POST", "/items", {"name": 1}, ["/body/name type"]),
        ("POST", "/items", None, ["/body required"]),
        ("PUT", "/items", {"$form": {"a": "1", "f": "content"}}, []),
        ("PUT", "/items", {"$form": {"a": "x"}}, ["/body/a type"]),
        ("PUT", "/items", {"$form": {}}, ["/body/a required"]),
    ],
)
def test_swagger(tmp_path: Path, method: str, path: str, body: Any, expected: list[str]) -> None:
    more = {} if body is None else {"body": body}
    assert check(tmp_path, SWAGGER, method, path, **more) == expected


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"explode": False}, "1,{}"),
        ({"style": "form", "explode": False}, "1,{}"),
        ({"style": "pipeDelimited", "explode": False}, "1|{}"),
        ({"contentType": "application/json"}, "[1,{}]"),
    ],
)
def test_a_list_in_one_field_of_a_form(tmp_path: Path, how: Any, text: str) -> None:
    kind = "application/x-www-form-urlencoded"
    form = {"schema": {"properties": {"ids": INTEGERS}}, "encoding": {"ids": how}}
    call = {"post": {"requestBody": {"content": {kind: form}}, "responses": OK}}
    api = {"openapi": "3.0.3", "paths": {"/x": call}}
    assert check(tmp_path, api, "POST", "/x", body={"$form": {"ids": text.format(2)}}) == []
    found = check(tmp_path, api, "POST", "/x", body={"$form": {"ids": text.format('"x"')}})
    assert found == ["/body/ids/1 type"]


@pytest.mark.parametrize(
    ("how", "good", "bad"),
    [
        ({}, "1,2", "1,x"),
        ({"collectionFormat": "csv"}, "1,2", "1,x"),
        ({"collectionFormat": "ssv"}, "1 2", "1 x"),
        ({"collectionFormat": "tsv"}, "1\t2", "1\tx"),
        ({"collectionFormat": "pipes"}, "1|2", "1|x"),
        ({"collectionFormat": "multi"}, ["1", "2"], ["1", "x"]),
    ],
)
def test_a_list_in_a_form_of_swagger(tmp_path: Path, how: Any, good: Any, bad: Any) -> None:
    field = {"name": "ids", "in": "formData", **INTEGERS, **how}
    call = {"post": {"parameters": [field], "responses": OK}}
    api = {"swagger": "2.0", "paths": {"/x": call}}
    assert check(tmp_path, api, "POST", "/x", body={"$form": {"ids": good}}) == []
    assert check(tmp_path, api, "POST", "/x", body={"$form": {"ids": bad}}) == ["/body/ids/1 type"]


def test_another_host_is_not_policed(tmp_path: Path) -> None:
    api = {**API, "servers": [{"url": "https://api.test"}]}
    assert check(tmp_path, api, "GET", "/nowhere") == []


def test_a_base_path_of_a_known_host_is(tmp_path: Path) -> None:
    api = {**API, "servers": [{"url": "https://any.test/v1"}]}
    assert check(tmp_path, api, "GET", "/v2/items/1") == ["/path path"]


def test_a_lone_schema_has_no_request_contract(tmp_path: Path) -> None:
    metadata = {"schema": {"type": "object"}}
    assert check(tmp_path, API, "GET", "/nowhere", metadata=metadata) == []
