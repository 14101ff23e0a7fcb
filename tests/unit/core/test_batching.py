"""The client's grouping policy: when a group is due, and what travels together."""

from __future__ import annotations

import pytest

from mock_mcp.core.batching import Batching


def test_nothing_waits_at_first():
    group = Batching[str](3)
    assert group.due_at is None
    assert group.take() == []


def test_a_group_is_due_after_its_first_request():
    group = Batching[str](10)
    group.add(100.0, "a", 0.5)
    assert group.due_at == 100.5


def test_a_steady_stream_does_not_put_the_group_off():
    group = Batching[int](1000)
    for n in range(100):
        group.add(100.0 + n * 0.4, n, 0.5)
    assert group.due_at == 100.5


def test_a_shorter_debounce_brings_the_group_forward():
    group = Batching[str](10)
    group.add(100.0, "a", 5.0)
    group.add(101.0, "b", 0.0)
    assert group.due_at == 101.0


def test_a_full_batch_is_due_at_once():
    group = Batching[str](2)
    group.add(100.0, "a", 5.0)
    group.add(101.0, "b", 5.0)
    assert group.due_at == 101.0


def test_a_batch_of_one_is_always_due_at_once():
    group = Batching[str](1)
    group.add(100.0, "a", 5.0)
    assert group.due_at == 100.0


@pytest.mark.parametrize(
    ("count", "max_size", "sizes"),
    [(1, 1, [1]), (3, 1, [1, 1, 1]), (3, 3, [3]), (4, 3, [3, 1]), (6, 3, [3, 3]), (2, 9, [2])],
)
def test_batches_are_no_larger_than_allowed_and_keep_the_order(count, max_size, sizes):
    group = Batching[int](max_size)
    for n in range(count):
        group.add(0.0, n, 1.0)
    batches = group.take()
    assert [len(batch) for batch in batches] == sizes
    assert [n for batch in batches for n in batch] == list(range(count))


def test_taking_begins_a_new_group():
    group = Batching[str](10)
    group.add(100.0, "a", 0.5)
    group.take()
    assert group.due_at is None
    assert group.take() == []
    group.add(200.0, "b", 0.5)
    assert group.due_at == 200.5
    assert group.take() == [["b"]]


def test_a_discarded_item_does_not_travel():
    group = Batching[str](10)
    group.add(0.0, "a", 1.0)
    group.add(0.0, "b", 1.0)
    assert group.discard("a") is True
    assert group.take() == [["b"]]


def test_a_group_whose_last_item_is_discarded_is_not_due():
    group = Batching[str](10)
    group.add(0.0, "a", 1.0)
    group.discard("a")
    assert group.due_at is None
    group.add(50.0, "b", 1.0)
    assert group.due_at == 51.0


def test_discarding_what_does_not_wait_says_so():
    group = Batching[str](10)
    assert group.discard("a") is False
    group.add(0.0, "a", 1.0)
    group.take()
    assert group.discard("a") is False


@pytest.mark.parametrize("max_size", [0, -1])
def test_a_batch_holds_at_least_one(max_size):
    with pytest.raises(ValueError, match="at least 1"):
        Batching[str](max_size)
