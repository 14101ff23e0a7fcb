"""A call that no recording answers explains itself.

The explanation compares keys, as the search did, so it names exactly what kept the call from
matching: the nearest recorded call is the one with which it shares most, the path first.
Everything shown is cleaned of secrets and bounded.
"""

from __future__ import annotations

import json
import shlex
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from mock_mcp.errors import MockMcpError
from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest
from mock_mcp.recordings.match import Key
from mock_mcp.recordings.renamed import left_behind
from mock_mcp.recordings.store import Recorded, RecordingFile
from mock_mcp.words import cut

__all__ = [
    "Cause",
    "Difference",
    "RecordingMiss",
    "Repair",
    "explain_miss",
    "repair_command",
    "repair_of_block",
    "source_of",
]

Repair = Callable[[str], str]
"""Takes a source (``ai``, ``example``, ``live``); returns the command that obtains from it."""

Cause = Literal["request-changed", "contract-changed", "used-up", "not-recorded", "no-recording"]

EXCERPT_CHARS = 100
LEAD_CHARS = 30
"""What is shown before the first difference of two long values."""
DIFFERENCES_SHOWN = 8
IGNORABLE_SHOWN = 3
_COMPARED_BODIES = 20
"""How many equally near calls are compared field by field to choose among them."""
_WEIGHTS = {"path": 8, "method": 4, "host": 4, "body": 2, "query": 2}
_ABSENT: Any = object()
_CAUSES: dict[Cause, str] = {
    "request-changed": "The request changed since it was recorded.",
    "contract-changed": "The contract changed since it was recorded, or the recording was edited.",
    "used-up": "It was recorded, but every recorded answer to it is used up.",
    "not-recorded": "No call like it was recorded.",
    "no-recording": "Nothing is recorded yet.",
}


class Difference(NamedTuple):
    """One field that differs: its path (``query.page``, ``body.items.0.id``) and both values."""

    field: str
    recorded: str
    now: str


class RecordingMiss(MockMcpError):
    """No recorded interaction answers a request.

    Args:
        request: The request, cleaned of secrets.
        file: The recording, as text a person recognises.
        cause: Why.
        repair: The command that obtains the missing answer.
        nearest: The recorded call that is most like it, as text.
        differences: How the request differs from the nearest one.
        details: More lines for the reader, such as what in the contract is broken.
    """

    code = "recording-miss"

    def __init__(
        self,
        request: RecordedRequest,
        file: object,
        cause: Cause,
        repair: str,
        *,
        nearest: str | None = None,
        differences: Sequence[Difference] = (),
        details: Sequence[str] = (),
    ) -> None:
        self.request = request
        self.file = str(file)
        self.cause: Cause = cause
        self.repair = repair
        self.nearest = nearest
        self.differences = tuple(differences)
        super().__init__("\n".join(self._lines(details)))

    @property
    def data(self) -> Mapping[str, Any]:
        """The call, the cause, the nearest recorded call with its differences, the repair."""
        return {
            "method": self.request.method,
            "url": self.request.url,
            "file": self.file,
            "cause": self.cause,
            "nearest": self.nearest,
            "differences": [difference._asdict() for difference in self.differences],
            "repair": self.repair,
        }

    def _lines(self, details: Sequence[str]) -> Iterator[str]:
        if self.cause == "contract-changed":
            yield f"The recorded answer to {_call(self.request)} no longer fits the contract"
        else:
            yield f"No recorded answer for {_call(self.request)}"
        if self.request.body is not msgspec.UNSET:
            yield f"  with body {_excerpt(self.request.body)}"
        yield f"{_CAUSES[self.cause]} Recording: {self.file}"
        yield from details
        if self.nearest is not None:
            yield f"Nearest recorded call: {self.nearest}"
            for field, recorded, now in self.differences[:DIFFERENCES_SHOWN]:
                yield f"  {field}: recorded {recorded}, now {now}"
            if (more := len(self.differences) - DIFFERENCES_SHOWN) > 0:
                yield f"  and {more} more"
            if self.cause == "request-changed" and (ignore := self._ignorable()):
                yield (
                    f"If that is new in each run, do not compare it: ignore = {json.dumps(ignore)} "
                    "in [tool.mock-mcp] or the marker."
                )
        others = "" if self.cause == "no-recording" else " and keep the others"
        yield f"To obtain the answer{others}: {self.repair}"

    def _ignorable(self) -> list[str]:
        """Return the fields as ``ignore`` names them, where nothing but a few values differs."""
        body, names = self.request.body, []
        for field, *values in self.differences:
            place, dot, name = field.partition(".")
            if not dot or _text(_ABSENT) in values:
                return []
            if place == "body" and isinstance(body, dict) and "$multipart" in body:
                return []  # its parts are named in another way
            names.append(f"{place}:{name}")
        return names if len(names) <= IGNORABLE_SHOWN else []


