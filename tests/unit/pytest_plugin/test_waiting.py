"""What is said of calls that wait, and when."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from mock_mcp.pytest_plugin.waiting import WaitingDisplay
from mock_mcp.runtime.project import Project
from mock_mcp.types import BatchInfo

NOBODY = "no assistant has taken any"
WAITS = "waits for an answer"


class Display(WaitingDisplay):
    """Shows batches as they are at a second; returns what that made it write."""

    def __init__(self, project: Path) -> None:
        writer = SimpleNamespace(markup=lambda line, yellow: line, width_of_current_line=0)
        config = SimpleNamespace(get_terminal_writer=lambda: writer)
        reporter = SimpleNamespace(verbosity=0, currentfspath=None, config=config)
        super().__init__(reporter, Project.resolve(project), "run")
        self.stop()
        self._out = io.StringIO()

    def watch(self, begin: int, end: int, **batches: str) -> str:
        """Return what is written while batches have a status, looked at every second."""
        assert isinstance(self._out, io.StringIO)
        written = len(self._out.getvalue())
        request = {"method": "GET", "endpoint": "/a"}
        seen = [BatchInfo(name, "run", [request], status, 0) for name, status in batches.items()]
        for second in range(begin, end):
            self._look(seen, second)
        return self._out.getvalue()[written:]


@pytest.fixture
def display(project: Path) -> Display:
    return Display(project)


def test_that_nobody_answers_is_said_once(display: Display) -> None:
    text = display.watch(100, 281, a="pending")
    assert text.count(WAITS) == 6  # after 1, 10, 30 and 60 s, then each minute
    assert text.count(NOBODY) == 1
    assert text.index(NOBODY) < text.index("10 s now")


def test_it_is_said_again_when_what_was_taken_was_given_back(display: Display) -> None:
    assert NOBODY in display.watch(100, 105, a="pending")
    assert NOBODY not in display.watch(105, 120, a="claimed")
    assert display.watch(120, 200, a="pending").count(NOBODY) == 1


def test_it_is_said_again_when_nothing_has_waited_for_a_while(display: Display) -> None:
    assert NOBODY in display.watch(100, 105, a="pending")
    assert display.watch(105, 115) == ""
    assert display.watch(115, 200, b="pending").count(NOBODY) == 1
