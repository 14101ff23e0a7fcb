"""Mocks that nobody has to write: samples of the contract, and recordings."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mock_mcp.contract.expected import sample_mock
from mock_mcp.contract.project import ProjectContracts
from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest, is_sidecar
from mock_mcp.recordings.match import Key, Matching
from mock_mcp.recordings.paths import locate, names_of
from mock_mcp.recordings.redact import Redaction
from mock_mcp.recordings.store import read_recording
from mock_mcp.recordings.survey import survey
from mock_mcp.responders.errors import CannotAnswer, ResponderUnusable
from mock_mcp.responders.source import Usage, Writing
from mock_mcp.runtime.cache import CacheDirectory
from mock_mcp.runtime.project import Project
from mock_mcp.serving.claims import Next
from mock_mcp.types import Mock

__all__ = ["RecordingSource", "SampleSource"]


class SampleSource:
    """Answer from the contract: a valid example, else generated data.

    Args:
        project: Whose contracts.
        seed: The same seed, test and call give the same answer.
        cache_dir: The directory that holds ``mock-mcp/``.
    """

    name = "sample"
    corrections = 0

    def __init__(
        self,
        project: Project,
        *,
        seed: int | str = 0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.usage = Usage()
        cache = CacheDirectory(cache_dir)
        self._contracts = ProjectContracts(project.root, cache_dir=cache.contracts())
        self._seed = seed

    async def start(self) -> None:
        """Read the project's settings; raises `ConfigurationError`."""
        await asyncio.to_thread(self._contracts.current)

    def begin(self, found: Next) -> Writing:
        """Answer a batch."""
        return _Plain(lambda: [self._mock(request) for request in found.claim.requests])

    async def close(self) -> None:
        """Nothing is open."""

    def _mock(self, request: dict[str, Any]) -> Mock:
        contracts, _ = self._contracts.current()
        mock = sample_mock(contracts, request, seed=f"{self._seed}/{_test_of(request)}")
        return msgspec.structs.replace(mock, source="example")


class _Recorded(NamedTuple):
    """One interaction of a recording: its file, and the test that the file states."""

    path: str
    test: str
    interaction: RecordedInteraction


class RecordingSource:
    """Answer from the recordings below a directory, whichever test they belong to.

    The recording of the same test comes first, then those of tests of the same name. Equal calls of
    a test get the recorded answers in their order, and the last one from then on.

    Args:
        directory: Where recordings are looked for.
        matching: When a call is a recorded one.
    """

    name = "recordings"
    corrections = 0

    def __init__(self, directory: Path, matching: Matching | None = None) -> None:
        self.usage = Usage()
        self._directory = directory
        self._matching = matching or Matching()
        self._redaction = Redaction(request_headers=self._matching.request_headers)
        self._found: dict[Key, list[_Recorded]] = {}
        self._taken: Counter[tuple[str, str, Key]] = Counter()

    async def start(self) -> None:
        """Read the recordings.

        Raises:
            ResponderUnusable: There are none.
            RecordingError: One cannot be read.
        """
        await asyncio.to_thread(self._load)
        if not self._found:
            raise ResponderUnusable(
                f"{self._directory} holds no recordings. Name the directory with the tests, or "
                "with their __mocks__."
            )

    def begin(self, found: Next) -> Writing:
        """Answer a batch."""
        run_id = found.claim.run_id
        return _Plain(lambda: [self._mock(run_id, request) for request in found.claim.requests])

    async def close(self) -> None:
        """Nothing is open."""

    def _load(self) -> None:
        found = survey(self._directory)
        if found.unreadable:
            raise found.unreadable[0]
        for path in (*found.recordings, *_recordings_of_no_test(found.orphans)):
            recording = read_recording(path)
            for interaction in recording.interactions:
                key = self._matching.key(self._redaction.request(interaction.request))
                recorded = _Recorded(str(path), recording.test, interaction)
                self._found.setdefault(key, []).append(recorded)

    def _mock(self, run_id: str, request: dict[str, Any]) -> Mock:
        name = f"{request['method']} {request['endpoint']}"
        body = request.get("body", msgspec.UNSET)
        headers = request.get("headers") or {}
        made = RecordedRequest(request["method"], request["endpoint"], headers, body)
        key = self._matching.key(self._redaction.request(made))
        candidates = self._found.get(key)
        if not candidates:
            raise CannotAnswer(f"No recording in {self._directory} answers {name}.")
        test = _test_of(request)
        answers = _of_test(request, candidates) or candidates
        taken = self._taken[run_id, test, key]
        self._taken[run_id, test, key] += 1
        chosen = answers[min(taken, len(answers) - 1)].interaction
        response = chosen.response
        if response is None:
            raise CannotAnswer(f"{name} is recorded as a failure, which is no mock.")
        data = None if response.body is msgspec.UNSET else response.body
        return Mock(
            request["requestId"],
            data,
            response.status,
            response.headers or None,
            response.delay_ms,
            source=chosen.source,
        )


class _Plain:
    """Mocks that one blocking call makes."""

    def __init__(self, make: Any) -> None:
        self._make = make

    async def write(self, problem: str | None) -> Sequence[Mock]:
        mocks: Sequence[Mock] = await asyncio.to_thread(self._make)
        return mocks


def _of_test(request: Mapping[str, Any], recorded: Sequence[_Recorded]) -> Sequence[_Recorded]:
    """Return what was recorded by the test that makes a request; else, by one of its name."""
    file, names = names_of(_test_of(request))
    if not names:
        return ()
    place = locate(Path(_told(request, "testFile") or file), names)
    own = [each for each in recorded if each.path == place.file]
    return own or [each for each in recorded if each.test == place.test]


def _test_of(request: Mapping[str, Any]) -> str:
    return _told(request, "testName")


def _told(request: Mapping[str, Any], name: str) -> str:
    """Return what a request tells of its test."""
    metadata = request.get("metadata")
    test = metadata.get("test") if isinstance(metadata, dict) else None
    value = test.get(name) if isinstance(test, dict) else None
    return value if isinstance(value, str) else ""


def _recordings_of_no_test(orphans: Sequence[Any]) -> Iterator[Path]:
    """Yield recordings whose test is elsewhere; they answer all the same."""
    for path, _ in orphans:
        if path.suffix == ".json" and not path.name.startswith(".") and not is_sidecar(path.name):
            yield path
