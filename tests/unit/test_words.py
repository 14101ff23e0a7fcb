from __future__ import annotations

import pytest

from mock_mcp.words import counted, plain


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (0, "call", "0 calls"),
        (1, "call", "1 call"),
        (2, "call", "2 calls"),
        (1, "batch", "1 batch"),
        (2, "batch", "2 batches"),
    ],
)
def test_what_is_counted_agrees_with_its_number(count: int, noun: str, said: str) -> None:
    assert counted(count, noun) == said


def test_names_of_one_thing_are_one_name() -> None:
    names = ("user_id", "userId", "User-ID", "user id", "userid")
    assert {plain(name) for name in names} == {"userid"}
    assert plain("users_id") != plain("user_id")
