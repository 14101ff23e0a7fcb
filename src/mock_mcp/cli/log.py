"""``mock-mcp log``: what was asked, what the model read, and what it answered.

The batch log is read as the daemon wrote it, rotated files first. What belongs to which test or
endpoint is known from a batch's ``submit`` entry, so the filters hold for everything that happened
to that batch later.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.cli import add_project_root
from mock_mcp.cli.terminal import printable
from mock_mcp.daemon.batch_log import log_files
from mock_mcp.errors import FileError
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project, display_path

__all__ = ["configure", "run"]

_TEST_KEYS = ("testName", "testFile")
_FOLLOW_S = 0.3
_EXCERPT = 200
_NOTES = 5
"""Lines that cannot be read and are named; the rest are counted."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_project_root(parser)
    parser.add_argument("--run", dest="run_id", metavar="ID", help="only this run")
    parser.add_argument("--test", metavar="TEXT", help="only tests whose file or name holds TEXT")
    parser.add_argument(
        "--endpoint", metavar="TEXT", help="only batches with a request whose URL holds TEXT"
    )
    parser.add_argument(
        "--full", action="store_true", help="show all that was asked, shown to the model and sent"
    )
    parser.add_argument("--follow", action="store_true", help="go on with what comes")
    parser.add_argument("--json", action="store_true", help="print the log's own lines")


def run(options: argparse.Namespace) -> int:
    """Print the entries that match."""
    project = Project.resolve(options.project_root)
    directory = CacheDirectory().path / "logs" / project.id
    if not log_files(directory):
        raise FileError(
            display_path(directory),
            f"there is no batch log of {display_path(project.root)}; a daemon writes one when it "
            "is started with MOCK_MCP_LOG=1 (`mock-mcp stop` stops one that runs).",
        )
    chosen = _Filter(options.run_id, options.test, options.endpoint)
    reader = _Reader(directory, follow=options.follow)
    for line, entry in reader.entries():
        if not chosen.takes(entry):
            continue
        if options.json:
            sys.stdout.write(line.decode("utf-8", "replace").rstrip("\n") + "\n")
        else:
            print("\n".join(_text(entry, full=options.full)))
        if options.follow:
            sys.stdout.flush()
    reader.tell_rest()
    return 0


class _Entry(msgspec.Struct, rename="camel"):
    """One line of the log; which fields it has depends on its event."""

    event: str
    time: str = ""
    run_id: str = ""
    batch_id: str = ""
    batch_ids: list[str] = []
    adapter_id: str = ""
    test_meta: dict[str, Any] = {}
    requests: list[dict[str, Any]] = []
    request_ids: list[str] = []
    mocks: list[dict[str, Any]] = []
    tool: str = ""
    text: str = ""
    code: str = ""
    reason: str = ""
    message: str = ""

    @property
    def batches(self) -> list[str]:
        """The batches it is about."""
        return self.batch_ids or ([self.batch_id] if self.batch_id else [])

    @property
    def tests(self) -> list[str]:
        """Names and files of the tests that a submission names, of its run and its requests."""
        said = [self.test_meta]
        for request in self.requests:
            metadata = request.get("metadata")
            test = metadata.get("test") if isinstance(metadata, dict) else None
            said += [test] if isinstance(test, dict) else []
        names = [str(test[key]) for key in _TEST_KEYS for test in said if test.get(key)]
        return list(dict.fromkeys(names))


class _Reader:
    """The entries of a batch log, oldest first."""

    def __init__(self, directory: Path, *, follow: bool) -> None:
        self._directory = directory
        self._follow = follow
        self._skipped = 0

    def entries(self) -> Iterator[tuple[bytes, _Entry]]:
        """Yield each entry with its line."""
        files = log_files(self._directory)
        for path in files:
            follows = self._follow and path is files[-1]
            for number, line in enumerate(_lines(path, follow=follows), 1):
                entry = _decode(line)
                if entry is None:
                    self._skip(path, number)
                else:
                    yield line, entry

    def tell_rest(self) -> None:
        """Say how many lines were skipped without being named."""
        if self._skipped > _NOTES:
            print(f"mock-mcp: and {self._skipped - _NOTES} more lines", file=sys.stderr)

    def _skip(self, path: Path, number: int) -> None:
        self._skipped += 1
        if self._skipped <= _NOTES:
            message = f"mock-mcp: skipped {path.name} line {number}: no entry of a batch log"
            print(message, file=sys.stderr)


