"""Numbers with the word for what they count, as every message says them; names as compared."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["counted", "plain", "plural"]


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts: ``1 call``, ``2 batches``."""
    return f"{count} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of one of this project's nouns."""
    return f"{noun}es" if noun.endswith("ch") else f"{noun}s"


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Return a name as it is compared: ``user_id``, ``userId`` and ``User-Id`` are one."""
    return name.replace("_", "").replace("-", "").replace(" ", "").lower()
