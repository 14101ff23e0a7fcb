"""What a responder says: events, as lines for people or as JSON for programs, and totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mock_mcp.responders.source import Usage
from mock_mcp.serving.claims import Next
from mock_mcp.serving.view import test_view
from mock_mcp.types import Provided
from mock_mcp.words import counted, some

__all__ = [
    "Answered",
    "Corrected",
    "Event",
    "NotAnswered",
    "Totals",
    "Unwanted",
    "event_json",
    "event_lines",
]

CALLS_SHOWN = 3
PROBLEM_LINES = 10


@dataclass(frozen=True, slots=True)
class Answered:
    """A batch was answered, after some corrections."""

    found: Next
    corrections: int
    provided: Provided


@dataclass(frozen=True, slots=True)
class Corrected:
    """An answer was refused and is being corrected, for the ``number``-th time of ``of``."""

    found: Next
    problem: str
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """A batch could not be answered."""

    found: Next
    reason: str


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The test stopped waiting while its batch was worked on; nothing was provided."""

    found: Next


Event = Answered | Corrected | NotAnswered | Unwanted


class Totals:
    """What a responder did, counted.

    Args:
        usage: What its source has cost.

    Attributes:
        price_in, price_out: The price of a million tokens read and written, in any currency.
    """

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self.price_in: float | None = None
        self.price_out: float | None = None
        self.batches = 0
        self.requests = 0
        self.corrections = 0
        self.failed = 0

    @property
    def cost(self) -> float | None:
        """What the tokens cost at the given prices; None when none was given."""
        if self.price_in is None and self.price_out is None:
            return None
        usage = self.usage
        total = usage.tokens_in * (self.price_in or 0) + usage.tokens_out * (self.price_out or 0)
        return total / 1_000_000

    def line(self) -> str:
        """Return the totals in one line."""
        parts = [f"{counted(self.requests, 'call')} answered in {counted(self.batches, 'batch')}"]
        if self.corrections:
            parts.append(counted(self.corrections, "correction"))
        if self.failed:
            parts.append(f"{counted(self.failed, 'batch')} not answered")
        usage = self.usage
        if usage.calls:
            parts.append(
                f"{counted(usage.calls, 'call')} of the model, {usage.tokens_in} tokens in, "
                f"{usage.tokens_out} out"
            )
        if self.cost is not None:
            parts.append(f"cost {self.cost:.4f} at the given prices")
        return "; ".join(parts)

    def json(self) -> dict[str, Any]:
        """Return the totals as JSON."""
        usage = self.usage
        fields: dict[str, Any] = {
            "event": "totals",
            "text": self.line(),
            "requests": self.requests,
            "batches": self.batches,
            "corrections": self.corrections,
            "failed": self.failed,
            "modelCalls": usage.calls,
            "tokensIn": usage.tokens_in,
            "tokensOut": usage.tokens_out,
        }
        return fields if self.cost is None else {**fields, "cost": self.cost}


def event_lines(event: Event) -> Iterator[str]:
    """Yield an event as lines for people."""
    what = f"{_calls(event.found)}{_test(event.found)}"
    match event:
        case Answered(corrections=corrections, provided=provided):
            after = f" after {counted(corrections, 'correction')}" if corrections else ""
            late = "" if provided.delivered else f" ({provided.message})"
            yield f"answered {what}{after}{late}"
            for violation in provided.warnings:
                yield f"  delivered all the same: {violation.pointer}: {violation.advice}"
            for reason in sorted(set(provided.unchecked.values())):
                yield f"  unchecked: {reason}"
        case Corrected(problem=problem, number=number, of=of):
            yield f"correcting {what} ({number} of {of})"
            yield from _indented(problem)
        case Unwanted():
            yield f"no longer waited for: {what}"
        case NotAnswered(reason=reason):
            yield f"not answered: {what}"
            yield from _indented(reason)


def event_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON."""
    found = event.found
    fields: dict[str, Any] = {
        "batchId": found.claim.batch_id,
        "runId": found.claim.run_id,
        "test": test_view(found.test, found.claim.requests),
        "requests": [
            {"method": request["method"], "endpoint": request["endpoint"]}
            for request in found.claim.requests
        ],
    }
    match event:
        case Answered(corrections=corrections, provided=provided):
            unchecked = provided.unchecked
            return {
                "event": "answered",
                **fields,
                "corrections": corrections,
                "delivered": provided.delivered,
                **({"unchecked": unchecked} if unchecked else {}),
            }
        case Corrected(problem=problem, number=number):
            return {"event": "correcting", **fields, "number": number, "problem": problem}
        case Unwanted():
            return {"event": "unwanted", **fields}
        case NotAnswered(reason=reason):
            return {"event": "not-answered", **fields, "reason": reason}


def _calls(found: Next) -> str:
    requests = found.claim.requests
    return some([f"{request['method']} {request['endpoint']}" for request in requests], CALLS_SHOWN)


def _test(found: Next) -> str:
    test = test_view(found.test, found.claim.requests)
    name = test.get("name") or test.get("file")
    return f" for {name}" if name else ""


def _indented(text: str) -> Iterator[str]:
    lines = text.splitlines()
    for line in lines[:PROBLEM_LINES]:
        yield f"  {line}"
    if len(lines) > PROBLEM_LINES:
        yield f"  … and {len(lines) - PROBLEM_LINES} more lines"
