"""What the assistant reads: batches, statuses and errors as bounded JSON.

Three things keep a claim small. Contracts are condensed, each distinct one once. A value that many
requests of a batch repeat (a schema, instructions, headers) is carried once: it moves to ``shared``
and leaves ``{"$shared": "s1"}`` behind. And what is still too much is cut, the largest parts first
and contracts last, and says so. Binary data tells a model nothing: its beginning and its size do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mock_mcp.errors import ContractViolation, MockMcpError
from mock_mcp.serving.text import dump
from mock_mcp.types import Claim, HistoryEntry, TestMeta, UsedValues, Violation

if TYPE_CHECKING:
    from mock_mcp.serving.contracts import BatchContracts

__all__ = [
    "RESULT_CHARS",
    "USED_CHARS",
    "batch_view",
    "bounded",
    "claim_view",
    "error_text",
    "summary",
    "test_view",
    "violations_text",
]

RESULT_CHARS = 60_000
"""Length of the longest result: under 25k tokens, what clients pass on to their model."""
USED_CHARS = 4_000
"""Length of what is said of the run's earlier answers."""
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

BINARY_CHARS = 200
"""Length from which binary data in a body is shown by its beginning."""
BEGINNING_CHARS = 40
"""That of the beginning: what identifies a kind of file, and more."""

_TYPED = ("requestId", "endpoint", "method")
_SAID = ("contract", "contractMode", "unchecked")


def test_view(test: TestMeta | None, requests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the test's file and name, as far as the run or all of its requests name them."""
    found = {"file": test.test_file, "name": test.test_name} if test else {}
    return {key: value for key, value in found.items() if value} | _named_by(requests)


def claim_view(
    claim: Claim,
    test: TestMeta | None,
    shown: Mapping[str, Any],
    used: Sequence[UsedValues],
    *,
    used_chars: int = USED_CHARS,
) -> dict[str, Any]:
    """Return what a responder reads of a batch it claimed, but for how to answer it.

    Args:
        claim: The claim.
        test: The test of the run, if the run says.
        shown: The batch, made by `batch_view`.
        used: What the run has used already.
        used_chars: Length of what is said of it.
    """
    said = _used_view(used, used_chars)
    return {
        "batchId": claim.batch_id,
        "claimToken": claim.claim_token,
        "leaseUntil": claim.lease_until,
        "runId": claim.run_id,
        "test": test_view(test, claim.requests),
        "attempts": claim.attempts,
        "history": _history_view(claim.history),
        **({"used": said} if said else {}),
        **shown,
    }


def _used_view(used: Sequence[UsedValues], chars: int = USED_CHARS) -> list[dict[str, Any]]:
    """Return what a run has used already, the latest calls that fit in ``chars``, in order."""
    views = (
        {
            "call": f"{each.method} {each.endpoint}",
            **({"sent": each.sent} if each.sent else {}),
            **({"status": each.status} if each.status != 200 else {}),
            **({"answer": each.answer} if each.answer else {}),
        }
        for each in reversed(used)
    )
    return bounded(views, chars)[0][::-1]


def batch_view(
    requests: Sequence[Mapping[str, Any]],
    contracts: BatchContracts | None = None,
    *,
    chars: int = RESULT_CHARS,
) -> dict[str, Any]:
    """Return ``requests``, ``shared`` and ``contracts`` of a batch, cut to ``chars``.

    ``shared`` and ``contracts`` are there if they hold something; ``notShown`` counts requests
    there was no room for.

    Args:
        requests: The wire objects.
        contracts: What their contracts say; they are shown as they are when None.
        chars: Length of the view's JSON.
    """
    requests = [_without_binary(item) for item in requests]
    shown: Sequence[Mapping[str, Any]] = requests
    views: dict[str, Any] = {}
    for inline, is_cut in ((True, False), (False, False), (False, True)):
        if contracts is not None:
            shown, views = contracts.annotate(requests, inline=inline, room=chars * 2 // 3)
        if is_cut:
            shown = [{key: _cut(key, value) for key, value in item.items()} for item in shown]
        view = _share(shown)
        if views:
            view["contracts"] = views
        if len(dump(view)) <= chars:
            return view
    if contracts is not None and len(dump([*map(_brief, shown), views])) > chars:
        # Contracts can be opened one by one, requests cannot: these come first now.
        shown, _ = contracts.annotate(requests, inline=False, room=0)
        room = chars - len(dump([*map(_brief, shown)]))
        shown, views = contracts.annotate(requests, inline=False, room=room)
    briefs, hidden = bounded(map(_brief, shown), chars - len(dump(views)))
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
    return (
        f"{violations_text(error)}\nYou still hold the batch. Correct the mocks named above and "
        "call provide_batch_mock_data again with the same batchId and claimToken; only the "
        "corrected mocks are needed."
    )


def violations_text(error: ContractViolation) -> str:
    """Return what is wrong with mocks, and which were right."""
    lines = [
        "Nothing was delivered: the mocks break the API's contract.",
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
    return "\n".join(lines)


def _history_view(history: Sequence[HistoryEntry]) -> list[dict[str, str]]:
    """Return how earlier claims ended; who made them is of no use to an assistant."""
    return [
        {"outcome": entry.outcome, "reason": entry.reason}
        if entry.reason
        else {"outcome": entry.outcome}
        for entry in history
    ]


def _named_by(requests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return name and file of the test, if all requests name the same one."""
    metadata = [request.get("metadata") for request in requests]
    tests = [each.get("test") if isinstance(each, dict) else None for each in metadata]
    test = tests[0] if tests else None
    if not isinstance(test, dict) or any(other != test for other in tests):
        return {}
    names = {"file": test.get("testFile"), "name": test.get("testName")}
    return {key: value for key, value in names.items() if isinstance(value, str)}


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


def _without_binary(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request with the size of the binary data in its body in the place of the data."""
    if "body" not in request or '"$base64"' not in dump(request["body"]):
        return request
    return {**request, "body": _sized(request["body"])}


def _sized(value: Any) -> Any:
    if isinstance(value, list):
        return [_sized(item) for item in value]
    if not isinstance(value, dict):
        return value
    shown = {name: _sized(part) for name, part in value.items()}
    data = value.get("$base64")
    if isinstance(data, str) and len(data) > BINARY_CHARS:
        size = len(data) * 3 // 4 - data[-2:].count("=")
        shown["$base64"] = {"$cut": data[:BEGINNING_CHARS], "bytes": size}
    return shown


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
