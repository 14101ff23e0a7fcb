"""Numbers with their nouns and texts cut short, as messages say them; names as compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

__all__ = ["and_more", "counted", "cut", "plain", "plural", "some"]


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts: ``1 call``, ``2 batches``."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of one of this project's nouns."""
    return f"{noun}es" if noun.endswith("ch") else f"{noun}s"


def some(texts: Sequence[str], shown: int = 5) -> str:
    """Return the first of some texts, and how many more there are."""
    return and_more(", ".join(texts[:shown]), len(texts) - shown)


def and_more(named: str, others: int) -> str:
    """Return what is named, and how many others are not."""
    return f"{named} and {others} more" if others > 0 else named


def cut(text: str, chars: int) -> str:
    """Return a text, or so much of it that with an ellipsis it has ``chars`` characters."""
    return text if len(text) <= chars else f"{text[: chars - 1]}…"


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Return a name as it is compared: ``user_id``, ``userId`` and ``User-Id`` are one."""
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()