def repair_command(source: str, node_id: str | None = None) -> str:
    """Return the command that obtains what a recording lacks.

    Args:
        source: Where from: ``ai``, ``example`` or ``live``.
        node_id: The test; every test when None.
    """
    command = "MOCK_MCP=1 pytest" if source == "ai" else f"pytest --mock-source={source}"
    test = f" {shlex.quote(node_id)}" if node_id else ""
    return f"{command} --mock-mode=new_episodes{test}"


def repair_of_block(source: str, name: str) -> str:
    """Return how to obtain what the recording of a `mock_mcp.intercept` block lacks."""
    if source == "ai":
        return f"MOCK_MCP=1, with mode='new_episodes' given to intercept({name!r})"
    return f"mode='new_episodes' and source={source!r} given to intercept({name!r})"


def source_of(recorded: Iterable[RecordedInteraction], chosen: str) -> str:
    """Return the source that recorded answers came from; ``chosen`` when that does not tell."""
    sources = {interaction.source for interaction in recorded}
    return sources.pop() if len(sources) == 1 and not sources & {"hand"} else chosen


def explain_miss(
    file: RecordingFile, request: RecordedRequest, repair: str, *, details: Sequence[str] = ()
) -> RecordingMiss:
    """Return the error for a request that `RecordingFile.find` did not answer.

    Args:
        file: The recording that was asked.
        request: The request that was made.
        repair: The command that obtains the answer (`repair_command`).
        details: More lines for the reader.

    Raises:
        RecordingError: The recording cannot be read.
    """
    cleaned = file.redaction.request(request)
    prepared = file.matching.prepare(cleaned)
    recorded = file.recorded()
    if not recorded:
        if (hint := left_behind(file, request)) is not None:
            details = (*details, hint)
        return RecordingMiss(cleaned, file.path, "no-recording", repair, details=details)
    if prepared is None:
        details = ("The before_match hook left it out of matching.", *details)
        return RecordingMiss(cleaned, file.path, "not-recorded", repair, details=details)
    parts, key = file.matching.parts, file.matching.key(prepared)
    equal = [item for item in recorded if item.key == key]
    if equal and all(item.used for item in equal):
        times = "once" if len(equal) == 1 else f"{len(equal)} times"
        details = (f"It is recorded {times}; this is call number {len(equal) + 1}.", *details)
        return RecordingMiss(cleaned, file.path, "used-up", repair, details=details)
    number, nearest = _nearest(parts, key, recorded)
    differences = list(_differences(parts, nearest.key or (), key))
    if not differences:
        names = ", ".join(_name(matcher) for matcher in file.matching.matchers)
        differences = [Difference("match", "a request that satisfies it", f"refused by {names}")]
    cause: Cause = "request-changed" if _alike(parts, nearest.key or (), key) else "not-recorded"
    state = f"number {number} of {len(recorded)}, {'used' if nearest.used else 'unused'}"
    return RecordingMiss(
        cleaned,
        file.path,
        cause,
        repair,
        nearest=f"{_call(nearest.interaction.request)} ({state})",
        differences=differences,
        details=details,
    )


# -- The nearest recorded call ----------------------------------------------------------------


