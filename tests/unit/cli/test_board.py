"""The live view: what it shows, and that it fits whatever the terminal's size."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mock_mcp.cli.board import Watched, event_line, render
from mock_mcp.cli.terminal import width
from mock_mcp.types import BatchInfo, ClaimInfo, DaemonEvent, RunInfo, TestMeta

NOW = 1_800_000_000_000


def batch(number: int = 1, status: str = "pending", **more: Any) -> BatchInfo:
    requests = [
        {"requestId": rid, "endpoint": f"https://api.test/{number}", "method": "GET"}
        for rid in ("a", "b", "c")
    ]
    return BatchInfo(f"batch:r:{number}", "r", requests, status, NOW - 12_000, **more)


def run(run_id: str = "r") -> RunInfo:
    started = "2027-01-15T07:59:00.000Z"
    return RunInfo(run_id, 1, "/cwd", started, 0, 0, TestMeta("/t/test_x.py", "test_one"))


def event(seq: int, word: str, detail: str = "", batch_id: str = "batch:r:1") -> DaemonEvent:
    return DaemonEvent(seq, word, "r", batch_id, "me", detail, NOW)


def busy() -> Watched:
    watched = Watched("/project", 42, [run()])
    watched.batches = [
        batch(1),
        batch(2, "claimed", claim=ClaimInfo("me", NOW + 22_000), rejections=1),
        batch(3, "fulfilled"),
    ]
    watched.note(
        [
            event(1, "submit", "GET https://api.test/7 and 1 more", "batch:r:9"),
            event(2, "claim", "", "batch:r:9"),
            event(3, "reject", "/body/id: Give an integer.", "batch:r:9"),
            event(4, "provide", "2", "batch:r:9"),
            event(5, "acknowledge", "", "batch:r:9"),
        ]
    )
    return watched


def shown(*daemons: Watched, columns: int = 200, rows: int = 50, colour: bool = False) -> str:
    return "\n".join(render(daemons, columns, rows, NOW, colour=colour))


def test_runs_batches_and_answers_are_there():
    text = shown(busy())
    for pattern in (
        r"1 daemon, 1 run, 1 pending, 1 claimed",
        r"/project  pid 42  1 answer, 1 correction",
        r"run +60 s  test_one /t/test_x.py  r",
        r"pending +12 s  GET https://api.test/1 and 2 more  batch:r:1",
        r"claimed +12 s  1 correction  lease 22 s  me  GET https://api.test/2 and 2 more",
        r"reject   GET https://api.test/7 and 1 more  /body/id: Give an integer\.  me",
        r"provide  GET https://api.test/7 and 1 more  2 requests  me",
    ):
        assert re.search(pattern, text), pattern
    assert "batch:r:3" not in text
    assert "acknowledge" not in text


def test_without_a_daemon_it_says_how_one_starts():
    assert "MOCK_MCP=1" in shown()


def test_a_daemon_that_does_not_answer_says_so():
    assert "does not answer: it is stuck" in shown(Watched("/p", 1, error="it is stuck"))


@pytest.mark.parametrize("columns", [1, 8, 20, 40, 80])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 10, 24])
def test_it_fits_every_size(columns, rows):
    wide = busy()
    wide.root = "/проект/水水水水水水水水水水"
    wide.batches = [batch(n) for n in range(100)]
    lines = render([wide, busy()], columns, rows, NOW, colour=False)
    assert len(lines) <= rows
    assert all(width(line) <= columns for line in lines)


def test_what_there_is_no_room_for_is_counted():
    watched = busy()
    watched.batches = [batch(n) for n in range(100)]
    text = shown(watched, rows=16)
    assert "and 95 more batches" in text
    assert "100 pending" in text


def test_colours_only_where_they_are_wanted():
    assert "\033" not in shown(busy())
    assert "\033[33m  pending" in shown(busy(), colour=True)


def test_what_a_test_sent_cannot_steer_the_terminal():
    watched = busy()
    watched.note([event(9, "submit", "GET /\033[2J", "batch:r:8"), event(10, "provide", "1")])
    watched.runs = [RunInfo("r", 1, "/", "2027-01-15T07:59:00Z", 0, 0, TestMeta("\033]0;x\007"))]
    assert "\033" not in shown(watched)
    assert "\033" not in event_line(watched, event(11, "release", "\033[2J", "batch:r:8"))


def test_an_event_is_one_line():
    watched = busy()
    line = event_line(watched, event(6, "provide", "2", "batch:r:9"))
    assert line.endswith(
        "project  provide     batch:r:9  GET https://api.test/7 and 1 more  2 requests  me"
    )
    assert event_line(watched, DaemonEvent(7, "end-run", "r", at=NOW)).endswith("end-run     r")
