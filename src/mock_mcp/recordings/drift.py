"""Which recordings no longer fit the contract, found without running a test.

Replay checks a call twice: the request when it is made, the recorded answer before it is handed
out. The same two checks are made here of what is written down. A recording holds less of a request
than the call had (few headers, no secrets), and what is not known is never held against it. So a
finding is a test that would fail; that nothing is found does not promise that it would pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

import msgspec

from mock_mcp.contract.pointer import split
from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest
from mock_mcp.recordings.redact import PLACEHOLDER
from mock_mcp.types import Mock, Violation

if TYPE_CHECKING:
    from mock_mcp.contract.gate import Verdict

__all__ = ["Fit", "Judge", "judge"]

_STRUCTURAL = frozenset(
    (
        *("required", "dependentRequired", "additionalProperties", "unevaluatedProperties"),
        *("minProperties", "maxProperties", "minItems", "maxItems"),
    )
)
"""Rules of an object or a list that hold or not, whatever the values in it are."""


class Judge(Protocol):
    """What is asked of the contract; `mock_mcp.contract.gate.Contracts` answers."""

    def check_request(self, request: Mapping[str, Any]) -> tuple[Violation, ...]:
        """Return what is wrong with a request."""

    def check_mock(self, request: Mapping[str, Any], mock: Mock) -> Verdict:
        """Return what is wrong with an answer."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What became of one interaction.

    Attributes:
        outcome: ``fits``, ``drifted``, or ``unchecked``: no contract says anything about it.
        reason: Why nothing was checked.
        operation: The contract's name for the call.
        request: What is wrong with the call: the code that makes it must change.
        response: What is wrong with the recorded answer: a new one must be obtained.
    """

    outcome: Literal["fits", "drifted", "unchecked"]
    reason: str | None = None
    operation: str | None = None
    request: tuple[Violation, ...] = ()
    response: tuple[Violation, ...] = ()


def judge(
    interaction: RecordedInteraction,
    contracts: Judge,
    *,
    documents: Sequence[Mapping[str, str]] = (),
    mode: str = "enforce",
) -> Fit:
    """Check one recorded interaction against the contract as it is now.

    Args:
        interaction: With its bodies in place.
        contracts: The project's contract.
        documents: The test's own documents, each with its absolute ``path``.
        mode: How the test treats violations: ``off`` checks nothing, and what ``warn`` let pass
            when it was recorded has not drifted.

    Raises:
        MockMcpError: A document that is needed cannot be used.
    """
    if mode == "off":
        return Fit("unchecked", 'contract is "off"')
    if interaction.contract is not None and interaction.operation is None:
        return Fit("unchecked", "the test itself gives the schema")
    wire = _wire(interaction.request)
    if documents:
        wire["contract"] = {"documents": list(documents)}
    asked = tuple(
        found
        for found in contracts.check_request(wire)
        if not _is_unknown(found, interaction.request)
    )
    verdict = _verdict(interaction, wire, contracts)
    if verdict is not None and verdict.error is not None:  # nobody judged it
        raise verdict.error
    operation = interaction.operation if verdict is None else verdict.operation
    told = () if verdict is None else verdict.violations
    if mode == "warn" and verdict is not None and _unchanged(verdict, interaction):
        return Fit("fits", operation=operation)
    if asked or told:
        return Fit("drifted", operation=operation, request=asked, response=told)
    if verdict is None or verdict.checked:
        return Fit("fits", operation=operation)
    return Fit("unchecked", verdict.unchecked_reason, operation)


def _verdict(
    interaction: RecordedInteraction, wire: Mapping[str, Any], contracts: Judge
) -> Verdict | None:
    """Return the verdict on the answer; None when the call ended without one."""
    response = interaction.response
    if response is None:
        return None
    body = None if response.body is msgspec.UNSET else response.body
    mock = Mock(wire["requestId"], body, response.status, response.headers)
    return contracts.check_mock(wire, mock)


def _unchanged(verdict: Verdict, interaction: RecordedInteraction) -> bool:
    return verdict.contract_hash is not None and verdict.contract_hash == interaction.contract


def _wire(request: RecordedRequest) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "requestId": "recorded",
        "endpoint": request.url,
        "method": request.method,
        "headers": request.headers,
    }
    if request.body is not msgspec.UNSET and request.body is not None:
        wire["body"] = request.body
    return wire


# -- What a recording cannot know -------------------------------------------------------------


def _is_unknown(found: Violation, request: RecordedRequest) -> bool:
    """Return whether a violation may come from what was not written down, or replaced."""
    place, *rest = split(found.pointer) or [""]
    if place in ("headers", "cookies"):
        return found.keyword == "required" or PLACEHOLDER in _texts(request.headers)
    if place == "query":
        query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
        named = [value for name, value in query if rest and name.partition("[")[0] == rest[0]]
        return PLACEHOLDER in named
    if place == "body" and found.keyword not in _STRUCTURAL:
        return PLACEHOLDER in _texts(_followed(request.body, rest))
    return False


def _followed(body: Any, tokens: Sequence[str]) -> Any:
    """Return the part of a body that a pointer names, or the nearest thing that holds it."""
    if isinstance(body, dict) and len(body) == 1 and "$form" in body:
        body = body["$form"]
    for token in tokens:
        if isinstance(body, dict) and token in body:
            body = body[token]
        elif isinstance(body, list) and token.isdecimal() and int(token) < len(body):
            body = body[int(token)]
        else:
            break
    return body


def _texts(value: Any) -> Collection[str]:
    return set(_walk(value))


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item)
