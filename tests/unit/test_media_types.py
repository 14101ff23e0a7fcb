from __future__ import annotations

import pytest

from mock_mcp.media_types import base_type, is_json


def test_a_type_is_compared_without_its_parameters():
    assert base_type("Text/HTML; charset=utf-8") == "text/html"
    assert base_type(None) == ""


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "text/json",
        "application/problem+json",
        "application/x-amz-json-1.0",
        "application/x-amz-json-1.1",
    ],
)
def test_json_has_several_types(content_type: str):
    assert is_json(content_type)


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/jsonl", "application/x-ndjson", "json"]
)
def test_other_types_are_not_json(content_type: str | None):
    assert not is_json(content_type)
