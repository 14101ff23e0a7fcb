from __future__ import annotations

import sys

import pytest

from mock_mcp.recordings.bodies import Budget, Unusable

brotli = pytest.importorskip("brotli")


def test_brotli_is_unpacked():
    content = bytes(range(256)) * 50
    assert Budget().unpack(brotli.compress(content), "br") == content


def test_a_small_body_that_unpacks_to_much_is_refused():
    with pytest.raises(Unusable, match="more than 1000 bytes"):
        Budget(1000).unpack(brotli.compress(bytes(10_000_000)), "br")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: b"\xff" + data])
def test_damaged_brotli_is_refused(damage):
    with pytest.raises(Unusable, match="damaged"):
        Budget().unpack(damage(brotli.compress(b"some text " * 50)), "br")


def test_without_a_module_for_brotli_it_is_named(monkeypatch):
    for name in ("brotli", "brotlicffi"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unusable, match="compressed as 'br'"):
        Budget().unpack(b"\0", "br")
