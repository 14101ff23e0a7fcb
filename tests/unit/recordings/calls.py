"""Short ways to write calls and recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest, RecordedResponse
from mock_mcp.recordings.paths import locate
from mock_mcp.recordings.store import RecordingFile


def call(
    url: str = "https://api.test/users",
    method: str = "GET",
    body: Any = msgspec.UNSET,
    **headers: str,
) -> RecordedRequest:
    """A request; header names are keyword arguments with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RecordedRequest(method, url, named, body)


def answered(
    request: RecordedRequest, body: Any = None, *, source: Any = "ai", **response: Any
) -> RecordedInteraction:
    """An interaction whose response has the given body."""
    return RecordedInteraction(
        request, source, RecordedResponse(**{"status": 200, "body": body, **response})
    )


class Test:
    """One test of a project, run again and again."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        self.file = directory / "test_shop.py"
        self.place = locate(self.file, ["test_buy"])
        self.path = self.place.path

    def open(self, **options: Any) -> RecordingFile:
        """Begin a run."""
        return RecordingFile(*self.place, **options)

    def record(self, *interactions: RecordedInteraction, **options: Any) -> bytes:
        """Write a recording of exactly these interactions; return the file's bytes."""
        file = self.open(**options)
        for interaction in interactions:
            file.stage(interaction)
        file.promote("none")
        return self.path.read_bytes()

    def files(self) -> list[str]:
        """The names of the files beside the recording, and its own."""
        return sorted(path.name for path in self.path.parent.iterdir())

    def written_at(self) -> dict[str, int]:
        """When each of those files was written, in nanoseconds."""
        return {path.name: path.stat().st_mtime_ns for path in self.path.parent.iterdir()}
