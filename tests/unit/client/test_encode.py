"""The JSON of a request: what goes as it is, what is left out, and how that is said."""

from __future__ import annotations

import enum
import json
import types
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest

from mock_mcp.client.encode import encode_request
from mock_mcp.errors import DroppedValueWarning, LimitExceeded
from mock_mcp.limits import Limits
from mock_mcp.wire.channel import BatchMockRequest, decode_from_client, encode_message

LIMITS = Limits()


def encode(limits: Limits = LIMITS, **fields: Any) -> dict[str, Any]:
    """Return the request that the daemon would read; nothing may be left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return json.loads(bytes(encode_request(fields, limits, stacklevel=1)[1]))


def encode_with_loss(**fields: Any) -> tuple[dict[str, Any], str]:
    """Return the request and the message of its one warning."""
    with pytest.warns(DroppedValueWarning) as caught:
        text = bytes(encode_request(fields, LIMITS, stacklevel=1)[1])
    assert len(caught) == 1
    message = str(caught[0].message)
    message.encode()  # it can be printed
    return json.loads(text), message


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Level(str, enum.Enum):  # noqa: UP042 - unlike StrEnum's, its str() is its name
    HIGH = "high"


class Thing:
    pass


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63,
        10**60,
        1.5,
        -0.0,
        5e-324,
        True,
        "",
        "ünïcödé 😀 \u2028 \x00",
        [],
        {},
        [[1], {"a": [None]}],
        {"a": None, "": 1},
        "x" * 100_000,
    ],
)
def test_json_goes_as_it_is(value):
    assert encode(body=value) == {"body": value}


def test_text_is_not_escaped():
    _, text = encode_request({"body": "é" * 1000}, LIMITS, stacklevel=1)
    assert len(bytes(text)) < 2100


def test_a_field_that_is_none_is_omitted_and_a_null_inside_stays():
    assert encode(endpoint="/", body=None, metadata={"a": None}) == {
        "endpoint": "/",
        "metadata": {"a": None},
    }


def test_what_python_treats_as_json_is_json():
    value = {"p": Point(1, 2), "t": (1, 2), "o": OrderedDict(a=1), "i": Size.BIG}
    assert encode(body=value) == {"body": {"p": [1, 2], "t": [1, 2], "o": {"a": 1}, "i": 3}}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"\xff", None),
        (Thing(), None),
        ({1, 2}, None),
        (float("nan"), None),
        (float("inf"), None),
        ("\ud800", None),
        (Colour.RED, None),
        (10**5000, None),
    ],
    ids=["bytes", "instance", "set", "nan", "inf", "surrogate", "enum", "huge"],
)
def test_a_value_that_is_not_json_is_left_out_and_named(value, kept):
    request, message = encode_with_loss(
        endpoint="/", metadata={"good": [1, {"here": value, "ok": True}]}
    )
    assert request == {"endpoint": "/", "metadata": {"good": [1, {"ok": True}]}}
    assert "metadata.good[1].here" in message


def test_what_python_treats_as_json_stays_so_beside_what_is_left_out():
    request, _ = encode_with_loss(body={"level": Level.HIGH, "size": Size.BIG, "file": b"x"})
    assert request == {"body": encode(level=Level.HIGH, size=Size.BIG)}


def test_one_warning_names_every_path():
    request, message = encode_with_loss(
        body={"file": b"x", "keep": 1}, headers={"a": Thing()}, metadata={"list": [1, b"y", 2]}
    )
    assert request == {"body": {"keep": 1}, "headers": {}, "metadata": {"list": [1, 2]}}
    for path in ("body.file", "headers.a", "metadata.list[1]"):
        assert path in message


def test_a_warning_about_a_thousand_values_is_short():
    _, message = encode_with_loss(body=[b"x"] * 1000)
    assert "990 more" in message
    assert len(message) < 1000


def test_a_whole_body_that_is_not_json_is_left_out():
    request, message = encode_with_loss(endpoint="/", body=b"raw")
    assert request == {"endpoint": "/"}
    assert "body" in message
    assert "bytes" in message


def test_a_key_that_is_not_text_is_left_out():
    request, message = encode_with_loss(body={(1, 2): "a", "b": 1})
    assert request == {"body": {"b": 1}}
    assert "(1, 2)" in message


@pytest.mark.parametrize("field", ["body", "headers", "metadata"])
def test_any_mapping_is_an_object(field):
    value = types.MappingProxyType({"a": types.MappingProxyType({"b": 1})})
    assert encode(**{field: value}) == {field: {"a": {"b": 1}}}


def test_a_lone_surrogate_in_a_key_is_left_out():
    request, _ = encode_with_loss(body={"bad\ud800": 1, "good": 2})
    assert request == {"body": {"good": 2}}


def test_keys_are_the_same_whether_or_not_something_is_left_out():
    value = {None: 1, True: 2, 3: 4, 1.5: 6}
    request, _ = encode_with_loss(body={**value, "drop": b"x"})
    assert request == encode(body=value)


def test_a_cycle_is_left_out():
    value: dict[str, Any] = {"name": "a"}
    value["self"] = value
    request, message = encode_with_loss(body=value)
    assert request["body"]["name"] == "a"
    assert "body.self" in message


def test_a_cycle_is_left_out_where_it_closes():
    value: dict[str, Any] = {"name": "a"}
    value["self"] = value
    request, _ = encode_with_loss(body=value)
    assert request == {"body": {"name": "a"}}


class Counted(dict):
    """An object that notes how often it is looked into."""

    looks = 0

    def items(self):
        self.looks += 1
        assert self.looks < 1000, "the work grows with the number of paths"
        return super().items()


def test_a_cycle_with_branches_ends():
    value = Counted()
    value["left"] = value["right"] = value
    encode_with_loss(body=value)


def test_a_value_used_twice_is_no_cycle():
    shared = [1]
    request, _ = encode_with_loss(body={"a": shared, "b": shared, "drop": b""})
    assert request == {"body": {"a": [1], "b": [1]}}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [190, 196, 197, 198, 199, 250, 100_000])
def test_whatever_is_sent_is_not_too_deep_for_the_daemon(levels):
    request = {
        "requestId": "r",
        "endpoint": "/",
        "method": "GET",
        "metadata": {"x": nested(levels)},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedValueWarning)
        try:
            _, text = encode_request(request, LIMITS, stacklevel=1)
        except LimitExceeded:
            return
    decode_from_client(encode_message(BatchMockRequest("run", [text], "batch:run:1")), LIMITS)


def test_too_large_a_request_is_refused_by_name_and_size():
    with pytest.raises(LimitExceeded, match=r"frame_bytes") as caught:
        encode(Limits(frame_bytes=1000), body="x" * 501)
    assert "1000" in caught.value.message


def test_the_warning_points_at_the_caller():
    def caller() -> int:
        with pytest.warns(DroppedValueWarning) as caught:
            encode_request({"body": b""}, LIMITS, stacklevel=1)
        assert caught[0].filename == __file__
        return caught[0].lineno

    code = caller.__code__
    assert caller() == code.co_firstlineno + 2
