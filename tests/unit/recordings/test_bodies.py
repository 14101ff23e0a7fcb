from __future__ import annotations

import gzip
import sys
from typing import Any

import pytest

from mock_mcp.recordings.bodies import (
    Budget,
    Unusable,
    header_map,
    recorded_response,
    wire_response,
)
from mock_mcp.recordings.format import RecordedRequest


@pytest.fixture
def brotli() -> Any:
    return pytest.importorskip("brotli")


def test_brotli_is_unpacked(brotli):
    content = bytes(range(256)) * 50
    assert Budget().unpack(brotli.compress(content), "br") == content


def test_a_small_body_that_unpacks_to_much_is_refused(brotli):
    with pytest.raises(Unusable, match="more than 1000 bytes"):
        Budget(1000).unpack(brotli.compress(bytes(10_000_000)), "br")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"\xff" + data])
def test_damaged_brotli_is_refused(brotli, damage):
    with pytest.raises(Unusable, match="damaged"):
        Budget().unpack(damage(brotli.compress(b"some text " * 50)), "br")


def test_without_a_module_for_brotli_it_is_named(monkeypatch):
    for name in ("brotli", "brotlicffi"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unusable, match="compressed as 'br'"):
        Budget().unpack(b"\0", "br")


ZSTD = ("compression.zstd", "backports.zstd", "zstandard")


@pytest.fixture(params=ZSTD)
def zstd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each module that unpacks Zstandard, alone."""
    module = pytest.importorskip(request.param)
    for name in ZSTD:
        if name != request.param:
            monkeypatch.setitem(sys.modules, name, None)
    return module


def test_every_frame_of_a_zstandard_body_is_unpacked(zstd):
    content = bytes(range(256)) * 50
    packed = zstd.compress(content)
    assert Budget().unpack(packed, "zstd") == content
    assert Budget().unpack(packed + zstd.compress(b"two"), "zstd") == content + b"two"
    assert Budget().unpack(gzip.compress(packed), "zstd, gzip") == content


def test_a_small_zstandard_body_that_unpacks_to_much_is_refused(zstd):
    bomb = zstd.compress(bytes(600))
    with pytest.raises(Unusable, match="more than 1000 bytes"):
        Budget(1000).unpack(zstd.compress(bytes(10_000_000)), "zstd")
    with pytest.raises(Unusable, match="more than 1000 bytes"):
        Budget(1000).unpack(bomb + bomb, "zstd")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"\xff" + data])
def test_damaged_zstandard_is_refused(zstd, damage):
    with pytest.raises(Unusable, match="damaged"):
        Budget().unpack(damage(zstd.compress(b"some text " * 50)), "zstd")


def test_without_a_module_for_zstandard_it_is_named(monkeypatch):
    for name in ZSTD:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unusable, match="compressed as 'zstd'"):
        Budget().unpack(b"\0", "zstd")


def test_every_member_of_a_gzip_body_is_unpacked():
    content = gzip.compress(b"one ") + gzip.compress(b"two")
    assert Budget().unpack(content, "gzip") == b"one two"
    assert Budget().unpack(content + b"padding", "gzip") == b"one two"
    with pytest.raises(Unusable, match="ends early"):
        Budget().unpack(content[:-1], "gzip")


def test_all_members_of_a_gzip_body_unpack_to_no_more_than_may_be():
    with pytest.raises(Unusable, match="more than 1000 bytes"):
        Budget(1000).unpack(gzip.compress(bytes(600)) * 2, "gzip")
    with pytest.raises(Unusable, match="members"):
        Budget().unpack(gzip.compress(b"") * 1001, "gzip")


def test_headers_break_at_line_breaks_only():
    name = "Ångström".encode().decode("latin-1")  # its second byte is no line break
    assert header_map([("x-name", name), ("Set-Cookie", "a=1\nb=2"), ("x", "")]) == {
        "x-name": name,
        "set-cookie": ["a=1", "b=2"],
        "x": "",
    }


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b'{"a":1}\n{"a": 2}\n', [{"a": 1}, '{"a": 2}']),
        (b'{"a":1}', '{"a":1}'),
        (b"\xff\n", {"$base64": "/wo="}),
    ],
)
def test_a_sequence_is_recorded_so_that_its_very_bytes_replay(content, body):
    request = RecordedRequest("GET", "https://api.test/")
    kind = {"content-type": "application/x-ndjson"}
    answer, change = recorded_response(request, 200, kind, content)
    assert (answer.body, change) == (body, None)
    assert wire_response(request, answer).body == content
    with pytest.raises(Unusable, match="nests deeper"):
        recorded_response(request, 200, kind, b"[" * 300 + b"]" * 300)
