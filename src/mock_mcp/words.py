"""Numbers with the word for what they count, as every message says them."""

from __future__ import annotations

__all__ = ["counted", "plural"]


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts: ``1 call``, ``2 batches``."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of one of this project's nouns."""
    return f"{noun}es" if noun.endswith("ch") else f"{noun}s"
