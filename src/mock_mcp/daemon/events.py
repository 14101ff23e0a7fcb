"""What happened lately, in a few words each, for people who watch.

The batch log holds everything and is off by default; these events hold next to nothing and are
always there. A watcher asks for what came after the last one it knows, and waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from mock_mcp.core import broker
from mock_mcp.core.broker import Effect
from mock_mcp.types import DaemonEvent

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
_URL_CHARS = 300


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
        event = DaemonEvent(
            self.last, word_of(effect), effect.run_id, effect.batch_id, adapter_id, _detail(effect)
        )
        self._kept.append((now, event))

    def after(self, seq: int) -> list[tuple[float, DaemonEvent]]:
        """Return the moments and events that came after a number, as far as they are kept."""
        return [pair for pair in self._kept if pair[1].seq > seq]


def _detail(effect: Effect) -> str:
    match effect:
        case broker.Submitted(requests=(first, *others)):
            more = f" and {len(others)} more" if others else ""
            return f"{first.method} {first.endpoint[:_URL_CHARS]}{more}"
        case broker.Delivered():
            return str(len(effect.mocks))
        case broker.Reused() | broker.Cancelled():
            return str(len(effect.request_ids))
        case broker.Released() | broker.Rejected():
            return effect.reason or ""
        case broker.Failed():
            return effect.error.code
        case _:
            return ""
