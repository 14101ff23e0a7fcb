"""The contract gate: nothing invalid reaches a test.

Documents are loaded and bodies validated on a thread of their own, so the event loop goes on
answering; a batch that no contract can apply to skips the thread.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.runtime.project import mentions_contracts
from mock_mcp.types import Mock, MockRequest, Violation

if TYPE_CHECKING:
    from mock_mcp.contract.project import ProjectContracts

__all__ = ["Gate", "GateResult"]

_NOTES = 5
"""Sentences on what was ignored that are told of one mock; `mock-mcp check-contract` has all."""
_NOTE_CHARS = 200

NO_CONTRACT = "no contract is registered for this request"


class GateResult(msgspec.Struct, frozen=True):
    """What the gate found in one provided set of mocks.

    Attributes:
        violations: What keeps the set from being delivered (mode ``enforce``).
        warnings: What is delivered and reported all the same (mode ``warn``).
        unchecked: Request ids and why nothing judged their mocks.
        notes: Request ids and what of their contract was ignored, though their mocks were judged.
        accepted: Ids of the mocks without an enforced violation.
        blocked: Request ids and why a contract that must judge their mocks cannot be used (mode
            ``enforce``): nothing may be delivered, and no other mock would help.
    """

    violations: tuple[Violation, ...] = ()
    warnings: tuple[Violation, ...] = ()
    unchecked: Mapping[str, str] = {}
    notes: Mapping[str, str] = {}
    accepted: tuple[str, ...] = ()
    blocked: Mapping[str, MockMcpError] = {}


class Gate:
    """Check provided mocks against the contracts of one project.

    Args:
        root: The project root.
        cache_dir: A private directory for parsed documents.
    """

    def __init__(self, root: Path, *, cache_dir: Path | None = None) -> None:
        self._root = root
        self._cache_dir = cache_dir
        self._project: ProjectContracts | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def applies(self, requests: Iterable[MockRequest]) -> bool:
        """Tell whether any contract might judge these requests; cheap enough for the loop."""
        if self._project is None:
            may_have_documents = mentions_contracts(self._root)
        else:
            may_have_documents = not self._project.is_current() or self._project.has_documents
        return may_have_documents or any(request.names_contract for request in requests)

    def submit(
        self, requests: Sequence[MockRequest], mocks: Sequence[Mock]
    ) -> concurrent.futures.Future[GateResult]:
        """Check off the event loop; see `check`."""
        answer: concurrent.futures.Future[GateResult] = concurrent.futures.Future()

        def job() -> None:
            try:
                result = self.check(requests, mocks)
            except BaseException as exc:  # noqa: BLE001 - it is raised where the answer is awaited
                answer.set_exception(exc)
            else:
                answer.set_result(result)

        if self._thread is None:
            # A daemon thread, not an executor's: a stopping daemon must not wait for a document.
            self._thread = threading.Thread(target=self._work, name="mock-mcp-gate", daemon=True)
            self._thread.start()
        self._jobs.put(job)
        return answer

    def close(self) -> None:
        """Let the thread end once it has done what it was given; a later check starts another."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def check(self, requests: Sequence[MockRequest], mocks: Sequence[Mock]) -> GateResult:
        """Check the mock of every request; mocks of other requests are ignored."""
        # Imported with the first check, on the gate's thread: a daemon is ready before that.
        from mock_mcp.contract.gate import Verdict, contract_mode
        from mock_mcp.contract.project import ProjectContracts

        if self._project is None:
            self._project = ProjectContracts(self._root, cache_dir=self._cache_dir)
        unusable: ConfigurationError | None = None
        try:
            contracts, project_mode = self._project.current()
        except ConfigurationError as error:
            unusable, project_mode = error, "enforce"
        by_id = {mock.request_id: mock for mock in mocks}
        violations: list[Violation] = []
        warnings: list[Violation] = []
        unchecked: dict[str, str] = {}
        notes: dict[str, str] = {}
        accepted: list[str] = []
        blocked: dict[str, MockMcpError] = {}
        for request in requests:
            mock = by_id[request.request_id]
            fields = msgspec.json.decode(request.json)
            mode = contract_mode(fields, project_mode)
            if mode == "off":
                unchecked[request.request_id] = "the test switched the check off"
                accepted.append(request.request_id)
                continue
            if unusable is None:
                verdict = contracts.check_mock(fields, mock)
            else:
                verdict = Verdict(False, unchecked_reason=str(unusable), error=unusable)
            if verdict.unchecked_reason is not None:
                unchecked[request.request_id] = verdict.unchecked_reason
            elif verdict.notes:
                notes[request.request_id] = _noted(verdict.notes)
            if verdict.error is not None and mode == "enforce":
                blocked[request.request_id] = verdict.error
            elif verdict.violations and mode == "enforce":
                violations += verdict.violations
            else:
                warnings += verdict.violations
                accepted.append(request.request_id)
        return GateResult(
            tuple(violations), tuple(warnings), unchecked, notes, tuple(accepted), blocked
        )

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _noted(notes: Sequence[str]) -> str:
    shown = "; ".join(note[:_NOTE_CHARS] for note in notes[:_NOTES])
    more = f"; and {len(notes) - _NOTES} more" if len(notes) > _NOTES else ""
    return f"checked, but for what the contract says wrongly: {shown}{more}"
