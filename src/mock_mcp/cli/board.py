"""What `mock-mcp watch` knows of the daemons, and how it looks in a given size; no I/O."""

from __future__ import annotations

import datetime
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from mock_mcp.cli.terminal import clip, printable
from mock_mcp.types import BatchInfo, DaemonEvent, RunInfo
from mock_mcp.words import and_more, counted, plural

__all__ = ["Watched", "event_line", "render"]

_TITLES = 2000
"""Batches whose first request is remembered, to name them in later events."""
_RECENT = 50
_SHOWN = frozenset(("provide", "reuse", "reject", "release", "expire", "fail"))
"""Events that say how an answer came about; the others are seen in the batches."""
_ROOM = ((8, 20, 12), (5, 10, 6), (3, 5, 4), (2, 3, 2), (1, 1, 1), (0, 1, 0), (0, 0, 0))
"""Runs, batches and events shown of one daemon; the first that fits is taken."""
_COLOURS = {"pending": "33", "claimed": "36", "provide": "32", "reuse": "32"}
_ALARMS = frozenset(("reject", "expire", "fail"))


@dataclass
class Watched:
    """What is known of one daemon; ``error`` says why it is not what it is now."""

    root: str
    pid: int
    runs: Sequence[RunInfo] = ()
    batches: Sequence[BatchInfo] = ()
    error: str | None = None
    recent: deque[DaemonEvent] = field(default_factory=lambda: deque(maxlen=_RECENT))
    answers: int = 0
    corrections: int = 0
    _titles: OrderedDict[str, str] = field(default_factory=OrderedDict)

    def note(self, events: Iterable[DaemonEvent]) -> None:
        """Take in what happened."""
        for event in events:
            if event.event == "submit":
                self._titles[event.batch_id] = event.detail
                while len(self._titles) > _TITLES:
                    self._titles.popitem(last=False)
            self.answers += event.event == "provide"
            self.corrections += event.event == "reject"
            if event.event in _SHOWN:
                self.recent.append(event)

    def title(self, batch_id: str) -> str:
        """Return the first request of a batch, or its id when that is not known."""
        return self._titles.get(batch_id, batch_id)


def render(
    daemons: Sequence[Watched], columns: int, rows: int, now_ms: float, *, colour: bool
) -> list[str]:
    """Return the lines of the whole view: at most ``rows``, none wider than ``columns``."""
    for room in _ROOM:
        lines = [*_head(daemons, now_ms)]
        for daemon in daemons:
            lines += [("", ""), *_daemon(daemon, now_ms, room)]
        if len(lines) <= rows:
            break
    texts = ((clip(printable(text), columns), style) for text, style in lines[:rows])
    return [f"\033[{style}m{text}\033[0m" if colour and style else text for text, style in texts]


def event_line(daemon: Watched, event: DaemonEvent) -> str:
    """Return an event as one line of text."""
    name = PurePath(daemon.root).name
    about = event.batch_id or event.run_id
    said = _said(daemon, event)
    return printable(f"{_clock(event.at)}  {name}  {event.event:<11} {about}  {said}").rstrip()


# -- Parts ---------------------------------------------------------------------------------------

_Line = tuple[str, str]
"""A text and the style of its whole line."""


def _head(daemons: Sequence[Watched], now_ms: float) -> Iterator[_Line]:
    batches = [batch.status for daemon in daemons for batch in daemon.batches]
    counts = (
        counted(len(daemons), "daemon"),
        counted(sum(len(daemon.runs) for daemon in daemons), "run"),
        f"{batches.count('pending')} pending",
        f"{batches.count('claimed')} claimed",
    )
    yield f"mock-mcp  {_clock(now_ms)}  {', '.join(counts)}", "1"
    if not daemons:
        yield "No daemon is running. It starts with the first test that runs with MOCK_MCP=1.", ""


def _daemon(daemon: Watched, now_ms: float, room: tuple[int, int, int]) -> Iterator[_Line]:
    runs, batches, events = room
    said = f"{counted(daemon.answers, 'answer')}, {counted(daemon.corrections, 'correction')}"
    yield f"{daemon.root}  pid {daemon.pid}  {said}", "1"
    if daemon.error is not None:
        yield f"  does not answer: {daemon.error}", "31"
    for run in daemon.runs[:runs]:
        meta = run.test_meta
        test = " ".join(filter(None, (meta.test_name, meta.test_file))) if meta else ""
        yield f"  run      {_age(now_ms - _started(run))}  {test or run.cwd}  {run.run_id}", ""
    yield from _more(len(daemon.runs) - runs, "run")
    waiting = [batch for batch in daemon.batches if batch.status != "fulfilled"]
    for batch in waiting[:batches]:
        yield _batch(batch, now_ms), _COLOURS.get(batch.status, "")
    yield from _more(len(waiting) - batches, "batch")
    for event in [*daemon.recent][-events:] if events else ():
        colour = "31" if event.event in _ALARMS else _COLOURS.get(event.event, "")
        yield f"  {_clock(event.at)} {event.event:<8} {_said(daemon, event)}", colour


def _batch(batch: BatchInfo, now_ms: float) -> str:
    first, *others = batch.requests
    text = and_more(f"{first['method']} {first['endpoint']}", len(others))
    if batch.claim is not None:
        left_s = max(0, batch.claim.lease_until - now_ms) / 1000
        text = f"lease {left_s:.0f} s  {batch.claim.adapter_id}  {text}"
    if batch.rejections:
        text = f"{counted(batch.rejections, 'correction')}  {text}"
    return f"  {batch.status:<8} {_age(now_ms - batch.created_at)}  {text}  {batch.batch_id}"


def _said(daemon: Watched, event: DaemonEvent) -> str:
    title = daemon.title(event.batch_id)
    match event.event:
        case "submit":
            return event.detail
        case "provide" | "reuse" | "cancel":
            parts = (title, counted(int(event.detail or 0), "request"), event.adapter_id)
        case _:
            parts = (title, event.detail, event.adapter_id)
    return "  ".join(filter(None, parts)) if event.batch_id else event.detail


def _more(count: int, noun: str) -> Iterator[_Line]:
    if count > 0:
        yield f"  and {count} more {noun if count == 1 else plural(noun)}", "2"


def _age(age_ms: float) -> str:
    seconds = max(0, int(age_ms / 1000))
    text = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
    return f"{text:>6}"


def _started(run: RunInfo) -> float:
    return datetime.datetime.fromisoformat(run.started_at).timestamp() * 1000


def _clock(moment_ms: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment_ms / 1000))
