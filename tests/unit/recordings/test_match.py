"""Which requests are the same call."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.format import RecordedRequest
from mock_mcp.recordings.match import DEFAULT_MATCH, Matching
from unit.recordings.calls import call

U = "https://api.test/users"


def same(one: RecordedRequest, other: RecordedRequest, *match: Any, **options: Any) -> bool:
    matching = Matching(match or DEFAULT_MATCH, **options)
    return matching.key(one) == matching.key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (call(f"{U}?a=1&b=2"), call(f"{U}?b=2&a=1")),
        (call(f"{U}?a=1&a=2"), call(f"{U}?a=2&a=1")),
        (call(f"{U}?q=a%20b"), call(f"{U}?q=a+b")),
        (call(f"{U}?flag"), call(f"{U}?flag=")),
        (call(f"{U}#top"), call(U)),
        (call("https://API.test:443/users"), call(U)),
        (call("http://api.test/users"), call(U)),
        (call("https://api.test"), call("https://api.test/")),
        (call("https://api.test/%7euser/%c3%bc"), call("https://api.test/~user/ü")),
        (call("https://u:p@api.test/users"), call(U)),
        (call(accept="text/html"), call()),
        (call(body={"a": 1, "b": [1.0, {"c": 2}]}), call(body={"b": [1, {"c": 2.0}], "a": 1.0})),
        (call(body={"n": 10**22}), call(body={"n": 1e22})),
        (call(body='{"a": 1, "b": 2}'), call(body={"b": 2, "a": 1})),
        (
            call(body={"$form": {"a": "1", "b": ["2", "3"]}}),
            call(body={"$form": {"b": ["3", "2"], "a": ["1"]}}),
        ),
    ],
)
def test_equal_calls(one: RecordedRequest, other: RecordedRequest) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (call(), call(method="POST")),
        (call(), call("https://api.test/users/")),
        (call(), call("https://api.test:8443/users")),
        (call(), call("https://other.test/users")),
        (call("https://api.test/a%2Fb"), call("https://api.test/a/b")),
        (call(f"{U}?a=1"), call(U)),
        (call(f"{U}?a=1&a=1"), call(f"{U}?a=1")),
        (call(body={"a": 1}), call()),
        (call(body=None), call()),
        (call(body={"a": True}), call(body={"a": 1})),
        (call(body={"a": "1"}), call(body={"a": 1})),
        (call(body=[1, 2]), call(body=[2, 1])),
        (call(body={"a": None}), call(body={})),
        (call(body="1"), call(body=1)),
        (call(range="bytes=0-9"), call(range="bytes=10-19")),
        (call(x_ms_range="bytes=0-9"), call()),
        (call(x_amz_target="T.DescribeTable"), call(x_amz_target="T.DeleteTable")),
        (call(body="{not json"), call(body="{not  json")),
        (
            call(body={"$multipart": [{"name": "a", "data": "1"}]}),
            call(body={"$multipart": [{"name": "a", "data": "2"}]}),
        ),
    ],
)
def test_different_calls(one: RecordedRequest, other: RecordedRequest) -> None:
    assert not same(one, other)


@pytest.mark.parametrize(
    ("match", "one", "other", "equal"),
    [
        (("method", "path"), call("https://a.test/x?q=1", body=1), call("http://b.test/x"), True),
        (("scheme",), call("https://a.test"), call("http://a.test"), False),
        (("headers:accept",), call(accept="a/b"), call(accept="c/d"), False),
        (("headers:Accept",), call(ACCEPT="a/b"), call(accept="a/b"), True),
        (("headers:accept",), call(accept="a/b"), call(), False),
        (("headers:x-*",), call(x_a="1", other="1"), call(x_a="1", other="2"), True),
        (("headers:x-*",), call(x_a="1"), call(x_a="1", x_b="2"), False),
        (("body",), call("https://a.test/1", body={}), call("https://b.test/2", body={}), True),
    ],
)
def test_match_says_what_is_compared(
    match: tuple[str, ...], one: RecordedRequest, other: RecordedRequest, equal: bool
) -> None:
    assert same(one, other, *match) is equal


BODY = {"id": 1, "meta": {"id": 2, "at": "now"}, "items": [{"id": 3, "n": 1}, {"id": 4, "n": 2}]}


def changed(**changes: Any) -> dict[str, Any]:
    return {**BODY, **changes}


@pytest.mark.parametrize(
    ("ignore", "one", "other"),
    [
        (["query:ts"], call(f"{U}?ts=1&a=1"), call(f"{U}?a=1&ts=2")),
        (["utm_*"], call(f"{U}?utm_x=1"), call(U)),
        (["body:id"], call(body=BODY), call(body=changed(id=9))),
        (["id"], call(f"{U}?id=1", body=BODY), call(f"{U}?id=2", body=changed(id=9))),
        (["body:meta.at"], call(body=BODY), call(body=changed(meta={"id": 2}))),
        (["body:meta.*"], call(body=BODY), call(body=changed(meta={}))),
        (
            ["body:items.*.id"],
            call(body=BODY),
            call(body=changed(items=[{"id": 7, "n": 1}, {"n": 2}])),
        ),
        (["body:items.1"], call(body=BODY), call(body=changed(items=[{"id": 3, "n": 1}]))),
        (
            ["nonce"],
            call(body={"$form": {"a": "1", "nonce": "x"}}),
            call(body={"$form": {"a": "1"}}),
        ),
        (
            ["nonce"],
            call(body={"$multipart": [{"name": "nonce", "data": "x"}]}),
            call(body={"$multipart": []}),
        ),
        (["body:id"], call(body='{"id": 1}'), call(body="{}")),
    ],
)
def test_ignored_fields_do_not_count(
    ignore: list[str], one: RecordedRequest, other: RecordedRequest
) -> None:
    assert not same(one, other)
    assert same(one, other, ignore=ignore)


def test_an_ignored_header_does_not_count() -> None:
    match = ("headers:x-*",)
    one, other = call(x_id="1", x_a="1"), call(x_id="2", x_a="1")
    assert not same(one, other, *match)
    assert same(one, other, *match, ignore=["headers:X-Id"])


@pytest.mark.parametrize(
    ("ignore", "one", "other"),
    [
        (["id"], call(body=BODY), call(body=changed(meta={"id": 9, "at": "now"}))),
        (["query:id"], call(body=BODY), call(body=changed(id=9))),
        (["body:items.*.id"], call(body=BODY), call(body=changed(items=[]))),
    ],
)
def test_only_what_is_named_is_ignored(
    ignore: list[str], one: RecordedRequest, other: RecordedRequest
) -> None:
    assert not same(one, other, ignore=ignore)


@pytest.mark.parametrize(
    "options",
    [{"match": ["methd"]}, {"match": [""]}, {"ignore": ["cookie:a"]}, {"ignore": ["body:"]}],
)
def test_a_setting_that_means_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Matching(**options)


@pytest.mark.parametrize("place", ["query", "headers", "header", "body"])
def test_a_dot_in_place_of_the_colon_is_told(place: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{place}:a.b, or body:{place}.a.b"):
        Matching(ignore=[f"{place}.a.b"])
    one, other = call(body={place: {"a": 1}}), call(body={place: {"a": 2}})
    assert same(one, other, ignore=[f"body:{place}.a"])


def test_matching_does_not_change_the_request() -> None:
    body = msgspec.json.decode(msgspec.json.encode(BODY))
    Matching(ignore=["id", "items.*.id"]).key(call(body=body))
    assert body == BODY


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)  # fmt: skip


def structural(value: Any) -> Any:
    """A hashable value, equal exactly for equal JSON; 1 is 1.0, and true is neither."""
    if isinstance(value, dict):
        return "object", frozenset((name, structural(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return "array", tuple(map(structural, value))
    return ("boolean", value) if isinstance(value, bool) else value


@settings(deadline=None)
@given(json_values, json_values)
def test_bodies_are_equal_exactly_when_their_json_is(one: Any, other: Any) -> None:
    bodies = {"in": one}, {"in": other}
    equal = structural(bodies[0]) == structural(bodies[1])
    assert same(call(body=bodies[0]), call(body=bodies[1])) is equal
