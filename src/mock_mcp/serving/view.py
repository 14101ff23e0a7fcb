"""What the assistant reads: batches, statuses and errors as bounded JSON.

Three things keep a claim small. Contracts are condensed, each distinct one once. A value that many
requests of a batch repeat (a schema, instructions, headers) is carried once: it moves to ``shared``
and leaves ``{"$shared": "s1"}`` behind. And what is still too much is cut, the largest parts first
and contracts last, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mock_mcp.errors import ContractViolation, MockMcpError
from mock_mcp.serving.text import dump
from mock_mcp.types import HistoryEntry, TestMeta, Violation

if TYPE_CHECKING:
    from mock_mcp.serving.contracts import BatchContracts

__all__ = ["RESULT_CHARS", "batch_view", "bounded", "error_text", "summary", "test_view"]

RESULT_CHARS = 60_000
"""Length of the longest result: under 25k tokens, what clients pass on to their model."""
SHARED_CHARS = 80
"""Length from which a repeated value is worth a reference."""
SHARED_DEPTH = 3
"""How deep in a request repeated values are looked for: ``metadata.schema.response``."""
PART_CHARS = 4_000
"""Length to which one part of a request is cut when its batch is too long."""
BRIEF_CHARS = 200
"""The same where little more than a request's name is shown."""
VIOLATIONS = 50
"""Violations listed in one answer; the rest are counted."""

_TYPED = ("requestId", "endpoint", "method")
_SAID = ("contract", "contractMode", "unchecked")


def test_view(test: TestMeta | None) -> dict[str, str]:
    """Return the test's file and name, as far as they are known."""
    found = {"file": test.test_file, "name": test.test_name} if test else {}
    return {key: value for key, value in found.items() if value}


def batch_view(
    requests: Sequence[Mapping[str, Any]], contracts: BatchContracts | None = None
) -> dict[str, Any]:
    """Return ``requests``, ``shared`` and ``contracts`` of a batch, cut to `RESULT_CHARS`.

    ``shared`` and ``contracts`` are there if they hold something; ``notShown`` counts requests
    there was no room for.

    Args:
        requests: The wire objects.
        contracts: What their contracts say; they are shown as they are when None.
    """
    shown: Sequence[Mapping[str, Any]] = requests
    views: dict[str, Any] = {}
    for inline, is_cut in ((True, False), (False, False), (False, True)):
        if contracts is not None:
            shown, views = contracts.annotate(requests, inline=inline)
        if is_cut:
            shown = [{key: _cut(key, value) for key, value in item.items()} for item in shown]
        view = _share(shown)
        if views:
            view["contracts"] = views
        if len(dump(view)) <= RESULT_CHARS:
            return view
    if contracts is not None and len(dump([*map(_brief, shown), views])) > RESULT_CHARS:
        # Contracts can be opened one by one, requests cannot: these come first now.
        shown, _ = contracts.annotate(requests, inline=False, room=0)
        room = RESULT_CHARS - len(dump([*map(_brief, shown)]))
        shown, views = contracts.annotate(requests, inline=False, room=room)
    briefs, hidden = bounded(map(_brief, shown), RESULT_CHARS - len(dump(views)))
    view = {"requests": briefs, "contracts": views} if views else {"requests": briefs}
    return {**view, "notShown": hidden} if hidden else view


def summary(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies a request."""
    return {key: request[key] for key in _TYPED if key in request}


def bounded(
    items: Iterable[dict[str, Any]], chars: int = RESULT_CHARS
) -> tuple[list[dict[str, Any]], int]:
    """Return the first items whose JSON fits in ``chars``, and how many were left out."""
    shown: list[dict[str, Any]] = []
    hidden = 0
    for item in items:
        chars -= len(dump(item)) + 1 if not hidden else 0
        if hidden or chars < 0:
            hidden += 1
        else:
            shown.append(item)
    return shown, hidden


def error_text(error: MockMcpError) -> str:
    """Return an error in words an assistant can act on."""
    if not isinstance(error, ContractViolation):
        return error.message
    lines = [
        "Nothing was delivered: the mocks break the API's contract. You still hold the batch.",
        *map(_violation, error.violations[:VIOLATIONS]),
    ]
    if more := len(error.violations) - VIOLATIONS:
        lines += [f"- and {more} more violations"] if more > 0 else []
    if not error.violations:
        lines.append(error.message)
    if error.accepted:
        lines.append(
            f"Accepted and kept, no need to send again: {', '.join(error.accepted)[:2000]}."
        )
    lines.append(
        "Correct the mocks named above and call provide_batch_mock_data again with the same "
        "batchId and claimToken; only the corrected mocks are needed."
    )
    return "\n".join(lines)


def history_view(history: Sequence[HistoryEntry]) -> list[dict[str, str]]:
    """Return how earlier claims ended; who made them is of no use to an assistant."""
    return [
        {"outcome": entry.outcome, "reason": entry.reason}
        if entry.reason
        else {"outcome": entry.outcome}
        for entry in history
    ]


def _violation(violation: Violation) -> str:
    place = violation.pointer or "the whole answer"
    hint = f" {violation.hint}" if violation.hint else ""
    return (
        f"- request {violation.request_id}, {place} ({violation.keyword}): expected "
        f"{violation.expected}, got {violation.actual}.{hint}"
    )


def _brief(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies an annotated request, and what its contract is."""
    said = {key: _excerpt(request[key], BRIEF_CHARS) for key in _SAID if key in request}
    return {**summary(request), **said}


def _cut(key: str, value: Any) -> Any:
    if key in _TYPED or key in _SAID:
        return value
    if isinstance(value, dict) and len(dump(value)) > PART_CHARS:
        return {name: _excerpt(part) for name, part in value.items()}
    return _excerpt(value)


def _excerpt(value: Any, chars: int = PART_CHARS) -> Any:
    text = dump(value)
    if len(text) <= chars:
        return value
    return {"$cut": text[:chars], "chars": len(text)}


def _share(requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Replace what requests repeat by references into ``shared``."""
    counts: Counter[str] = Counter()
    for request in requests:
        counts.update(_parts(request, SHARED_DEPTH))
    shared: dict[str, Any] = {}
    names: dict[str, str] = {}

    def replace(value: Any, depth: int) -> Any:
        text = dump(value)
        if len(text) >= SHARED_CHARS and counts[text] > 1:
            if text not in names:
                names[text] = f"s{len(names) + 1}"
                shared[names[text]] = value
            return {"$shared": names[text]}
        if isinstance(value, dict) and depth:
            return {key: replace(part, depth - 1) for key, part in value.items()}
        return value

    shown = [
        {
            key: value if key in _TYPED else replace(value, SHARED_DEPTH - 1)
            for key, value in request.items()
        }
        for request in requests
    ]
    return {"requests": shown, "shared": shared} if shared else {"requests": shown}


def _parts(value: Mapping[str, Any], depth: int) -> Iterable[str]:
    for key, part in value.items():
        if depth == SHARED_DEPTH and key in _TYPED:
            continue
        text = dump(part)
        if len(text) >= SHARED_CHARS:
            yield text
            if isinstance(part, dict) and depth > 1:
                yield from _parts(part, depth - 1)
