"""Samples of lists say that no page follows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from mock_mcp.contract.last_page import end_pages


def anything(_: Any) -> bool:
    return True


def required(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(isinstance(value.get(name), str) for name in names)


def has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(value.get(name, "") is not None for name in names)


@pytest.mark.parametrize(
    ("page", "is_valid", "last"),
    [
        ({"items": [1], "next": "a"}, anything, {"items": [1], "next": None}),
        ({"items": [1], "next": "a"}, has("next"), {"items": [1]}),
        ({"items": [1], "next": "a"}, required("next"), {"items": [1], "next": ""}),
        ({"items": [1], "next": "a"}, lambda page: page.get("next") == "a", None),
        ({"data": [], "has_more": True}, anything, {"data": [], "has_more": False}),
        ({"content": [], "last": False}, anything, {"content": [], "last": True}),
        ({"rows": [1], "total_pages": 3}, anything, {"rows": [1], "total_pages": 1}),
        (
            {"value": [], "@odata.nextLink": "https://api.test/"},
            anything,
            {"value": [], "@odata.nextLink": None},
        ),
        (
            {"messages": [1], "response_metadata": {"next_cursor": "b"}},
            anything,
            {"messages": [1], "response_metadata": {"next_cursor": None}},
        ),
        (
            {"data": {"nodes": [1], "total": 1}, "pageInfo": {"hasNextPage": True}},
            anything,
            {"data": {"nodes": [1], "total": 1}, "pageInfo": {"hasNextPage": False}},
        ),
        (
            {"data": [1], "_links": {"self": "x", "next": {"href": "y"}}},
            anything,
            {"data": [1], "_links": {"self": "x", "next": None}},
        ),
    ],
)
def test_no_page_follows_where_that_is_valid(
    page: dict[str, Any], is_valid: Callable[[Any], bool], last: dict[str, Any] | None
) -> None:
    ended = copy.deepcopy(page)
    end_pages(ended, is_valid)
    assert ended == (page if last is None else last)


@pytest.mark.parametrize(
    "value",
    [
        [{"next": "a"}],
        {"step": 1, "next": "two"},
        {"tasks": [{"next": "a"}], "next_steps": "b", "last": "c", "more": ["d"]},
        "next",
        None,
    ],
)
def test_what_is_no_page_is_left_alone(value: Any) -> None:
    same = copy.deepcopy(value)
    end_pages(same, anything)
    assert same == value
