"""What each dialect means by a schema: one case a line, through the public gate."""

# ruff: noqa: E501 - a case is a line

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource
from mock_mcp.contract.gate import Contracts
from mock_mcp.types import Mock

Case = tuple[str, Any, dict[str, Any], Any, list[str]]

PET_BASE = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"type": "string"}},
    "discriminator": {"propertyName": "kind"},
}
CAT = {
    "type": "object",
    "required": ["kind", "lives"],
    "properties": {"lives": {"type": "integer"}},
}
DOG = {"type": "object", "required": ["kind", "bark"], "properties": {"bark": {"type": "string"}}}
CAT_OF_BASE = {"allOf": [{"$ref": "#/components/schemas/Pet"}, CAT]}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


# version, schema of the 200 response, component schemas, body, expected "pointer keyword" pairs
OPENAPI_30: list[Case] = [
    ("type ok", {"type": "string"}, {}, "a", []),
    ("type wrong", {"type": "string"}, {}, 1, ["/body type"]),
    ("no schema keyword accepts anything", {}, {}, {"a": 1}, []),
    ("nullable accepts null", {"type": "string", "nullable": True}, {}, None, []),
    ("nullable false refuses null", {"type": "string", "nullable": False}, {}, None, ["/body type"]),
    ("nullable enum accepts null", {"type": "string", "enum": ["a"], "nullable": True}, {}, None, []),
    ("nullable enum keeps its options", {"type": "string", "enum": ["a"], "nullable": True}, {}, "b", ["/body enum"]),
    ("nullable beside $ref accepts null", {"properties": {"x": {**ref("A"), "nullable": True}}}, {"A": {"type": "string"}}, {"x": None}, []),
    ("nullable beside $ref keeps the target", {"properties": {"x": {**ref("A"), "nullable": True}}}, {"A": {"type": "string"}}, {"x": 1}, ["/body/x type"]),
    ("nullable allOf accepts null", {"allOf": [ref("A")], "nullable": True}, {"A": {"type": "object"}}, None, []),
    ("nullable allOf keeps the rest", {"allOf": [ref("A")], "nullable": True}, {"A": {"type": "object", "required": ["a"]}}, {}, ["/body/a required"]),
    ("nullable anyOf accepts null", {"anyOf": [ref("A")], "nullable": True}, {"A": {"type": "object"}}, None, []),
    ("nullable oneOf accepts null", {"oneOf": [ref("A")], "nullable": True}, {"A": {"type": "object"}}, None, []),
    ("nullable inside items", {"type": "array", "items": {"type": "integer", "nullable": True}}, {}, [1, None], []),
    ("exclusiveMinimum true excludes the limit", {"minimum": 5, "exclusiveMinimum": True}, {}, 5, ["/body exclusiveMinimum"]),
    ("exclusiveMinimum true admits above", {"minimum": 5, "exclusiveMinimum": True}, {}, 6, []),
    ("exclusiveMinimum false includes the limit", {"minimum": 5, "exclusiveMinimum": False}, {}, 5, []),
    ("exclusiveMaximum true excludes the limit", {"maximum": 5, "exclusiveMaximum": True}, {}, 5, ["/body exclusiveMaximum"]),
    ("exclusiveMaximum false includes the limit", {"maximum": 5, "exclusiveMaximum": False}, {}, 5, []),
    ("$ref siblings are ignored", {"properties": {"x": {**ref("A"), "maxLength": 1}}}, {"A": {"type": "string"}}, {"x": "long"}, []),
    ("discriminator with mapping selects", {"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind", "mapping": {"c": "#/components/schemas/Cat", "d": "Dog"}}}, {"Cat": CAT, "Dog": DOG}, {"kind": "c", "lives": 9}, []),
    ("discriminator with mapping explains the selected", {"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind", "mapping": {"c": "#/components/schemas/Cat", "d": "Dog"}}}, {"Cat": CAT, "Dog": DOG}, {"kind": "d", "lives": 9}, ["/body/bark required"]),
    ("discriminator with mapping excludes the schema name", {"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind", "mapping": {"c": "#/components/schemas/Cat", "d": "Dog"}}}, {"Cat": CAT, "Dog": DOG}, {"kind": "Cat", "lives": 9}, ["/body/kind enum"]),
    ("discriminator without mapping uses schema names", {"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind"}}, {"Cat": CAT, "Dog": DOG}, {"kind": "Dog", "bark": "w"}, []),
    ("discriminator without mapping names the options", {"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind"}}, {"Cat": CAT, "Dog": DOG}, {"kind": "Cow"}, ["/body/kind enum"]),
    ("discriminator uses a branch's own const", {"oneOf": [ref("A"), ref("B")], "discriminator": {"propertyName": "t"}}, {"A": {"properties": {"t": {"enum": ["a"]}}, "required": ["t"]}, "B": {"properties": {"t": {"enum": ["b"]}}, "required": ["t", "x"]}}, {"t": "b"}, ["/body/x required"]),
    ("discriminator separates branches that overlap", {"oneOf": [ref("Cat"), ref("Any")], "discriminator": {"propertyName": "kind"}}, {"Cat": CAT, "Any": {"type": "object"}}, {"kind": "Cat", "lives": 1}, []),
    ("discriminated base accepts a subtype", ref("Pet"), {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"kind": "Cat", "lives": 9}, []),
    ("discriminated base checks the subtype", ref("Pet"), {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"kind": "Cat"}, ["/body/lives required"]),
    ("discriminated base accepts itself", ref("Pet"), {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"kind": "Pet"}, []),
    ("a discriminated base behind a lone allOf", {"properties": {"p": {"allOf": [ref("Pet")], "type": "object", "description": "d"}}}, {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"p": {"kind": "Cat"}}, ["/body/p/lives required"]),
    ("a discriminated base behind a nullable allOf", {"allOf": [ref("Pet")], "nullable": True}, {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"kind": "Cat"}, ["/body/lives required"]),
    ("a base that is extended in place is only that", {"allOf": [ref("Pet"), {"required": ["x"]}]}, {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"kind": "Cat", "x": 1}, []),
    ("a subtype that adds nothing", ref("Pet"), {"Pet": PET_BASE, "Cat": CAT_OF_BASE, "Fish": {"allOf": [ref("Pet")]}}, {"kind": "Fish"}, []),
    ("a union in a discriminated union", {"oneOf": [ref("Cat"), ref("Dogs")], "discriminator": {"propertyName": "kind"}}, {"Cat": CAT, "Dogs": {"oneOf": [ref("Dog")], "discriminator": {"propertyName": "kind"}}, "Dog": DOG}, {"kind": "Dog", "bark": "w"}, []),
    ("a union in a discriminated union judges", {"oneOf": [ref("Cat"), ref("Dogs")], "discriminator": {"propertyName": "kind"}}, {"Cat": CAT, "Dogs": {"oneOf": [ref("Dog")], "discriminator": {"propertyName": "kind"}}, "Dog": DOG}, {"kind": "Dogs", "bark": "w"}, ["/body/kind enum"]),
    ("a mapping to a name with dots", {"oneOf": [ref("x.Cat"), ref("x.Dog")], "discriminator": {"propertyName": "kind", "mapping": {"c": "x.Cat", "d": "x.Dog"}}}, {"x.Cat": CAT, "x.Dog": DOG}, {"kind": "d"}, ["/body/bark required"]),
    ("a subtype asked for by name is only that", ref("Cat"), {"Pet": PET_BASE, "Cat": CAT_OF_BASE}, {"kind": "Cat"}, ["/body/lives required"]),
    ("allOf joins properties", {"allOf": [ref("A"), {"required": ["b"]}]}, {"A": {"required": ["a"]}}, {}, ["/body/a required", "/body/b required"]),
    ("allOf with additionalProperties false refuses the sibling's", {"allOf": [{"properties": {"a": {}}, "additionalProperties": False}, {"properties": {"b": {}}}]}, {}, {"a": 1, "b": 2}, ["/body/b additionalProperties"]),
    ("writeOnly is not required in a response", {"required": ["p"], "properties": {"p": {"type": "string", "writeOnly": True}}}, {}, {}, []),
    ("writeOnly behind $ref is not required", {"required": ["p"], "properties": {"p": ref("Secret")}}, {"Secret": {"type": "string", "writeOnly": True}}, {}, []),
    ("writeOnly in an allOf member is not required", {"allOf": [ref("A")], "required": ["p"]}, {"A": {"properties": {"p": {"writeOnly": True}}}}, {}, []),
    ("writeOnly beside an allOf member is not required", {"allOf": [{"required": ["p"]}], "properties": {"p": {"writeOnly": True}}}, {}, {}, []),
    ("writeOnly in another allOf member is not required", {"allOf": [ref("A"), {"required": ["p", "q"]}]}, {"A": {"properties": {"p": {"writeOnly": True}}}}, {}, ["/body/q required"]),
    ("writeOnly in another allOf member, deeper", {"allOf": [ref("A"), {"allOf": [{"required": ["p"]}]}]}, {"A": {"properties": {"p": {"writeOnly": True}}}}, {}, []),
    ("writeOnly of another object stays required", {"allOf": [ref("A"), {"properties": {"o": {"required": ["p"]}}}]}, {"A": {"properties": {"p": {"writeOnly": True}}}}, {"o": {}}, ["/body/o/p required"]),
    ("writeOnly does not lift a choice", {"properties": {"p": {"writeOnly": True}, "q": {}}, "oneOf": [{"required": ["p"]}, {"required": ["q"]}]}, {}, {"q": 1}, []),
    ("readOnly stays required in a response", {"required": ["id"], "properties": {"id": {"readOnly": True}}}, {}, {}, ["/body/id required"]),
    ("format date-time", {"format": "date-time"}, {}, "yesterday", ["/body format"]),
    ("format date", {"format": "date"}, {}, "2024-02-30", ["/body format"]),
    ("format email", {"format": "email"}, {}, "nobody", ["/body format"]),
    ("format int32 has 32 bits", {"type": "integer", "format": "int32"}, {}, 2**31, ["/body maximum"]),
    ("format int32 takes the least", {"type": "integer", "format": "int32"}, {}, -(2**31), []),
    ("format int64 has 64 bits", {"type": "integer", "format": "int64", "nullable": True}, {}, -(2**63) - 1, ["/body minimum"]),
    ("format int64 takes the greatest", {"type": "integer", "format": "int64"}, {}, 2**63 - 1, []),
    ("format int32 keeps tighter bounds", {"type": "integer", "format": "int32", "minimum": 5}, {}, 4, ["/body minimum"]),
    ("format byte is base64", {"type": "string", "format": "byte"}, {}, "base64 data", ["/body format"]),
    ("format byte has whole bytes", {"type": "string", "format": "byte"}, {}, "aGVsb", ["/body format"]),
    ("format byte takes base64", {"type": "string", "format": "byte"}, {}, "aGVsbG8=", []),
    ("format byte takes lines and no padding", {"type": "string", "format": "byte"}, {}, "aGVs\nbG8\n", []),
    ("format byte takes the alphabet of URLs", {"type": "string", "format": "byte"}, {}, "-_-_", []),
    ("format int64 of text", {"type": "string", "format": "int64"}, {}, "5", []),
    ("format uuid", {"format": "uuid"}, {}, "1", ["/body format"]),
    ("format uri", {"format": "uri"}, {}, "not a uri", ["/body format"]),
    ("format ipv4", {"format": "ipv4"}, {}, "1.2.3", ["/body format"]),
    ("unknown format is ignored", {"format": "color"}, {}, "?", []),
    ("additionalProperties schema", {"additionalProperties": {"type": "integer"}}, {}, {"a": "x"}, ["/body/a type"]),
    ("recursive schema", ref("Tree"), {"Tree": {"type": "object", "required": ["n"], "properties": {"kids": {"type": "array", "items": ref("Tree")}}}}, {"n": 1, "kids": [{"n": 1, "kids": [{}]}]}, ["/body/kids/0/kids/0/n required"]),
    ("x- keywords are ignored", {"type": "string", "x-check": {"$ref": "#/nowhere"}}, {}, "a", []),
    ("$ref into a path", {"$ref": "#/components/schemas/A/properties/x"}, {"A": {"properties": {"x": {"type": "integer"}}}}, "a", ["/body type"]),
    ("escaped pointer tokens", {"$ref": "#/components/schemas/a~1b%20c"}, {"a/b c": {"type": "integer"}}, "a", ["/body type"]),
    ("numbers as text are read", {"minLength": "3"}, {}, "ab", ["/body minLength"]),
    ("invalid pattern is dropped", {"type": "string", "pattern": "["}, {}, "a", []),
    ("an escaped angle bracket is one", {"pattern": r"^\<b\>$"}, {}, "<b>", []),
    ("an escaped angle bracket in a set is one", {"pattern": r"^[\<\w\>]$"}, {}, "/", ["/body pattern"]),
    ("an escaped backslash stays one", {"pattern": r"^\\<$"}, {}, "\\<", []),
    ("a hyphen after a class is itself", {"pattern": r"^[\w-.]+@x$"}, {}, "a-b.c@x", []),
    ("a hyphen after a class still judges", {"pattern": r"^[\w-.]+@x$"}, {}, "a b@x", ["/body pattern"]),
    ("a hyphen before a class is itself", {"pattern": r"^[+-\d]$"}, {}, ",", ["/body pattern"]),
    ("a hyphen in a pattern of names", {"patternProperties": {r"^[\w-.]+$": False}}, {}, {"a-b": 1}, ["/body/a-b false"]),
    ("required true is dropped", {"properties": {"a": {"type": "string", "required": True}}}, {}, {}, []),
    ("unknown type accepts any", {"type": "any"}, {}, 5, []),
    ("enum of numbers for a string is text", {"type": "string", "enum": [1, 2]}, {}, "1", []),
    ("a schema that is only itself accepts anything", ref("A"), {"A": {"allOf": [ref("A")]}}, 1, []),
]  # fmt: skip

