"""The heap with movable entries: order, removal, and memory that follows the live keys."""

from __future__ import annotations

import random

from mock_mcp.core.heap import PriorityMap


def drain(heap: PriorityMap) -> list[tuple[float, str]]:
    out = []
    while head := heap.first():
        out.append(head)
        heap.discard(head[1])
    return out


def filled(**priorities: float) -> PriorityMap:
    heap = PriorityMap()
    for key, priority in priorities.items():
        heap.set(key, priority)
    return heap


def test_an_empty_heap_has_no_first_and_no_length():
    heap = PriorityMap()
    assert heap.first() is None
    assert len(heap) == 0
    assert "a" not in heap


def test_keys_come_out_by_priority():
    assert drain(filled(a=3, b=1, c=2)) == [(1, "b"), (2, "c"), (3, "a")]


def test_equal_priorities_come_out_by_key():
    assert drain(filled(c=1, a=1, b=1)) == [(1, "a"), (1, "b"), (1, "c")]


def test_reading_the_first_does_not_remove_it():
    heap = filled(a=1)
    assert heap.first() == heap.first() == (1, "a")
    assert len(heap) == 1


def test_a_key_moves_later():
    heap = filled(a=1, b=2)
    heap.set("a", 3)
    assert drain(heap) == [(2, "b"), (3, "a")]


def test_a_key_moves_earlier():
    heap = filled(a=2, b=1)
    heap.set("a", 0)
    assert drain(heap) == [(0, "a"), (1, "b")]


def test_a_key_that_moves_away_and_back_is_there_once():
    heap = filled(a=1, b=2)
    heap.set("a", 3)
    heap.set("a", 1)
    assert len(heap) == 2
    assert drain(heap) == [(1, "a"), (2, "b")]


def test_a_discarded_key_is_gone():
    heap = filled(a=1, b=2)
    heap.discard("a")
    assert "a" not in heap
    assert drain(heap) == [(2, "b")]


def test_a_discarded_key_can_return_at_its_old_priority():
    heap = filled(a=1, b=2)
    heap.discard("a")
    heap.set("a", 1)
    assert drain(heap) == [(1, "a"), (2, "b")]


def test_discarding_an_absent_key_changes_nothing():
    heap = filled(a=1)
    heap.discard("b")
    assert drain(heap) == [(1, "a")]


def test_priority_zero_is_a_priority():
    heap = filled(a=0)
    assert heap.first() == (0, "a")
    heap.discard("a")
    assert heap.first() is None


def test_memory_follows_the_live_keys_when_one_key_moves_for_ever():
    heap = filled(other=0)
    for n in range(10_000):
        heap.set("moving", n)
        assert len(heap._heap) <= 2 * len(heap) + 65


def test_memory_follows_the_live_keys_when_keys_are_removed_unseen():
    heap = PriorityMap()
    for n in range(10_000):
        heap.set(str(n), n)
    for n in reversed(range(10_000)):
        heap.discard(str(n))
        assert len(heap._heap) <= 2 * len(heap) + 65
    assert heap.first() is None


def test_it_agrees_with_a_sorted_dictionary_over_random_traffic():
    rng = random.Random(7)
    heap, plain = PriorityMap(), {}
    for _ in range(5_000):
        key, priority = str(rng.randrange(40)), rng.randrange(10)
        if rng.random() < 0.5:
            heap.set(key, priority)
            plain[key] = priority
        else:
            heap.discard(key)
            plain.pop(key, None)
        assert len(heap) == len(plain)
        assert heap.first() == min(((p, k) for k, p in plain.items()), default=None)
