"""What those who watch are told: briefly, in order, and no more than is kept."""

from __future__ import annotations

import msgspec
import pytest

from mock_mcp.core.effects import (
    Claimed,
    Delivered,
    Effect,
    Failed,
    Rejected,
    Released,
    Reused,
    RunEnded,
    Submitted,
)
from mock_mcp.daemon import events as events_module
from mock_mcp.daemon.events import RecentEvents
from mock_mcp.errors import BatchExpired
from mock_mcp.types import Mock, MockRequest


def request(url: str) -> MockRequest:
    return MockRequest("a", url, "GET", msgspec.Raw(b"{}"))


@pytest.mark.parametrize(
    ("effect", "word", "adapter_id", "detail"),
    [
        (Submitted("r", "b", (request("/1"),)), "submit", "", "GET /1"),
        (Submitted("r", "b", (request("x" * 999),)), "submit", "", f"GET {'x' * 295}…"),
        (Submitted("r", "b", (request("/1"),) * 3), "submit", "", "GET /1 and 2 more"),
        (Claimed("r", "b", "me"), "claim", "me", ""),
        (Released("r", "b", "me", "too hard"), "release", "me", "too hard"),
        (Rejected("r", "b", "me", "/body: wrong"), "reject", "me", "/body: wrong"),
        (Delivered("r", "b", "me", (Mock("a", "x" * 999),)), "provide", "me", "1"),
        (Reused("r", "b", ("a", "b")), "reuse", "", "2"),
        (Failed("r", "b", BatchExpired("Nobody came.")), "fail", "", "batch-expired"),
        (RunEnded("r", ""), "end-run", "", ""),
    ],
)
def test_an_event_is_a_few_words(effect, word, adapter_id, detail):
    events = RecentEvents(10)
    events.note(1.5, effect)
    ((moment, event),) = events.after(0)
    assert (moment, event.seq, event.run_id, event.batch_id) == (1.5, 1, "r", effect.batch_id)
    assert (event.event, event.adapter_id, event.detail) == (word, adapter_id, detail)


def test_every_effect_has_a_word_of_its_own():
    effects = set(Effect.__subclasses__())
    assert len(effects) >= 12
    assert set(events_module._WORDS) == effects
    assert len(set(events_module._WORDS.values())) == len(effects)


def test_only_the_latest_are_kept_and_only_what_is_new_is_told():
    events = RecentEvents(3)
    for _ in range(5):
        events.note(0, RunEnded("r", ""))
    assert [event.seq for _, event in events.after(0)] == [3, 4, 5]
    assert [event.seq for _, event in events.after(4)] == [5]
    assert events.after(5) == []
    assert events.last == 5
