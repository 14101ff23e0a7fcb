from __future__ import annotations

import pytest

from mock_mcp.words import counted, cut, plain, some


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


@pytest.mark.parametrize(
    ("texts", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")],
)
def test_of_many_the_first_are_named_and_the_others_counted(texts: list[str], said: str) -> None:
    assert some(texts, 2) == said


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("four", "four"), ("fiver", "fiv…")])
def test_a_text_is_cut_to_a_length_that_its_ellipsis_is_part_of(text: str, shown: str) -> None:
    assert cut(text, 4) == shown
