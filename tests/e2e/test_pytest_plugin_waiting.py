"""What a terminal shows while tests wait for an assistant."""

# ruff: noqa: F401, F811 - fixtures are imported

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys

import pytest

from support.plugin import ELSEWHERE, PluginProject, ScriptedAssistant, assistant, tests
from support.ws import HANG_S, eventually

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")

CODE = """
    def test_before():
        print("captured before")

    @pytest.mark.mock_mcp
    def test_one():
        print("captured noise")
        assert user()

    def test_after():
        pass
"""
WAITS = r"mock-mcp: 1 call waits for an answer, \d+ s now: GET https://api\.test/users/1"
NOBODY = "mock-mcp: no assistant has taken any. Ask yours to serve the mocks of this run"


class Terminal:
    """A pseudo-terminal that a process of pytest writes to."""

    def __init__(self, tests: PluginProject, *arguments: str) -> None:
        import pty

        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            tests.command("-p", "no:cacheprovider", *arguments),
            cwd=tests.path,
            env=tests.environment(MOCK_MCP="1", TERM="xterm", COLUMNS="200"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.text = ""

    def read_until(self, pattern: str | None) -> str:
        """Return what was written when it holds a pattern, or at the end."""
        while pattern is None or not re.search(pattern, self.text):
            assert select.select([self._fd], [], [], HANG_S)[0], self.text
            try:
                read = os.read(self._fd, 65536).decode()
            except OSError:  # the process has ended
                assert pattern is None, self.text
                break
            self.text += re.sub(r"\x1b\[[0-9;]*m|\r(?=\n)", "", read)
        return self.text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.mark.parametrize("options", [(), ("-v",), ("-q",), ("-s",), ("-n1",)], ids=str)
def test_a_terminal_says_what_waits_and_what_to_do(
    tests: PluginProject, cache_dir: object, options: tuple[str, ...]
) -> None:
    assistant = ScriptedAssistant(tests.path, cache_dir)  # which comes late
    tests.write(CODE)
    with contextlib.closing(assistant), contextlib.closing(Terminal(tests, *options)) as terminal:
        terminal.read_until(NOBODY)
        assistant.start()
        text = terminal.read_until(None)
        assert terminal.process.wait(HANG_S) == 0, text
    lines = text.splitlines()
    assert [line for line in lines if re.fullmatch(WAITS, line)], text
    assert any(line.startswith(NOBODY) and line.endswith("`mock-mcp answer`.") for line in lines)
    assert ("captured" in text) == (options == ("-s",))
    assert re.search(r"3 passed", lines[-1])
    if options == ("-v",):
        assert any(re.match(r"test_app.py::test_one PASSED +\[ 66%\]", line) for line in lines)


def test_a_test_that_changes_its_environment_is_spoken_of(
    tests: PluginProject, assistant: ScriptedAssistant
) -> None:
    assistant.leave()
    tests.write(ELSEWHERE)
    with contextlib.closing(Terminal(tests)) as terminal:
        terminal.read_until(WAITS)
        assistant.start()
        text = terminal.read_until(None)
    assert "1 passed" in text


def test_who_is_served_hears_nothing_of_a_missing_assistant(
    tests: PluginProject, cache_dir: object
) -> None:
    assistant = ScriptedAssistant(tests.path, cache_dir)
    tests.write(CODE)
    with contextlib.closing(assistant), contextlib.closing(Terminal(tests)) as terminal:
        control = assistant.daemon.control
        eventually(lambda: control.call("getStatus")["pending"] == 1)
        claim = control.claim()
        terminal.read_until(WAITS)
        mock = {"requestId": claim["requests"][0]["requestId"], "data": {"id": 1, "name": "Ada"}}
        control.provide(claim, [mock])
        text = terminal.read_until(None)
    assert "no assistant" not in text


def test_very_quiet_says_nothing(tests: PluginProject, assistant: ScriptedAssistant) -> None:
    assistant.leave()
    tests.write(CODE)
    with contextlib.closing(Terminal(tests, "-qq", "--mock-timeout=1.8", "--tb=no")) as terminal:
        text = terminal.read_until(None)
    assert "waits for an answer" not in text
