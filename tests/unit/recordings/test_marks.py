"""What is read of a test's marker without importing the test."""

from __future__ import annotations

import textwrap

import pytest

from mock_mcp.recordings.marks import TestSource as Source

MODULE = """
    import pytest
    from pytest import mark

    pytestmark = [mark.mock_mcp(contract="warn", instructions="all"), mark.mock_mcp(contract="off")]

    def test_plain(): ...

    @pytest.mark.mock_mcp(contract="off")
    @mark.mock_mcp(contract="enforce", openapi=["a.json", {"path": "b.json"}])
    async def test_marked(): ...

    if True:
        class TestOuter:
            pytestmark = mark.mock_mcp(contract="off")

            class TestInner:
                @mark.mock_mcp(openapi=PATH)
                def test_deep(self): ...
"""
source = Source(textwrap.dedent(MODULE).encode())


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], {"contract": "warn"}),
        (["test_plain"], {"contract": "warn"}),
        (["test_marked[1-a]"], {"contract": "enforce", "openapi": ["a.json", {"path": "b.json"}]}),
        (["TestOuter", "TestInner", "test_deep"], {"contract": "off"}),
        (["test_gone"], {"contract": "warn"}),
    ],
)
def test_the_closest_literal_counts(names, found):
    assert source.marker(names) == {"instructions": "all", **found}


def test_a_test_is_found_by_its_names():
    assert source.has(["test_marked[1-a]"])
    assert source.has(["TestOuter", "TestInner", "test_deep"])
    assert not source.has(["TestOuter", "test_deep"])


@pytest.mark.parametrize("text", [b"def (", b"\x00", b"\xff", b""])
def test_what_is_not_python_says_nothing(text):
    assert Source(text).marker(["test_a"]) == {}
    assert not Source(text).has(["test_a"])


def test_the_use_of_intercept_is_seen():
    assert Source(b"with mock_mcp.intercept('a'): pass").uses_intercept()
    assert not source.uses_intercept()
