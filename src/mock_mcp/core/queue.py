"""Claimable batches in order of their place, grouped by who has released them.

A responder is not offered what it released while others are claimable, so a claim looks at the
head of each group that does not hold the responder. There are as many groups as there are
different sets of releasing responders among the parked batches: one, until somebody releases
something, and few ever, because a batch that is released ten times is given up.
"""

from __future__ import annotations

from mock_mcp.core.heap import PriorityMap

__all__ = ["Queue"]


class Queue:
    """Batch ids in order of their place."""

    __slots__ = ("_groups", "size")

    def __init__(self) -> None:
        self._groups: dict[frozenset[str], PriorityMap] = {}
        self.size = 0

    def add(self, batch_id: str, place: int, released_by: frozenset[str]) -> None:
        """Insert a batch at its place."""
        group = self._groups.get(released_by)
        if group is None:
            group = self._groups[released_by] = PriorityMap()
        group.set(batch_id, place)
        self.size += 1

    def remove(self, batch_id: str, released_by: frozenset[str]) -> None:
        """Take out a batch, which the same responders have released as when it was inserted."""
        group = self._groups[released_by]
        group.discard(batch_id)
        if not group:
            del self._groups[released_by]
        self.size -= 1

    def first(self, adapter_id: str | None = None) -> str | None:
        """Return the id of the batch this responder is offered next."""
        fresh: tuple[float, str] | None = None
        seen: tuple[float, str] | None = None
        for released_by, group in self._groups.items():
            head = group.first()
            if head is None:
                continue
            if adapter_id in released_by:
                seen = head if seen is None else min(seen, head)
            else:
                fresh = head if fresh is None else min(fresh, head)
        chosen = fresh or seen
        return chosen[1] if chosen else None
