"""The batch log: private, rotated by size, and never in the way of a test."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from pathlib import Path

import msgspec
import pytest

from mock_mcp.core.broker import Broker
from mock_mcp.daemon.batch_log import BatchLog
from mock_mcp.daemon.hub import Clock
from mock_mcp.types import Mock, MockRequest


def play(log: BatchLog, broker: Broker) -> None:
    """Write what the broker says happened."""
    for effect in broker.take_effects():
        log.write(Clock(), broker, effect)


def submit(broker: Broker, size: int = 10) -> None:
    raw = msgspec.Raw(json.dumps({"requestId": "a", "metadata": "é" * size}).encode())
    broker.submit(0, "run", [MockRequest("a", "/", "GET", raw)])


@pytest.fixture
def broker() -> Broker:
    broker = Broker()
    broker.open_run(0, "run", 1)
    return broker


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_one_object_a_line_with_everything(tmp_path: Path, broker: Broker) -> None:
    log = BatchLog(tmp_path)
    submit(broker)
    assert broker.claim(0, "adapter", 30, "secret")
    play(log, broker)
    broker.provide(1, "adapter", "batch:run:1", "secret", [Mock("a", {"x": "水"})])
    play(log, broker)
    log.close()
    submitted, claimed, provided = lines(log.path)
    assert submitted["requests"] == [{"requestId": "a", "metadata": "é" * 10}]
    assert (claimed["event"], claimed["adapterId"]) == ("claim", "adapter")
    assert provided["mocks"] == [{"requestId": "a", "data": {"x": "水"}}]
    assert "secret" not in log.path.read_text()


@pytest.mark.skipif(os.name == "nt", reason="modes")
@pytest.mark.parametrize("umask", [0, 0o077])
def test_it_is_private(tmp_path: Path, broker: Broker, umask: int) -> None:
    before = os.umask(umask)
    try:
        log = BatchLog(tmp_path)
        submit(broker)
        play(log, broker)
        log.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_it_is_rotated_by_size(tmp_path: Path, broker: Broker) -> None:
    log = BatchLog(tmp_path, file_bytes=1000, files=3)
    for _ in range(40):
        submit(broker)
        play(log, broker)
    log.close()
    found = sorted(tmp_path.iterdir())
    assert len(found) == 3
    for path in found:
        assert path.stat().st_size <= 1000
        assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600
    numbers = [
        int(str(line["batchId"]).rpartition(":")[2])
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)
        for line in lines(path)
    ]
    assert sorted(numbers) == list(range(min(numbers), 41)), "the newest are kept, none is lost"


def test_a_file_that_cannot_be_moved_grows_until_it_can(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = BatchLog(tmp_path, file_bytes=1000, files=3)

    def write(batches: int) -> None:
        for _ in range(batches):
            submit(broker)
            play(log, broker)

    write(10)
    older = sorted(tmp_path.iterdir())
    held, replace = len(lines(log.path)), Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path == log.path:
            raise PermissionError(errno.EACCES, "it is open in another process")
        return replace(path, target)

    with monkeypatch.context() as patch, log.path.open() as _:  # on Windows that is enough
        if os.name != "nt":
            patch.setattr(Path, "replace", refuse)
        write(30)
        assert len(lines(log.path)) == held + 30
        assert sorted(tmp_path.iterdir()) == older
    write(1)
    assert len(lines(log.path)) == 1
    log.close()


def test_an_older_file_is_continued_and_counts(tmp_path: Path, broker: Broker) -> None:
    first = BatchLog(tmp_path, file_bytes=10_000)
    submit(broker)
    play(first, broker)
    first.close()
    second = BatchLog(tmp_path, file_bytes=10_000)
    submit(broker)
    play(second, broker)
    second.close()
    assert len(lines(second.path)) == 2


@pytest.mark.skipif(os.name == "nt", reason="a limit of POSIX")
def test_a_line_that_a_full_disk_cuts_off_leaves_no_part(tmp_path: Path, broker: Broker) -> None:
    import resource

    log = BatchLog(tmp_path)
    submit(broker)
    play(log, broker)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.path.stat().st_size + 100, limits[1]))
    try:
        submit(broker, 1000)
        play(log, broker)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    submit(broker)
    play(log, broker)
    log.close()
    assert [line["batchId"] for line in lines(log.path)] == ["batch:run:1", "batch:run:3"]


def test_a_line_larger_than_a_file_is_written_whole(tmp_path: Path, broker: Broker) -> None:
    log = BatchLog(tmp_path, file_bytes=100, files=2)
    submit(broker, 5000)
    play(log, broker)
    log.close()
    assert lines(log.path)[0]["event"] == "submit"


def test_a_log_that_cannot_be_written_is_reported_once(
    tmp_path: Path, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file where the directory should be")
    log = BatchLog(tmp_path / "taken")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            submit(broker)
            play(log, broker)
    assert len(caplog.records) == 1
    (tmp_path / "taken").unlink()
    submit(broker)
    play(log, broker)
    log.close()
    assert len(lines(log.path)) == 1


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("deleted", ["file", "directory"])
def test_one_that_was_deleted_begins_anew(tmp_path: Path, broker: Broker, deleted: str) -> None:
    log = BatchLog(tmp_path / "logs")
    submit(broker)
    play(log, broker)
    log.path.unlink()
    if deleted == "directory":
        log.path.parent.rmdir()
    submit(broker)
    play(log, broker)
    log.close()
    assert [line["batchId"] for line in lines(log.path)] == ["batch:run:2"]
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_a_symlink_is_not_followed(
    tmp_path: Path, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "batches.jsonl").symlink_to(target)
    log = BatchLog(tmp_path)
    submit(broker)
    play(log, broker)
    log.close()
    assert target.read_text() == "precious"
