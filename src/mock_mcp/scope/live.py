"""Answers of the real API: checked against the contract, redacted, staged, and always delivered.

The code under test sees what the API says, whatever is wrong with it: that is what it will meet. So
a violation of the contract is no error at the call but a finding about the API, an `ApiDrift`. It
is kept for the end of the test, which then fails, so that nothing of it is recorded, and for the
summary of the run. With the contract in mode ``warn`` it is a warning, and the answer is recorded.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import msgspec

from mock_mcp.client.police import Police
from mock_mcp.errors import ContractViolation, ContractWarning, MockMcpError
from mock_mcp.exchange import HttpResponse, TransportFailure
from mock_mcp.recordings.bodies import Budget, Unusable, header_map, recorded_response
from mock_mcp.recordings.format import RecordedInteraction, RecordedResponse
from mock_mcp.recordings.store import RecordingFile
from mock_mcp.scope.call import Call
from mock_mcp.scope.ruling import Ruling, rule
from mock_mcp.types import Mock, Violation

if TYPE_CHECKING:
    from mock_mcp.contract.gate import Verdict

__all__ = ["ApiDrift", "LiveAnswers", "UnrecordableAnswer"]

_WARNED_FRAMES = 6
"""Frames between the check that warns and the HTTP library's call."""


class ApiDrift(ContractViolation):
    """An answer of the real API breaks its contract; the test is not at fault.

    ``operation`` is the contract's name for the call, else its method and URL; ``status`` is that
    of the answer.
    """

    code = "api-drift"
    rpc_code = None

    def __init__(
        self, what: str, operation: str, status: int, violations: Sequence[Violation]
    ) -> None:
        self.operation = operation
        self.status = status
        head = f"The API has drifted from its contract: {what} was really answered with {status}."
        advice = (
            "The code under test got this answer. It is not recorded where the contract is "
            "enforced: correct the contract, or the API."
        )
        super().__init__("\n".join([head, *_lines(violations), advice]), violations)

    @property
    def summary(self) -> str:
        """The finding alone: the same for every call that meets it."""
        head = f"{self.operation} really answers {self.status}"
        return "\n".join([head, *_lines(self.violations)])


class UnrecordableAnswer(MockMcpError):
    """A real answer cannot be recorded so that it replays; the message says why."""

    code = "unrecordable-answer"


class LiveAnswers:
    """The real answers that one scope got.

    Args:
        file: The scope's recording; None records nothing.
        noted: Keeps errors for the end of the test.

    Attributes:
        drifts: What broke the contract.
        notes: Lines for the summary of the run.
    """

    def __init__(self, file: RecordingFile | None, noted: AbstractContextManager[None]) -> None:
        self.drifts: list[ApiDrift] = []
        self.notes: list[str] = []
        self._file = file
        self._noted = noted

    @contextlib.contextmanager
    def sending(self, call: Call) -> Iterator[None]:
        """Really make a call; note that it got no answer when it fails, or is given up."""
        try:
            yield
        except TransportFailure as failure:
            self._note(call, failure.message)
            raise
        except MockMcpError:
            raise
        except BaseException as error:
            self._note(call, type(error).__name__)
            raise

    def _note(self, call: Call, reason: str) -> None:
        self.notes.append(
            f"{call.name}: the real API gave no answer ({reason}); nothing of this call is "
            "recorded."
        )

    def take(self, call: Call, response: HttpResponse, police: Police) -> HttpResponse:
        """Check and stage an answer; return it, for it is delivered in any case."""
        call.source, call.status = "live", response.status
        with contextlib.suppress(MockMcpError), self._noted:
            self._stage(call, response, police)
        return response

    def _stage(self, call: Call, response: HttpResponse, police: Police) -> None:
        answer = _recorded(call, response)
        call.data = _data(answer)
        ruling = rule(police, call.wire, call.name)
        verdict = None if ruling is None else _judge(ruling, answer)
        if ruling is not None and verdict is not None and verdict.violations:
            operation = verdict.operation or call.name
            drift = ApiDrift(call.name, operation, answer.status, verdict.violations)
            self.drifts.append(drift)
            if ruling.mode == "enforce":
                raise drift
            warnings.warn(drift.message, ContractWarning, stacklevel=_WARNED_FRAMES)
        if self._file is None:
            return
        staged = self._file.stage(
            RecordedInteraction(
                call.recorded,
                "live",
                answer,
                contract=None if verdict is None else verdict.contract_hash,
                operation=None if verdict is None else verdict.operation,
            ),
            order=call.number,
            replaces=call.replaces,
            response_headers=(
                () if ruling is None else ruling.source.declared_headers(answer.status)
            ),
        )
        if ruling is not None and staged is not None and staged.response is not None:
            again = _judge(ruling, staged.response)
            if again.violations and ruling.mode == "enforce":
                head = (
                    f"The real answer to {call.name} fits the contract, but as it is recorded, "
                    "without its secrets, it does not:"
                )
                advice = "Have before_record put a value there that fits and is no secret."
                raise UnrecordableAnswer("\n".join([head, *_lines(again.violations), advice]))


def _recorded(call: Call, response: HttpResponse) -> RecordedResponse:
    """Return an answer as it is recorded, before it is redacted.

    Raises:
        UnrecordableAnswer: A replay could not give it.
    """
    is_head = call.method.upper() == "HEAD"
    headers = header_map(response.headers, keep_length=is_head)
    try:
        body = Budget().unpack(response.body, response.header("content-encoding"))
        return recorded_response(call.recorded, response.status, headers, body)[0]
    except Unusable as exc:
        raise UnrecordableAnswer(
            f"The real answer to {call.name} cannot be recorded: {exc.reason}. The code under "
            "test got it as it is; answer this call by hand (add_response), or let its host "
            "through (passthrough)."
        ) from None


def _judge(ruling: Ruling, answer: RecordedResponse) -> Verdict:
    """Return what the contract says of an answer.

    Raises:
        MockMcpError: The contract cannot be used.
    """
    mock = Mock(ruling.wire["requestId"], _data(answer), answer.status, answer.headers)
    verdict = ruling.verdict(mock)
    if verdict.error is not None:
        raise verdict.error
    return verdict


def _data(answer: RecordedResponse) -> object:
    return None if answer.body is msgspec.UNSET else answer.body


def _lines(violations: Sequence[Violation]) -> list[str]:
    return [f"  {found.pointer}: {found.advice}" for found in violations]
