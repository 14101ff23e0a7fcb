"""`mock-mcp watch` as a person runs it: on a terminal, and into a pipe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.daemons import ServedDaemon, environment
from support.terminal import TerminalCommand
from support.ws import request

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")


def watching(project: Path, cache_dir: Path, **options: Any) -> TerminalCommand:
    env = environment(cache_dir, {"TERM": "xterm", **options.pop("env", {})})
    return TerminalCommand("watch", cwd=project, env=env, **options)


def test_a_batch_is_shown_from_its_submission_to_its_answer(
    daemon: ServedDaemon, project, cache_dir
):
    with watching(project, cache_dir) as watch:
        watch.wait_for(lambda: "1 daemon, 0 runs" in watch.frame)
        test = daemon.attach("run-1", testMeta={"testName": "test_one"})
        test.submit([request("a", endpoint="/users/7")])
        watch.wait_for(lambda: "pending" in watch.frame and "GET /users/7" in watch.frame)
        assert "test_one" in watch.frame
        claim = daemon.control.call("claimNextBatch", adapterId="me")
        watch.wait_for(lambda: re.search(r"lease \d+ s  me", watch.frame))
        key = {"adapterId": "me", "batchId": claim["batchId"], "claimToken": claim["claimToken"]}
        daemon.control.call("provideBatch", **key, mocks=[{"requestId": "a", "data": 1}])
        watch.wait_for(lambda: "0 pending, 0 claimed" in watch.frame)
        watch.wait_for(lambda: "provide  GET /users/7  1 request  me" in watch.frame)


@pytest.mark.parametrize("how", ["key", signal.SIGTERM])
def test_the_terminal_is_given_back(daemon: ServedDaemon, project, cache_dir, how):
    with watching(project, cache_dir) as watch:
        watch.wait_for(lambda: "1 daemon" in watch.frame)
        assert not watch.is_as_before(), "echo is on"
        if how == "key":
            watch.type("\x03")
        else:
            watch.process.send_signal(how)
        assert watch.end() == 0
        assert watch.output.endswith("\x1b[?25h\x1b[?1049l")
        assert watch.is_as_before()
        assert "Traceback" not in watch.text


def test_a_new_size_is_drawn_at_once(daemon: ServedDaemon, project, cache_dir):
    with watching(project, cache_dir, size=(100, 30)) as watch:
        watch.wait_for(lambda: str(project) in watch.frame)
        watch.resize(12, 3)
        watch.wait_for(lambda: 0 < max(map(len, watch.frame.split("\n"))) <= 12)
        assert len(watch.frame.split("\n")) <= 3


def test_no_colours_where_they_are_not_wanted(daemon: ServedDaemon, project, cache_dir):
    with watching(project, cache_dir, env={"NO_COLOR": "1"}) as watch:
        watch.wait_for(lambda: "1 daemon" in watch.frame)
        assert "m" not in {sequence[-1:] for sequence in watch.output.split("\x1b[")[1:]}
        assert "\x1b[1m" not in watch.output


def test_a_daemon_that_goes_and_comes_is_noticed(start_process, project, cache_dir):
    with watching(project, cache_dir) as watch:
        watch.wait_for(lambda: "0 daemons" in watch.frame)
        process = start_process().wait_ready()
        watch.wait_for(lambda: "1 daemon," in watch.frame)
        process.close()
        watch.wait_for(lambda: "0 daemons" in watch.frame or "does not answer" in watch.frame)


def test_into_a_pipe_it_prints_a_line_for_each_event(daemon: ServedDaemon, project, cache_dir):
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "mock_mcp", "watch", "--project-root", str(project)],
        env=environment(cache_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as watch:
        lines = iter(watch.stdout.readline, "")
        assert next(lines) == "Watching; interrupt to end.\n"
        assert next(lines).endswith("0 runs, 0 pending, 0 claimed\n")
        test = daemon.attach("run-1")
        test.submit([request("a", endpoint="/users/7\x1b[2J")])
        assert "submit      batch:run-1:1  GET /users/7\\x1b[2J" in next(lines)
        test.close()
        assert "cancel" in next(lines)
        assert "end-run     run-1" in next(lines)
        watch.send_signal(signal.SIGINT)
        assert watch.wait() == 0
        assert watch.stdout.read() == ""
