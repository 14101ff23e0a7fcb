"""A min-heap whose entries can be moved and removed.

Removal is lazy: an entry that is no longer current is skipped when it reaches the top, and the heap
is rebuilt when more than half of it is stale. Every operation is O(log n) amortised, and memory is
proportional to the live keys whatever the traffic was.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

__all__ = ["PriorityMap"]

_SLACK = 64
"""Stale entries tolerated before a rebuild is worth its cost."""


class PriorityMap:
    """Map keys to priorities and hand out the key with the lowest one."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._live: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: str) -> bool:
        return key in self._live

    def set(self, key: str, priority: float) -> None:
        """Insert the key, or move it to another priority."""
        self._live[key] = priority
        heappush(self._heap, (priority, key))
        self._compact()

    def discard(self, key: str) -> None:
        """Remove the key if it is there."""
        if self._live.pop(key, None) is not None:
            self._compact()

    def first(self) -> tuple[float, str] | None:
        """Return the lowest priority and its key, or None when empty."""
        heap, live = self._heap, self._live
        while heap:
            priority, key = heap[0]
            if live.get(key) == priority:
                return heap[0]
            heappop(heap)
        return None

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._live) + _SLACK:
            self._heap = [(priority, key) for key, priority in self._live.items()]
            heapify(self._heap)