def _nearest(parts: Sequence[str], key: Key, recorded: Sequence[Recorded]) -> tuple[int, Recorded]:
    """Return the number, from 1, and the interaction that shares most; an unused one if equal."""
    numbered = list(enumerate(recorded, 1))
    scores = [_score(parts, item.key, key) for item in recorded]
    best = max(scores)
    candidates = [item for item, score in zip(numbered, scores, strict=True) if score == best]

    def distance(candidate: tuple[int, Recorded]) -> tuple[int, bool]:
        item = candidate[1]
        return sum(1 for _ in _differences(parts, item.key or (), key)), item.used

    return min(candidates[:_COMPARED_BODIES], key=distance)


def _score(parts: Sequence[str], recorded: Key | None, now: Key) -> float:
    if recorded is None:
        return -1.0
    score = 0.0
    for part, one, other in zip(parts, recorded, now, strict=True):
        if one == other:
            score += _WEIGHTS.get(part, 1)
        elif part == "path":
            score += _WEIGHTS["path"] * _path_likeness(one, other) / 2
    return score


def _path_likeness(one: str, other: str) -> float:
    """Return the share of equal segments; paths of different length share only their beginning."""
    ones, others = one.strip("/").split("/"), other.strip("/").split("/")
    same = sum(a == b for a, b in zip(ones, others, strict=False))
    return same / max(len(ones), len(others))


def _alike(parts: Sequence[str], recorded: Key, now: Key) -> bool:
    """Return whether two keys look like one call that changed.

    They do with the same host and the same path, or the same method and half of the path.
    """
    pairs = {part: (a, b) for part, a, b in zip(parts, recorded, now, strict=False)}
    host, method, path = (pairs.get(part, ("", "")) for part in ("host", "method", "path"))
    return host[0] == host[1] and (
        path[0] == path[1] or (method[0] == method[1] and _path_likeness(*path) >= 0.5)
    )


# -- Differences ------------------------------------------------------------------------------


def _differences(parts: Sequence[str], recorded: Key, now: Key) -> Iterator[Difference]:
    for part, one, other in zip(parts, recorded, now, strict=False):
        if one == other:
            continue
        if part == "query":
            yield from _compare("query", _grouped(one), _grouped(other))
        elif part == "body":
            yield from _compare("body", _body(one), _body(other))
        elif part.startswith("headers:"):
            yield from _compare("headers", _grouped(one), _grouped(other))
        else:
            yield from _compare(part, one, other)


def _compare(field: str, recorded: Any, now: Any) -> Iterator[Difference]:
    if isinstance(recorded, dict) and isinstance(now, dict):
        for name in [*recorded, *(name for name in now if name not in recorded)]:
            inner = field if name in ("$form", "$multipart") else f"{field}.{name}"
            yield from _compare(inner, recorded.get(name, _ABSENT), now.get(name, _ABSENT))
    elif isinstance(recorded, list) and isinstance(now, list):
        for index in range(max(len(recorded), len(now))):
            one = recorded[index] if index < len(recorded) else _ABSENT
            other = now[index] if index < len(now) else _ABSENT
            yield from _compare(f"{field}.{index}", one, other)
    elif _text(recorded) != _text(now):
        yield Difference(field, *_excerpts(_text(recorded), _text(now)))


def _grouped(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a key by name: one value as it is, several as a list."""
    groups: dict[str, list[Any]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in groups.items()}


def _body(text: bytes | None) -> Any:
    return _ABSENT if text is None else msgspec.json.decode(text)


def _text(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)


def _excerpt(value: Any) -> str:
    return cut(_text(value), EXCERPT_CHARS)


def _excerpts(one: str, other: str) -> tuple[str, str]:
    """Return so much of two different texts that the reader sees the first difference."""
    shortest = min(len(one), len(other))
    equal = bisect_left(range(1, shortest + 1), True, key=lambda end: one[:end] != other[:end])
    if equal < EXCERPT_CHARS - LEAD_CHARS:
        return cut(one, EXCERPT_CHARS), cut(other, EXCERPT_CHARS)
    start = equal - LEAD_CHARS
    return cut(f"…{one[start:]}", EXCERPT_CHARS), cut(f"…{other[start:]}", EXCERPT_CHARS)


def _call(request: RecordedRequest) -> str:
    return f"{request.method} {cut(request.url, 2 * EXCERPT_CHARS)}"


def _name(matcher: object) -> str:
    return str(getattr(matcher, "__qualname__", matcher))
