"""Bodies that are one item after another, as text and as the list of their items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_mcp.exchange import HttpRequest, HttpResponse, UnusableMock, decode_body
from mock_mcp.sequential import exact_items, is_sequential, join, split

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
RECORDS = "application/json-seq"


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("Text/Event-Stream; charset=utf-8", True),
        ("application/x-ndjson", True),
        ("application/jsonl", True),
        ("application/vnd.example+x-ndjson;compatible-with=8", True),
        ("application/geo+json-seq", True),
        ("application/json", False),
        ("application/stream+json", False),
        ("text/plain", False),
        (None, False),
    ],
)
def test_which_types_are_sequential(media_type: str | None, *, expected: bool) -> None:
    assert is_sequential(media_type) is expected


@pytest.mark.parametrize(
    ("media_type", "text", "items"),
    [
        (LINES, '{"a": 1}\r\n\n[2]\n"x"\nno', [{"a": 1}, [2], '"x"', "no"]),
        (RECORDS, '\x1e{"a":1}\n\x1e2\n', [{"a": 1}, 2]),
        (EVENTS, "data: 1\n\n: ping\n\ndata: [DONE]\n\n", [{"data": 1}, {"data": "[DONE]"}]),
        (EVENTS, '\ufeffid: 7\rdata: {"a":\rdata:1}\r\r', [{"id": "7", "data": {"a": 1}}]),
        (EVENTS, "event: x\nretry: 5\ndata", [{"event": "x", "retry": 5, "data": ""}]),
        (EVENTS, "event: x\n\n", []),
    ],
)
def test_a_text_is_read_as_items(media_type: str, text: str, items: list[Any]) -> None:
    assert split(text, media_type) == items


@pytest.mark.parametrize(
    ("media_type", "text", "items"),
    [
        (LINES, '{"a":1}\n{"a": 2}\n', [{"a": 1}, '{"a": 2}']),
        (RECORDS, "\x1e1\n\x1e2\n", [1, 2]),
        (EVENTS, 'data: {"a":1}\n\ndata: {"a": 2}\n\n', [{"data": {"a": 1}}, {"data": '{"a": 2}'}]),
        (EVENTS, "data: {}\nevent: x\n\n", [{"data": {}, "event": "x"}]),
        (EVENTS, ": ping\n\ndata:1\n\n", [": ping", "data:1"]),
        (EVENTS, "data: a\ndata: b\n\n", [{"data": "a\nb"}]),
        (EVENTS, "data: 1\n", None),
        (EVENTS, "data: 1\r\n\r\n: a\r\n\r\n", ["data: 1\r\n\r\n", ": a\r\n\r\n"]),
        (EVENTS, "\ufeffdata: 1\n\n", ["\ufeffdata: 1\n\n"]),
        (EVENTS, "data: 1\r\ndata: 2\n\n\n", ["data: 1\r\ndata: 2\n\n\n"]),
        (EVENTS, "data\n\n", None),
        (LINES, '{"a":1}', None),
        (LINES, '{"a":1}\r\n\n', ['{"a":1}\r\n', ""]),
        (LINES, "", None),
        (RECORDS, "\x1e1\x1e2\n", ["\x1e1", 2]),
    ],
)
def test_a_text_is_kept_as_items_that_give_it_back(
    media_type: str, text: str, items: list[Any] | None
) -> None:
    assert exact_items(text, media_type) == items
    if items is not None:
        assert join(items, media_type) == text


@given(
    st.text(alphabet=st.sampled_from('{}":a1 \n\r\x1e,[]datevn'), max_size=40),
    st.sampled_from([EVENTS, LINES, RECORDS]),
)
def test_kept_items_always_give_back_the_text(text: str, media_type: str) -> None:
    items = exact_items(text, media_type)
    assert items is None or join(items, media_type) == text


def test_items_are_sent_as_their_text_and_read_back() -> None:
    request = HttpRequest("GET", "https://api.test/", ())
    items = [{"event": "é", "data": {"a": 1}}, {"b": 2}, "[DONE]"]
    response = HttpResponse.from_mock(request, items, headers={"content-type": EVENTS})
    assert response.body.decode() == (
        'event: é\ndata: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n'
    )
    read = [{"event": "é", "data": {"a": 1}}, {"data": {"b": 2}}, {"data": "[DONE]"}]
    assert decode_body(response.body, EVENTS, exact=True) == read
    with pytest.raises(UnusableMock, match="cannot be written"):
        HttpResponse.from_mock(request, [{1, object()}], headers={"content-type": LINES})