OPENAPI_31: list[Case] = [
    ("writeOnly beside $ref is not required", {**ref("A"), "required": ["p"], "properties": {"p": {"writeOnly": True}}}, {"A": {"type": "object"}}, {}, []),
    ("type array accepts each", {"type": ["string", "null"]}, {}, None, []),
    ("type array refuses others", {"type": ["string", "null"]}, {}, 1, ["/body type"]),
    ("const", {"const": "a"}, {}, "b", ["/body const"]),
    ("const null", {"const": None}, {}, None, []),
    ("$ref siblings count", {"properties": {"x": {**ref("A"), "maxLength": 1}}}, {"A": {"type": "string"}}, {"x": "long"}, ["/body/x maxLength"]),
    ("numeric exclusiveMinimum", {"exclusiveMinimum": 5}, {}, 5, ["/body exclusiveMinimum"]),
    ("boolean exclusiveMinimum as in 3.0", {"minimum": 5, "exclusiveMinimum": True}, {}, 5, ["/body exclusiveMinimum"]),
    ("nullable as in 3.0", {"type": "string", "nullable": True}, {}, None, []),
    ("$defs", {"$ref": "#/components/schemas/A/$defs/x"}, {"A": {"$defs": {"x": {"type": "integer"}}}}, "a", ["/body type"]),
    ("$anchor", {"$ref": "#x"}, {"A": {"$anchor": "x", "type": "integer"}}, "a", ["/body type"]),
    ("$id", {"$ref": "https://example.com/a"}, {"A": {"$id": "https://example.com/a", "type": "integer"}}, "a", ["/body type"]),
    ("unevaluatedProperties sees through allOf", {"allOf": [ref("A")], "unevaluatedProperties": False}, {"A": {"properties": {"a": {}}}}, {"a": 1}, []),
    ("unevaluatedProperties refuses the rest", {"allOf": [ref("A")], "unevaluatedProperties": False}, {"A": {"properties": {"a": {}}}}, {"a": 1, "b": 2}, ["/body/b unevaluatedProperties"]),
    ("unevaluatedItems", {"prefixItems": [{"type": "string"}], "unevaluatedItems": False}, {}, ["a", 1], ["/body unevaluatedItems"]),
    ("prefixItems", {"prefixItems": [{"type": "string"}, {"type": "integer"}]}, {}, ["a", "b"], ["/body/1 type"]),
    ("contains", {"contains": {"const": 1}}, {}, [2], ["/body contains"]),
    ("if then", {"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {}, {"a": 1}, ["/body/b required"]),
    ("dependentRequired", {"dependentRequired": {"a": ["b"]}}, {}, {"a": 1}, ["/body/b required"]),
    ("patternProperties", {"patternProperties": {"^n": {"type": "integer"}}}, {}, {"n1": "x"}, ["/body/n1 type"]),
    ("propertyNames", {"propertyNames": {"maxLength": 2}}, {}, {"long": 1, "other": 1, "ok": 1}, ["/body/long propertyNames", "/body/other propertyNames"]),
    ("a property named $ref", {"properties": {"$ref": {"type": "string"}}}, {}, {"$ref": 1}, ["/body/$ref type"]),
    ("boolean schema false", {"properties": {"x": False}}, {}, {"x": 1}, ["/body/x false"]),
    ("$dynamicRef to the outermost anchor", ref("Strings"), {"List": {"$id": "https://example.com/list", "type": "array", "items": {"$dynamicRef": "#item"}, "$defs": {"item": {"$dynamicAnchor": "item"}}}, "Strings": {"$id": "https://example.com/strings", "$ref": "https://example.com/list", "$defs": {"item": {"$dynamicAnchor": "item", "type": "string"}}}}, [1], ["/body/0 type"]),
    ("$dynamicRef alone is the plain anchor", ref("List"), {"List": {"$id": "https://example.com/list", "type": "array", "items": {"$dynamicRef": "#item"}, "$defs": {"item": {"$dynamicAnchor": "item"}}}, "Strings": {"$id": "https://example.com/strings", "$ref": "https://example.com/list", "$defs": {"item": {"$dynamicAnchor": "item", "type": "string"}}}}, [1], []),
    ("$recursiveRef of 2019-09", ref("Filter"), {"Filter": {"$recursiveAnchor": True, "properties": {"all": {"type": "array", "items": {"oneOf": [{"type": "integer"}, {"$recursiveRef": "#"}]}}}, "type": "object"}}, {"all": [{"all": ["x"]}]}, ["/body/all/0/all/0 type"]),
    ("duplicate required counts once", {"required": ["a", "a"]}, {}, {}, ["/body/a required"]),
    ("items as a list is a tuple", {"items": [{"type": "string"}]}, {}, [1], ["/body/0 type"]),
    ("anyOf of types names them all", {"anyOf": [{"type": "string"}, {"type": "integer"}]}, {}, [], ["/body type"]),
    ("anyOf gives the closest alternative", {"anyOf": [ref("A"), {"type": "null"}]}, {"A": {"type": "object", "required": ["a"]}}, {}, ["/body/a required"]),
    ("oneOf that fits twice", {"oneOf": [{"type": "integer"}, {"minimum": 1}]}, {}, 5, ["/body oneOf"]),
    ("oneOf by const without discriminator", {"oneOf": [ref("A"), ref("B")]}, {"A": {"type": "object", "properties": {"t": {"const": "a"}}, "required": ["t", "x", "y", "z"]}, "B": {"type": "object", "properties": {"t": {"const": "b"}}, "required": ["t"]}}, {"t": "a"}, ["/body/x required", "/body/y required", "/body/z required"]),
    ("not", {"not": {"type": "string"}}, {}, "a", ["/body not"]),
]  # fmt: skip

SWAGGER_20: list[Case] = [
    ("definitions", {"$ref": "#/definitions/A"}, {"A": {"required": ["a"]}}, {}, ["/body/a required"]),
    ("x-nullable", {"type": "string", "x-nullable": True}, {}, None, []),
    ("type file accepts text", {"type": "file"}, {}, "content", []),
    ("$ref siblings are ignored", {"properties": {"x": {"$ref": "#/definitions/A", "maxLength": 1}}}, {"A": {"type": "string"}}, {"x": "long"}, []),
    ("discriminator is a property name", {"$ref": "#/definitions/Pet"}, {"Pet": {"type": "object", "discriminator": "kind", "required": ["kind"], "properties": {"kind": {"type": "string"}}}, "Cat": {"allOf": [{"$ref": "#/definitions/Pet"}, CAT]}}, {"kind": "Cat"}, ["/body/lives required"]),
    ("boolean exclusiveMaximum", {"maximum": 3, "exclusiveMaximum": True}, {}, 3, ["/body exclusiveMaximum"]),
    ("readOnly stays required in a response", {"required": ["id"], "properties": {"id": {"readOnly": True, "type": "integer"}}}, {}, {"id": "1"}, ["/body/id type"]),
    ("additionalProperties false", {"properties": {"a": {}}, "additionalProperties": False}, {}, {"b": 1}, ["/body/b additionalProperties"]),
]  # fmt: skip


def document(version: str, schema: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if version == "2.0":
        return {
            "swagger": "2.0",
            "paths": {"/x": {"get": {"responses": {"200": {"schema": schema}}}}},
            "definitions": schemas,
        }
    content = {"application/json": {"schema": schema}}
    return {
        "openapi": f"{version}.0",
        "paths": {"/x": {"get": {"responses": {"200": {"content": content}}}}},
        "components": {"schemas": schemas},
    }


CASES = [
    pytest.param(document(version, *case[1:3]), *case[3:], id=f"{version} {case[0]}")
    for version, cases in (("3.0", OPENAPI_30), ("3.1", OPENAPI_31), ("2.0", SWAGGER_20))
    for case in cases
]


@pytest.mark.parametrize(("raw", "body", "expected"), CASES)
def test_schema(raw: dict[str, Any], body: Any, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps(raw))
    contracts = Contracts([DocumentSource(path)])
    request = {"requestId": "r1", "endpoint": "https://any.test/x", "method": "GET"}
    verdict = contracts.check_mock(request, Mock("r1", body))
    assert verdict.checked, verdict.unchecked_reason
    found = sorted(f"{v.pointer} {v.keyword}" for v in verdict.violations)
    assert found == sorted(expected)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
