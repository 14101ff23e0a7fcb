"""The values a run has used already, so that a user created in one call is the user read next.

Strategy: of every answer that reached a test, a few identifying values are kept (ids, names, codes;
with the method and URL they belong to), and of a body that was sent its plain values too. They are
shown to whoever claims the run's next batch. What is looked at and what is kept is bounded, for
bodies may be large; the values are a help, never a promise, and end with the run.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest, UsedValues

__all__ = ["UsedByRun"]

_PARTS = 200
"""Parts of one body that are looked at."""
_DEPTH = 4
_ITEMS = 3
"""Items of one list that are looked at."""
_CHARS = 80
"""Longest value that identifies something, and longest name of its field."""
_URL_CHARS = 300
_BODY_BYTES = 16 * 1024
"""Largest request body that is looked at."""

_READING = ("GET", "HEAD")
_LAST_WORD = re.compile(r"([A-Z]?[a-z]+|[A-Z]+)\d*$")
_IDENTIFYING = frozenset(
    (
        *("id", "ids", "uuid", "guid", "slug", "sku", "key", "code", "ref", "reference", "number"),
        *("name", "username", "login", "handle", "email", "title"),
    )
)


class _Sent(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw()


_decode_sent = msgspec.json.Decoder(_Sent).decode


class UsedByRun:
    """What each run has used.

    Args:
        limits: ``used_answers`` and ``used_values`` apply here.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._runs: dict[str, OrderedDict[tuple[str, str, str], UsedValues]] = {}

    def note(self, run_id: str, requests: Sequence[MockRequest], mocks: Sequence[Mock]) -> None:
        """Keep what identifies these answers; of what was only read the last answer counts."""
        by_id = {mock.request_id: mock for mock in mocks}
        kept = self._runs.setdefault(run_id, OrderedDict())
        for request in requests[-self._limits.used_answers :]:
            mock = by_id[request.request_id]
            used = UsedValues(
                request.method,
                request.endpoint[:_URL_CHARS],
                dict(islice(_sent(request), self._limits.used_values)),
                mock.status or 200,
                dict(islice(_identifying(mock.data), self._limits.used_values)),
            )
            if not used.sent and not used.answer:
                continue
            key = (used.method, used.endpoint, "")
            if used.method not in _READING:  # each call may create something of its own
                key = (*key[:2], f"{used.sent}{used.answer}")
            kept[key] = used
            kept.move_to_end(key)
        while len(kept) > self._limits.used_answers:
            kept.popitem(last=False)

    def of(self, run_id: str) -> list[UsedValues]:
        """Return what a run has used, the latest last."""
        return [*self._runs.get(run_id, {}).values()]

    def forget(self, run_id: str) -> None:
        """Drop what a run used; it ended."""
        self._runs.pop(run_id, None)


def _sent(request: MockRequest) -> Iterator[tuple[str, Any]]:
    """Yield the plain values of a request's body, and what identifies something deeper in it."""
    raw = bytes(_decode_sent(request.json).body)
    if not 2 < len(raw) <= _BODY_BYTES:
        return
    body = msgspec.json.decode(raw)
    if isinstance(body, dict) and isinstance(form := body.get("$form"), dict):
        body = form
    if not isinstance(body, dict):
        yield from _identifying(body)
        return
    plain = {
        name
        for name, value in body.items()
        if len(name) <= _CHARS and _is_short(value) and not _is_secret(name)
    }
    yield from ((name, body[name]) for name in sorted(plain))
    yield from _identifying({name: value for name, value in body.items() if name not in plain})


def _identifying(body: Any) -> Iterator[tuple[str, Any]]:
    """Yield paths and values of the fields whose name says that they identify, shallow first."""
    level: list[tuple[str, Any]] = [("", body)]
    left = _PARTS
    for _ in range(_DEPTH):
        following: list[tuple[str, Any]] = []
        for path, part in level:
            if isinstance(part, list):
                following += [(f"{path}[{n}]", item) for n, item in enumerate(part[:_ITEMS])]
            elif isinstance(part, dict):
                for name, value in part.items():
                    left -= 1
                    if left < 0:
                        return
                    if len(name) > _CHARS:  # text where a name should be
                        continue
                    where = f"{path}.{name}" if path else name
                    if isinstance(value, dict | list):
                        following.append((where, value))
                    elif _is_short(value) and _identifies(name):
                        yield where, value
        level = following


@lru_cache(maxsize=4096)
def _identifies(name: str) -> bool:
    found = _LAST_WORD.search(name)
    return found is not None and found[1].lower() in _IDENTIFYING and not _is_secret(name)


def _is_short(value: Any) -> bool:
    return (isinstance(value, str) and 0 < len(value) <= _CHARS) or isinstance(value, int | float)


def _is_secret(name: str) -> bool:
    # Imported with the first answer: a daemon is ready before that.
    from mock_mcp.recordings.redact import is_secret

    return is_secret(name)
