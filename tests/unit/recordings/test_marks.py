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


TESTS = Source(
    textwrap.dedent("""
        import unittest
        from shared import Mixin, test_shared

        def test_here(): ...
        test_made = make()
        for test_looped in (): ...

        try:
            import fast
        except ImportError:
            def test_slow(): ...
        else:
            def test_fast(): ...

        @parameterized.expand([1, 2])
        def test_many(n): ...

        class Base(unittest.TestCase):
            def test_based(self): ...

        class TestPlain(Base):
            class TestInner:
                def test_deep(self): ...

        class TestMixed(Mixin):
            pass

        class TestMeta(metaclass=Maker):
            pass
    """).encode()
)


@pytest.mark.parametrize(
    "names",
    [
        ["test_here[a-b]"],
        *(["test_shared"], ["test_made"], ["test_looped"], ["test_slow"], ["test_fast"]),
        ["test_many_0_one"],
        *(["TestPlain"], ["TestPlain", "test_based"], ["TestPlain", "TestInner", "test_deep"]),
        *(["TestMixed", "test_anything"], ["TestMeta", "test_anything"]),
        ["test_app.function"],
        [],
    ],
    ids="::".join,
)
def test_a_test_that_may_be_there_is_not_lacking(names):
    assert not TESTS.lacks(names)


@pytest.mark.parametrize(
    "names",
    [
        *(["test_gone"], ["test_gone[1]"], ["TestGone", "test_here"], ["test_here_too"]),
        *(["TestPlain", "test_gone"], ["TestPlain", "TestInner", "test_based"]),
        ["test_here", "test_deep"],
    ],
    ids="::".join,
)
def test_a_test_that_cannot_be_there_is_lacking(names):
    assert TESTS.lacks(names)


@pytest.mark.parametrize(
    "text",
    [
        b"from shared import *",
        b"globals()['test_gone'] = make()",
        b"scenarios('pay.feature')",
        b"<<<<<<< ours",
        b"\x00",
    ],
)
def test_a_file_that_may_define_anything_lacks_nothing(text):
    assert not Source(text).lacks(["test_gone"])


def test_the_use_of_intercept_is_seen():
    assert Source(b"with mock_mcp.intercept('a'): pass").uses_intercept()
    assert not source.uses_intercept()
