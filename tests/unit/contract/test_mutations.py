"""Documents broken at random: a typed error or a verdict, never a crash, never slow."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from mock_mcp.contract.document import DocumentSource, load_document
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.finder import Finder
from mock_mcp.contract.gate import Contracts
from mock_mcp.contract.survey import survey
from mock_mcp.types import Mock

ANIMAL = {
    "type": "object",
    "required": ["kind", "id"],
    "discriminator": {"propertyName": "kind", "mapping": {"c": "#/components/schemas/Cat"}},
    "properties": {
        "kind": {"type": "string", "enum": ["c", "d"]},
        "id": {"type": "integer", "minimum": 1, "exclusiveMinimum": True, "readOnly": True},
        "tags": {"type": "array", "items": {"$ref": "#/components/schemas/Tag"}, "minItems": 1},
    },
}
BASE: dict[str, Any] = {
    "openapi": "3.0.3",
    "servers": [{"url": "/v1"}],
    "paths": {
        "/pets/{id}": {
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
                {"name": "f", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                {"name": "X", "in": "header", "required": True, "schema": {"type": "string"}},
            ],
            "put": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Animal"}},
                        "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
                    },
                },
                "responses": {
                    "200": {
                        "headers": {"X-Rate": {"schema": {"type": "integer"}}},
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Animal"},
                                "examples": {"one": {"value": {"kind": "c"}}},
                            }
                        },
                    },
                    "default": {"$ref": "#/components/responses/Error"},
                },
            },
        }
    },
    "components": {
        "responses": {
            "Error": {
                "content": {
                    "application/json": {
                        "schema": {
                            "oneOf": [
                                {"$ref": "#/components/schemas/Tag"},
                                {"$ref": "#/components/schemas/Cat"},
                            ],
                            "discriminator": {"propertyName": "kind"},
                        }
                    }
                }
            }
        },
        "schemas": {
            "Animal": ANIMAL,
            "Cat": {
                "allOf": [{"$ref": "#/components/schemas/Animal"}, {"required": ["lives"]}],
                "nullable": True,
            },
            "Tag": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        },
    },
}
JUNK: list[Any] = [
    None, True, False, 0, -1, 1.5, "", "x", "#/", "#/paths", "#/components/schemas/Cat", "../x",
    "string", [], {}, [1], [None], {"a": 1}, {"$ref": "#/components/schemas/Animal"}, {"$ref": 5},
    ["a", "a"], {"": {}}, {"x": True},
]  # fmt: skip
KEYWORDS = [
    "$ref", "type", "properties", "required", "nullable", "allOf", "oneOf",
    "discriminator", "items", "enum", "servers", "content", "parameters", "schema",
    "headers", "$defs", "$dynamicRef", "pattern", "minimum", "not", "dependencies",
    "in", "name", "style", "examples", "example", "responses", "requestBody",
]  # fmt: skip


def members(node: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    stack = [node]
    while stack:
        node = stack.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        found += [(node, key) for key in keys]
        stack += [node[key] for key in keys if isinstance(node[key], (dict, list))]
    return found


def mutate(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    document = copy.deepcopy(BASE)
    for _ in range(draw.randint(1, 5)):
        places = members(document)
        if not places:
            break
        holder, key = draw.choice(places)
        other, where = draw.choice(places)
        how = draw.random()
        if isinstance(holder, dict) and how < 0.3:
            holder[draw.choice(KEYWORDS)] = copy.deepcopy(draw.choice(JUNK))
        elif how < 0.8:
            holder[key] = copy.deepcopy(draw.choice(JUNK))
        else:
            holder[key] = copy.deepcopy(other[where])
    return document


@pytest.mark.parametrize("block", range(8))
def test_a_broken_document_gives_a_typed_error_or_a_verdict(block: int, tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    for seed in range(block * 50, block * 50 + 50):
        path.write_text(json.dumps(mutate(seed)))
        try:
            operations = list(Finder(load_document(path)))
        except ContractDocumentError:
            continue
        contracts = Contracts([DocumentSource(path)])
        for operation in operations:
            for body in (
                {"kind": "c", "id": 1, "lives": 9},
                [None],
                "text",
                {"$form": {"a[b]": "1"}},
            ):
                request = {
                    "requestId": "r",
                    "endpoint": operation.path.replace("{id}", "1") + "?f[a]=1",
                    "method": operation.method,
                    "body": body,
                    "headers": {"x": "1"},
                }
                for status in (None, 404):
                    contracts.check_mock(request, Mock("r", body, status))
                try:
                    contracts.check_request(request)
                except ContractDocumentError:
                    continue
        if seed % 5 == 0:
            survey(path)
