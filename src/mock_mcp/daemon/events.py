"""What happened lately, in a few words each, for people who watch.

The batch log holds everything and is off by default; these events hold next to nothing and are
always there. A watcher asks for what came after the last one it knows, and waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from mock_mcp.core import effects
from mock_mcp.core.effects import Effect
from mock_mcp.types import DaemonEvent
from mock_mcp.words import and_more, cut

__all__ = ["RecentEvents", "word_of"]

_WORDS: Mapping[type[Effect], str] = {
    effects.Submitted: "submit",
    effects.Reused: "reuse",
    effects.Claimed: "claim",
    effects.Released: "release",
    effects.Expired: "expire",
    effects.Rejected: "reject",
    effects.Delivered: "provide",
    effects.Acknowledged: "acknowledge",
    effects.Cancelled: "cancel",
    effects.Failed: "fail",
    effects.Replaced: "replace",
    effects.RunEnded: "end-run",
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


def _asked(effect: effects.Submitted) -> str:
    first = effect.requests[0]
    return and_more(cut(f"{first.method} {first.endpoint}", _CALL_CHARS), len(effect.requests) - 1)


def _nothing(_: Effect) -> str:
    return ""


_DETAILS: Mapping[type[Effect], Callable[[Any], str]] = {
    effects.Submitted: _asked,
    effects.Reused: lambda effect: str(len(effect.request_ids)),
    effects.Released: lambda effect: effect.reason or "",
    effects.Rejected: lambda effect: effect.reason or "",
    effects.Delivered: lambda effect: str(len(effect.mocks)),
    effects.Cancelled: lambda effect: str(len(effect.request_ids)),
    effects.Failed: lambda effect: effect.error.code,
}
