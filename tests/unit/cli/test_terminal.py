from __future__ import annotations

import pytest

from mock_mcp.cli.terminal import clip, printable, printable_lines, width


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("水水水", 6, "水水水"),
        ("水水水", 5, "水水…"),
        ("水水水", 4, "水…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("longer", 1, "…"),
        ("longer", 0, ""),
    ],
)
def test_text_is_clipped_to_columns(text, columns, shown):
    assert clip(text, columns) == shown
    assert width(shown) <= columns


def test_nothing_printable_is_changed():
    assert printable("a\tb ü 水") == "a\tb ü 水"
    assert printable("a\x1b[1m\x9b\u202e\x00\n") == "a\\x1b[1m\\x9b\\u202e\\x00\\n"


def test_lines_stay_lines_and_nothing_else_steers():
    assert printable_lines("one\x1b[2J\n  two\r\nthree") == "one\\x1b[2J\n  two\\r\nthree"
