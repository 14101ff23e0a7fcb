"""What happened lately, in a few words each, for people who watch.

The batch log holds everything and is off by default; these events hold next to nothing and are
always there. A watcher asks for what came after the last one it knows, and waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mock_mcp.core import broker
from mock_mcp.core.broker import Effect
from mock_mcp.types import DaemonEvent
from mock_mcp.words import and_more, cut

__all__ = ["RecentEvents", "word_of"]

_WORDS: Mapping[type[Effect], str] = {
    broker.Submitted: "submit",
    broker.Reused: "reuse",
    broker.Claimed: "claim",
    broker.Released: "release",
    broker.Expired: "expire",
    broker.Rejected: "reject",
    broker.Delivered: "provide",
    broker.Acknowledged: "acknowledge",
    broker.Cancelled: "cancel",
    broker.Failed: "fail",
    broker.Replaced: "replace",
    broker.RunEnded: "end-run",
}
_CALL_CHARS = 300


def word_of(effect: Effect) -> str:
    """Return what an effect is called in logs and events."""
    return _WORDS[type(effect)]


class RecentEvents:
    """The latest events of one daemon, numbered from 1.

    Args:
        count: Events kept.
    """

    def __init__(self, count: int) -> None:
        self.last = 0
        self._kept: deque[tuple[float, DaemonEvent]] = deque(maxlen=count)

    def note(self, now: float, effect: Effect) -> None:
        """Keep an effect."""
        self.last += 1
        adapter_id = getattr(effect, "adapter_id", "")
        detail = _DETAILS.get(type(effect), _nothing)(effect)
        event = DaemonEvent(
            self.last, word_of(effect), effect.run_id, effect.batch_id, adapter_id, detail
        )
        self._kept.append((now, event))

    def after(self, seq: int) -> list[tuple[float, DaemonEvent]]:
        """Return the moments and events that came after a number, as far as they are kept."""
        return [pair for pair in self._kept if pair[1].seq > seq]


def _asked(effect: broker.Submitted) -> str:
    first = effect.requests[0]
    return and_more(cut(f"{first.method} {first.endpoint}", _CALL_CHARS), len(effect.requests) - 1)


def _nothing(_: Effect) -> str:
    return ""


_DETAILS: Mapping[type[Effect], Callable[[Any], str]] = {
    broker.Submitted: _asked,
    broker.Reused: lambda effect: str(len(effect.request_ids)),
    broker.Released: lambda effect: effect.reason or "",
    broker.Rejected: lambda effect: effect.reason or "",
    broker.Delivered: lambda effect: str(len(effect.mocks)),
    broker.Cancelled: lambda effect: str(len(effect.request_ids)),
    broker.Failed: lambda effect: effect.error.code,
}
