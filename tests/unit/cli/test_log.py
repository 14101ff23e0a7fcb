"""`mock-mcp log`: the filters, what it shows, and what it survives."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mock_mcp.cli import log, main
from mock_mcp.core.broker import Broker
from mock_mcp.daemon.batch_log import BatchLog
from mock_mcp.daemon.hub import Clock
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.types import Mock, MockRequest, TestMeta

Run = Callable[..., list[str]]


class Logged:
    """A daemon's batch log, written as the daemon writes it."""

    def __init__(self, directory: Path, **options: int) -> None:
        self.broker = Broker()
        self.directory = directory
        self.log = BatchLog(directory, **options)
        self._connections = 0

    def batch(self, run: str, test: str, url: str, data: Any = "ok", size: int = 0) -> str:
        """Write the life of one batch; return its id."""
        if run not in self.broker.runs:
            self._connections += 1
            meta = TestMeta(f"/t/{test}.py", test)
            self.broker.open_run(0, run, self._connections, test_meta=meta)
        fields = {"requestId": "a", "endpoint": url, "method": "GET", "body": "x" * size}
        raw = msgspec.Raw(json.dumps(fields).encode())
        batch = self.broker.submit(0, run, [MockRequest("a", url, "GET", raw)])
        assert self.broker.claim(0, "me", 30, "t", batch_id=batch.id)
        self.settle()
        self.log.write_shown(Clock(), "me", [batch.id], "claim_next_batch", f"word for word {url}")
        self.broker.provide(0, "me", batch.id, "t", [Mock("a", data)])
        self.settle()
        return batch.id

    def settle(self) -> None:
        for effect in self.broker.take_effects():
            self.log.write(Clock(), self.broker, effect)


@pytest.fixture
def directory(project: Path, cache_dir: Path) -> Path:
    return CacheDirectory().logs(Project.resolve(project).id)


@pytest.fixture
def logged(directory: Path) -> Iterator[Logged]:
    logged = Logged(directory)
    yield logged
    logged.log.close()


@pytest.fixture
def run(project: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, code: int = 0) -> list[str]:
        assert main(["log", "--project-root", str(project), *arguments]) == code
        return capsys.readouterr().out.splitlines()

    return run


def test_a_batch_is_told_from_its_submission_to_its_answer(logged, run):
    batch_id = logged.batch("r", "test_one", "https://api.test/users/7", {"id": 7})
    told = run()
    assert [line.split()[1] for line in told if not line.startswith(" ")] == [
        "submit",
        "claim",
        "show",
        "provide",
    ]
    assert all(batch_id in line for line in told if not line.startswith(" "))
    for line in ("test_one", "GET https://api.test/users/7", '200 {"id": 7}'):
        assert f"    {line}" in told


def test_full_shows_word_for_word_what_the_model_read(logged, run):
    logged.batch("r", "test_one", "/7")
    assert "    word for word /7" not in run()
    assert "    word for word /7" in run("--full")
    assert any('"requestId": "a"' in line for line in run("--full"))


@pytest.mark.parametrize(
    ("arguments", "urls"),
    [
        ((), ["/1", "/2", "/3"]),
        (("--run", "b"), ["/2", "/3"]),
        (("--run", "no such"), []),
        (("--test", "test_b"), ["/2", "/3"]),
        (("--test", "test_a.py"), ["/1"]),
        (("--endpoint", "/3"), ["/3"]),
        (("--run", "b", "--endpoint", "/1"), []),
    ],
)
def test_filters_hold_for_all_that_happened_to_a_batch(logged, run, arguments, urls):
    logged.batch("a", "test_a", "/1")
    logged.batch("b", "test_b", "/2")
    logged.batch("b", "test_b", "/3")
    entries = [json.loads(line) for line in run("--json", *arguments)]
    assert [e["requests"][0]["endpoint"] for e in entries if e["event"] == "submit"] == urls
    assert [e["text"].split()[-1] for e in entries if e["event"] == "show"] == urls
    assert sum(e["event"] == "provide" for e in entries) == len(urls)


def test_the_test_of_a_single_request_is_found_too(logged, run):
    logged.broker.open_run(0, "r", 9)
    metadata = {"test": {"testName": "test_inner"}}
    raw = msgspec.Raw(json.dumps({"endpoint": "/x", "metadata": metadata}).encode())
    logged.broker.submit(0, "r", [MockRequest("a", "/x", "GET", raw)])
    logged.settle()
    assert "    test_inner" in run("--test", "inner")


def test_rotated_files_are_read_in_order(directory, run):
    logged = Logged(directory, file_bytes=2000)
    for number in range(12):
        logged.batch("r", "test", f"/{number:02}", size=100)
    logged.log.close()
    assert len(list(directory.iterdir())) > 2
    entries = [json.loads(line) for line in run("--json")]
    urls = [e["requests"][0]["endpoint"] for e in entries if e["event"] == "submit"]
    assert urls == sorted(urls)
    assert urls[-1] == "/11"


def test_json_prints_the_lines_of_the_log(logged, directory, run):
    logged.batch("r", "test", "/ü")
    assert run("--json") == (directory / "batches.jsonl").read_text("utf-8").splitlines()


def test_lines_that_are_no_entries_are_skipped_and_said(logged, directory, run, project, capsys):
    logged.batch("r", "test", "/1")
    good = run("--json")
    with (directory / "batches.jsonl").open("ab") as file:
        file.write(b'garbage\n[]\n{"event": 3}\n\xff\n\n{"event":"submit","requests":[1]}\n{"eve')
    assert main(["log", "--project-root", str(project), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == good
    assert f"batches.jsonl line {len(good) + 1}: no entry" in printed.err
    assert "and 2 more lines" in printed.err


def test_what_a_test_sent_cannot_steer_the_terminal(logged, run):
    logged.batch("r", "test", "/\x1b[2J\u202e", "\x1b]0;x\x07")
    told = "\n".join(run("--full"))
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert "\\x1b[2J" in told


def test_no_log_says_how_to_have_one(run, capsys, project):
    assert main(["log", "--project-root", str(project)]) == 1
    assert "MOCK_MCP_LOG=1" in capsys.readouterr().err


@pytest.mark.parametrize("rotates", [False, True])
def test_following_goes_on_with_what_comes(directory, monkeypatch, rotates):
    logged = Logged(directory, file_bytes=3000 if rotates else 10_000_000)
    monkeypatch.setattr(log, "_FOLLOW_S", 0.005)
    logged.batch("r", "test", "/first")
    entries = log._Reader(directory, follow=True).entries()
    assert json.loads(next(entries)[0])["event"] == "submit"
    urls: list[str] = []

    def read() -> None:
        for _, entry in entries:
            urls.extend(request["endpoint"] for request in entry.requests)
            if urls[-1:] == ["/last"]:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for number in range(5):
        logged.batch("r", "test", f"/{number}", size=200)
        while urls[-1:] != [f"/{number}"]:  # no faster than it can be read
            reader.join(0.005)
    logged.batch("r", "test", "/last")
    reader.join(30)
    assert urls == ["/0", "/1", "/2", "/3", "/4", "/last"]
    can_move = os.name != "nt"  # where a file that is read stays in its place
    assert (len(list(directory.iterdir())) > 1) is (rotates and can_move)
    logged.log.close()
