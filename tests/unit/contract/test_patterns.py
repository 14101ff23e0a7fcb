"""The pattern subset: it agrees with a real engine, generates what matches, and cannot hang."""

import re
from random import Random

import pytest

from mock_mcp.contract._patterns import MAX_REPEAT, UnsupportedPattern, compile_pattern

PATTERNS = [
    r"^[0-9a-fA-F]+$",
    r"^refs/",
    r"^tunnel_[a-z0-9]{32}$",
    r"^\d{4}-\d{2}-\d{2}$",
    r"^(foo|bar){1,3}(?:x|y)?$",
    r"^[^\s@]+@[^\s@]+\.[a-z]{2,}$",
    r"^\+?[1-9]\d{1,14}$",
    r"^(?<year>\d{4})\/[\w.-]*$",
    r"a{2,3}b{",
    r"\bword\b",
    r"^[A-Z]{2}\-[^-]{0,3}$",
    r"^a*?b+?$",
    r"\x41\u0042",
    r"^$",
    r"",
]
TEXTS = ["", "a", "aab{", "refs/heads", "foo", "foobarx", "ff", "2024-01-02", "a@b.co", "+123"]
TEXTS += ["a word!", "sword", "DE-ab", "aaab", "xAB", "2024/a-b", "ÿ", "b", "12.5"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", TEXTS)
def test_matching_agrees_with_a_real_engine(pattern: str, text: str) -> None:
    real = re.compile(pattern.replace("(?<", "(?P<"), re.ASCII)
    assert compile_pattern(pattern).matches(text) == bool(real.search(text))


@pytest.mark.parametrize("broad", [False, True])
@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if r"\b" not in pattern])
def test_generated_text_matches(pattern: str, broad: bool) -> None:
    random = Random(1)
    real = re.compile(pattern.replace("(?<", "(?P<"), re.ASCII)
    for extra in (0, 1, 8):
        text = compile_pattern(pattern).generate(
            lambda limit: int(random.random() * limit), extra=extra, broad=broad
        )
        assert real.search(text), text


def test_lookahead_decides_a_match() -> None:
    pattern = compile_pattern(r"^(?=.*[A-Z])(?!.*x).{3,}$")
    assert pattern.matches("abC") is True
    assert pattern.matches("abc") is False
    assert pattern.matches("axC") is False


REFUSED = [r"(a)\1", r"\p{L}+", r"(?i)a", r"(?<=a)b", "(", ")", "[a", "*a", "a\\", r"\x4"]
REFUSED += ["(" * 50, f"a{{{MAX_REPEAT + 1}}}", "a" * 3000]


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_it_lacks_is_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedPattern):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^(a|aa)*(a*)*b$", r"^(((a?){999}){999}){999}b$"])
def test_evil_patterns_end_without_saying_yes(pattern: str) -> None:
    """Backtracking would take longer than the universe has; here False or "cannot say" comes."""
    assert not compile_pattern(pattern).matches("a" * 900 + "!")


def test_a_pattern_that_asks_for_too_much_text_is_refused() -> None:
    with pytest.raises(UnsupportedPattern, match="too long"):
        compile_pattern("((a{900}){900}){900}").generate(lambda limit: 0, extra=0)
