"""JSON in and out: what is refused, what is passed on unchanged."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.errors import InvalidMessage, LimitExceeded, ParseError
from mock_mcp.wire.json import check_depth, convert, decode, encode


class Thing(msgspec.Struct):
    name: str
    size: float = 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{} x",
        b"NaN",
        b"Infinity",
        b"01",
        b"'a'",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'{"\\ud800":1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b'"\x00"',
    ],
)
def test_not_json(text: bytes) -> None:
    with pytest.raises(ParseError):
        decode(text, 100)


@pytest.mark.parametrize("text", [b"1e999", b"-1e999", b"9" * 5000, b"-" + b"9" * 5000])
def test_numbers_nobody_can_represent(text: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(b'{"a":[' + text + b"]}", 100)


@pytest.mark.parametrize(
    "text", [b"9" * 4000, b"-0", b"1e300", b"1E-300", b"123456789012345678901"]
)
def test_numbers_that_are(text: bytes) -> None:
    assert decode(text, 100) == json.loads(text)
    assert json.loads(encode(decode(text, 100))) == json.loads(text)


@pytest.mark.parametrize("depth", [1, 5, 200])
@pytest.mark.parametrize(("start", "end"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_depth_is_counted_exactly(depth: int, start: bytes, end: bytes) -> None:
    levels = start.count(b"[") + start.count(b"{")
    if depth % levels:
        return
    count = depth // levels
    decode(start * count + b"1" + end * count, depth)
    with pytest.raises(LimitExceeded):
        decode(start * count + b"[1]" + end * count, depth)


@pytest.mark.parametrize("depth", [1000, 100_000])
def test_nesting_beyond_any_stack(depth: int) -> None:
    with pytest.raises(LimitExceeded):
        decode(b"[" * depth + b"]" * depth, 200)


@pytest.mark.parametrize(
    "text",
    [
        b'["[[[[[["]',
        b'["\\"[[[[[["]',
        b'["\\\\", "[[[[[["]',
        b'{"[[[[[[": 1}',
        '["é[[[[水"]'.encode(),
        b"[" + b"[]," * 100 + b"[]]",
    ],
)
def test_brackets_in_text_and_siblings_do_not_nest(text: bytes) -> None:
    assert decode(text, 2) == json.loads(text)


def nesting(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}"\\aé😀'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\'), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES, st.integers(0, 6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_depth_of_any_value(value: Any, depth: int, escape: bool) -> None:
    text = json.dumps(value, ensure_ascii=escape).encode()
    if nesting(value) > depth:
        with pytest.raises(LimitExceeded):
            check_depth(text, depth)
    else:
        assert decode(text, depth) == value


@pytest.mark.parametrize("levels", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("beside", [1, 300])
def test_depth_of_towers(levels: int, beside: int) -> None:
    tower = "[" * levels + '"[{"' + "]" * levels
    text = f"[{','.join([tower, '[]'] * beside)}]".encode()
    check_depth(text, levels + 1)
    with pytest.raises(LimitExceeded):
        check_depth(text, levels)


def test_convert_names_the_field() -> None:
    with pytest.raises(InvalidMessage, match=r"\$\.size"):
        convert({"name": "a", "size": "big"}, Thing)
    with pytest.raises(InvalidMessage):
        convert({"name": None}, Thing)
    with pytest.raises(InvalidMessage):
        convert({"name": "a", "size": 10**400}, Thing)
    assert convert({"name": "a", "size": 1, "unknown": 2}, Thing) == Thing("a", 1)
