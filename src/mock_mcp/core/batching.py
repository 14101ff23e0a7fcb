"""The client's grouping policy: which waiting requests travel together.

Requests collect until the group is due, then leave as batches of at most ``max_size`` in the order
they came. A group is due ``debounce_s`` after its *first* request, so a steady stream cannot put it
off for ever. Pure: ``now`` is passed in, and the caller owns the timer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Batching"]

T = TypeVar("T")


class Batching(Generic[T]):
    """Collect items into batches.

    Args:
        max_size: Most items in one batch; a full batch is due at once.
    """

    __slots__ = ("_due_at", "_items", "max_size")

    def __init__(self, max_size: int) -> None:
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1, got {max_size}")
        self.max_size = max_size
        self._items: list[T] = []
        self._due_at: float | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    @property
    def due_at(self) -> float | None:
        """When the group is due (the clock of ``now``), or None when nothing waits."""
        return self._due_at

    def add(self, now: float, item: T, debounce_s: float) -> None:
        """Put an item into the group; the group is due no later than ``now + debounce_s``."""
        self._items.append(item)
        due_at = now if len(self._items) >= self.max_size else now + debounce_s
        self._due_at = due_at if self._due_at is None else min(self._due_at, due_at)

    def discard(self, item: T) -> bool:
        """Take an item out again; return whether it was still waiting."""
        if item not in self._items:
            return False
        self._items.remove(item)
        if not self._items:
            self._due_at = None
        return True

    def take(self) -> list[list[T]]:
        """Return everything that waits, as batches, and begin a new group."""
        items, self._items, self._due_at = self._items, [], None
        return [items[i : i + self.max_size] for i in range(0, len(items), self.max_size)]