def _lines(path: Path, *, follow: bool) -> Iterator[bytes]:
    """Yield the lines of a file, and when it is followed those of the files that come after it."""
    file = path.open("rb")
    try:
        rest, is_rotated = b"", False
        while True:
            for line in file:
                rest += line
                if rest.endswith(b"\n"):
                    yield rest
                    rest = b""
            if not follow:
                break
            if is_rotated:  # and read to its end since
                file.close()
                file = path.open("rb")
            is_rotated = not is_rotated and _is_rotated(path, file.fileno())
            if not is_rotated:
                time.sleep(_FOLLOW_S)
        if rest:
            yield rest
    finally:
        file.close()


def _is_rotated(path: Path, descriptor: int) -> bool:
    try:
        return not os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:  # the new file comes with the next entry
        return False


def _decode(line: bytes) -> _Entry | None:
    try:
        return msgspec.json.decode(line, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class _Filter:
    """Which entries are wanted."""

    def __init__(self, run: str | None, test: str | None, endpoint: str | None) -> None:
        self._run = run
        self._test = test
        self._endpoint = endpoint
        self._taken: dict[str, bool] = {}

    def takes(self, entry: _Entry) -> bool:
        """Tell whether an entry is wanted; entries come in the order of the log."""
        if entry.event == "submit":
            self._taken[entry.batch_id] = self._fits(entry)
        batches = entry.batches
        if batches:
            return any(self._taken.get(each, self._is_of_run(_run_of(each))) for each in batches)
        return self._is_of_run(entry.run_id)

    def _fits(self, entry: _Entry) -> bool:
        urls = [str(request.get("endpoint")) for request in entry.requests]
        return (
            self._run in (None, entry.run_id)
            and (self._endpoint is None or any(self._endpoint in url for url in urls))
            and (self._test is None or any(self._test in name for name in entry.tests))
        )

    def _is_of_run(self, run_id: str) -> bool:
        """Tell whether something is wanted of which only the run is known."""
        return self._test is None and self._endpoint is None and self._run in (None, run_id)


def _run_of(batch_id: str) -> str:
    return batch_id.removeprefix("batch:").rpartition(":")[0]


# -- Text ----------------------------------------------------------------------------------------


def _text(entry: _Entry, *, full: bool) -> Iterator[str]:
    what = ", ".join(entry.batches) or entry.run_id
    who = f"  by {entry.adapter_id}" if entry.adapter_id else ""
    yield printable(f"{entry.time}  {entry.event:<11}  {what}{who}")
    for line in _details(entry, full=full):
        for part in line.split("\n"):
            yield "    " + printable(part)


def _details(entry: _Entry, *, full: bool) -> Iterator[str]:
    match entry.event:
        case "submit":
            yield from entry.tests[:1]
            for request in entry.requests:
                yield f"{request.get('method')} {request.get('endpoint')}"
                if full:
                    yield _json(request)
        case "show":
            yield f"{entry.tool}: the model reads {len(entry.text)} characters"
            if full:
                yield entry.text
        case "provide":
            yield from (_json(mock) if full else _excerpt(mock) for mock in entry.mocks)
        case "cancel" | "reuse":
            yield ", ".join(entry.request_ids)
        case _:
            yield from filter(None, (entry.code, entry.reason, entry.message))


def _excerpt(mock: dict[str, Any]) -> str:
    body = json.dumps(mock.get("data"), ensure_ascii=False)
    more = f"… ({len(body)} characters)" if len(body) > _EXCERPT else ""
    return f"{mock.get('status', 200)} {body[:_EXCERPT]}{more}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
