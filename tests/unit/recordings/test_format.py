"""The bytes of a recording, and what is said about bytes that are none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.errors import RecordingError
from mock_mcp.recordings.format import (
    RecordedFailure,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
    decode_recording,
    encode_interaction,
    encode_recording,
    is_sidecar,
    pack,
    recording_schema,
    sidecars_of,
    unpack,
)

SCHEMA = jsonschema_rs.validator_for(recording_schema(), offline=True)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
bodies = (
    st.just(msgspec.UNSET)
    | json_values
    | st.binary().map(lambda data: {"$base64": base64.b64encode(data).decode()})
    | st.fixed_dictionaries({"$base64": texts})
    | st.fixed_dictionaries({"$file": json_values})
    | st.just("x" * 300)
)
headers = st.dictionaries(st.text("abc-", min_size=1), texts | st.lists(texts))
requests = st.builds(
    RecordedRequest, st.sampled_from(["GET", "POST"]), texts, headers=headers, body=bodies
)
delays = st.none() | st.floats(0, 600_000) | st.integers(0, 600_000)
responses = st.builds(
    RecordedResponse, st.integers(100, 599), headers=headers, body=bodies, delay_ms=delays
)
failures = st.builds(
    RecordedFailure, st.sampled_from(["refused", "read_timeout"]), st.none() | texts
)
interactions = st.builds(
    RecordedInteraction,
    requests,
    st.sampled_from(["ai", "example", "live", "hand"]),
    responses,
    contract=st.none() | texts,
    operation=st.none() | texts,
) | st.builds(RecordedInteraction, requests, st.just("hand"), error=failures)


def written(items: list[RecordedInteraction], limit: int | None) -> tuple[bytes, dict[str, bytes]]:
    sidecars: dict[str, bytes] = {}
    encoded = []
    for item in items:
        packed, files = pack(item, "test_a", limit)
        encoded.append(encode_interaction(packed))
        sidecars |= files
    return encode_recording("test_a.py::test_a", encoded), sidecars


@settings(deadline=None)
@given(st.lists(interactions, max_size=3), st.sampled_from([None, 0, 200]))
def test_what_is_written_is_read_and_written_again_byte_for_byte(
    items: list[RecordedInteraction], limit: int | None
) -> None:
    text, sidecars = written(items, limit)
    recording = decode_recording(text, "f.json")
    assert recording.test == "test_a.py::test_a"
    read = [unpack(item, "f.json", sidecars.__getitem__) for item in recording.interactions]
    assert read == items
    assert written(read, limit) == (text, sidecars)
    assert encode_recording(recording.test, [*map(encode_interaction, recording.interactions)]) == (
        text
    )
    SCHEMA.validate(json.loads(text))
    assert text.endswith(b"\n")
    assert all(is_sidecar(name, "test_a") for name in sidecars)


def test_the_file_reads_well() -> None:
    request = RecordedRequest(
        "POST", "https://api.test/ü", {"x-b": "2", "content-type": "text/plain"}, {"z": 1, "a": []}
    )
    response = RecordedResponse(201, {"set-cookie": ["a=1", "b=2"]}, None, delay_ms=20.0)
    item = RecordedInteraction(request, "ai", response, contract="c0ffee", operation="createUser")
    assert written([item], None)[0].decode() == (
        """{
  "version": 1,
  "test": "test_a.py::test_a",
  "interactions": [
    {
      "request": {
        "method": "POST",
        "url": "https://api.test/ü",
        "headers": {
          "content-type": "text/plain",
          "x-b": "2"
        },
        "body": {
          "z": 1,
          "a": []
        }
      },
      "response": {
        "status": 201,
        "headers": {
          "set-cookie": [
            "a=1",
            "b=2"
          ]
        },
        "body": null,
        "delayMs": 20
      },
      "source": "ai",
      "contract": "c0ffee",
      "operation": "createUser"
    }
  ]
}
"""
    )


def test_no_body_is_not_a_null_body() -> None:
    without = RecordedInteraction(RecordedRequest("GET", "/"), "ai", RecordedResponse(204))
    with_null = RecordedInteraction(
        RecordedRequest("GET", "/"), "ai", RecordedResponse(200, {}, None)
    )
    text, _ = written([without, with_null], None)
    first, second = decode_recording(text, "f").interactions
    assert first.response is not None
    assert second.response is not None
    assert first.response.body is msgspec.UNSET
    assert second.response.body is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("small", None),
        ({"a": "x" * 100}, "json"),
        ("x" * 101, "json"),
        ({"$base64": "AAEC"}, "bin"),
        ({"$base64": "not base64"}, None),
        ({"$base64": "AAEC", "more": 1}, None),
        ({"$file": "test_a.0123456789abcdef.json"}, "json"),
    ],
)
def test_which_bodies_leave_the_file(body: Any, kind: str | None) -> None:
    item = RecordedInteraction(RecordedRequest("GET", "/"), "ai", RecordedResponse(200, {}, body))
    packed, sidecars = pack(item, "test_a", 100)
    assert [name.rpartition(".")[2] for name in sidecars] == ([kind] if kind else [])
    assert sidecars_of(packed) == set(sidecars)
    assert unpack(packed, "f", sidecars.__getitem__) == item


GOOD = encode_recording(
    "t",
    [
        encode_interaction(
            RecordedInteraction(RecordedRequest("GET", "/"), "ai", RecordedResponse(200))
        )
    ],
)


def without_last_brace(text: bytes) -> bytes:
    return text.rstrip()[:-1]


def edited(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def edit(text: bytes) -> bytes:
        assert old in text
        return text.replace(old, new)

    return edit


@pytest.mark.parametrize(
    ("break_it", "line", "path", "says"),
    [
        (without_last_brace, 16, None, "Not JSON"),
        (edited(b'"GET",', b'"GET"'), 8, None, "Not JSON"),
        (edited(b'"t",', b'"\xff",'), None, None, "Not JSON"),
        (lambda _: b"", 1, None, "Not JSON"),
        (
            edited(b'      "source"', b"<<<<<<< HEAD\n=======\n>>>>>>> x\n"),
            13,
            None,
            "conflict markers",
        ),
        (edited(b"200", b'"200"'), None, "$.interactions[0].response.status", "Expected `int`"),
        (edited(b"200", b"99"), None, "$.interactions[0].response.status", "Expected `int` >= 100"),
        (edited(b'"ai"', b'"me"'), None, "$.interactions[0].source", "Invalid enum value 'me'"),
        (
            edited(b'"response"', b'"respones"'),
            None,
            "$.interactions[0]",
            "unknown field `respones`",
        ),
        (
            edited(b'"response"', b'"error"'),
            None,
            "$.interactions[0].error",
            "unknown field `status`",
        ),
        (
            edited(b'"source"', b'"error":{"kind":"refused"},"source"'),
            None,
            "$.interactions[0]",
            "Exactly one of",
        ),
        (lambda _: b"[]", None, "$", "Expected `object`"),
        (edited(b'"version": 1', b'"version": 2'), None, "$.version", "Upgrade mock-mcp"),
        (edited(b'"version": 1', b'"version": 2, "new": 1'), None, "$.version", "Upgrade mock-mcp"),
        (edited(b'"version": 1', b'"version": 0'), None, None, "no version 0"),
        (
            edited(b"200", b'200, "body": ' + b"[" * 100_000 + b"]" * 100_000),
            None,
            None,
            "nests too deep",
        ),
    ],
)
def test_a_broken_file_is_named_with_the_place_and_the_repair(
    break_it: Callable[[bytes], bytes], line: int | None, path: str | None, says: str
) -> None:
    with pytest.raises(RecordingError) as caught:
        decode_recording(break_it(GOOD), "tests/__mocks__/t.json")
    error = caught.value
    assert str(error).startswith("tests/__mocks__/t.json")
    assert says in str(error)
    assert error.path == path
    if line is not None:
        assert error.line == line
        assert f"t.json:{line}:" in str(error)
    assert "--mock-mode=" in str(error)
    assert isinstance(error, MockMcpError)
    assert error.code == "recording"


def test_an_editor_may_leave_a_byte_order_mark_and_crlf() -> None:
    assert decode_recording(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"), "f").test == "t"


@pytest.mark.parametrize(
    "body", [float("nan"), b"bytes", {"a": {1, 2}}, "\ud800", {"\ud800": 1}, float("inf")]
)
def test_what_is_not_json_is_refused(body: Any) -> None:
    item = RecordedInteraction(RecordedRequest("GET", "/"), "ai", RecordedResponse(200, {}, body))
    with pytest.raises((TypeError, ValueError)):
        encode_interaction(item)


@pytest.mark.parametrize(
    "name",
    ["../secret.0123456789abcdef.bin", "a/b.0123456789abcdef.bin", "/etc/passwd", "notes.json", ""],
)
def test_a_body_is_read_from_sidecars_only(name: str) -> None:
    packed = RecordedInteraction(
        RecordedRequest("GET", "/", {}, {"$file": name}), "ai", RecordedResponse(200)
    )

    def read(_: str) -> bytes:
        raise AssertionError

    with pytest.raises(RecordingError, match="not the name of a sidecar"):
        unpack(packed, "f", read)


def test_a_changed_binary_body_is_noticed() -> None:
    item = RecordedInteraction(
        RecordedRequest("GET", "/"), "ai", RecordedResponse(200, {}, {"$base64": "DQo="})
    )
    packed, _ = pack(item, "test_a")
    with pytest.raises(RecordingError, match="converted at checkout"):
        unpack(packed, "f", lambda _: b"\n")


@pytest.mark.parametrize(
    "document",
    [
        {"version": 2, "test": "t", "interactions": []},
        {"version": 1, "test": "t"},
        {"version": 1, "test": "t", "interactions": [{"request": {}, "source": "ai"}]},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(document: Any) -> None:
    assert not SCHEMA.is_valid(document)
    with pytest.raises(RecordingError):
        decode_recording(json.dumps(document).encode(), "f")
