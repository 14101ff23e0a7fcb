"""Bodies that are one item after another: server-sent events, JSON lines, JSON text sequences.

OpenAPI 3.2 calls their media types sequential. On the wire such a body is a text; wherever it is
read or written by people and assistants it is the list of its items, each a JSON value. The item of
``text/event-stream`` is an event with its fields, ``{"event", "data", "id", "retry"}``, and its
data is a JSON value. A text in place of a JSON value is what stands there, character for character:
``[DONE]``, a comment, a line that is not JSON or not written as this module writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from mock_mcp.media_types import base_type

__all__ = [
    "EVENT_STREAM",
    "exact_items",
    "is_event",
    "is_event_stream",
    "is_sequential",
    "join",
    "listed",
    "read_item",
    "split",
]

EVENT_STREAM = "text/event-stream"

_LINE_TYPES = frozenset(("jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "ndjson", "x-ndjson"))
_FIELDS = frozenset(("data", "event", "id", "retry"))


class _Format(NamedTuple):
    """How a body is cut into pieces, what a piece may mean, and how an item is written.

    The pieces together are the text. ``meanings`` yields the plainest first, and nothing for a
    piece that is no item.
    """

    cut: Callable[[str], list[str]]
    meanings: Callable[[str], Iterator[Any]]
    write: Callable[[Any], str]


def is_sequential(media_type: str | None) -> bool:
    """Say whether bodies of this media type are one item after another."""
    return media_type is not None and _format(media_type) is not None


def is_event_stream(media_type: str) -> bool:
    """Say whether bodies of this media type are server-sent events."""
    return _format(media_type) is _EVENTS


def is_event(item: Any) -> bool:
    """Say whether an item is an event with its fields, not the data of one."""
    return isinstance(item, dict) and "data" in item and item.keys() <= _FIELDS


def split(text: str, media_type: str) -> list[Any]:
    """Return the items of a body of a sequential media type; a piece that is not JSON is itself."""
    form = _known(media_type)
    found = (next(form.meanings(piece), _NOTHING) for piece in form.cut(text))
    return [item for item in found if item is not _NOTHING]


def exact_items(text: str, media_type: str) -> list[Any] | None:
    """Return items of which `join` makes this very text; None when there are none."""
    form = _known(media_type)
    items = []
    for piece in form.cut(text):
        meanings = (*form.meanings(piece), _trimmed(piece), piece)
        item = next((each for each in meanings if form.write(each) == piece), _NOTHING)
        if item is _NOTHING:
            return None  # the end is missing
        items.append(item)
    return items or None


def listed(body: Any, media_type: str | None) -> Any:
    """Return a body as people read it: the items of a sequential text, every other as it is."""
    if not isinstance(body, str) or media_type is None or not is_sequential(media_type):
        return body
    return exact_items(body, media_type) or body


def join(items: Iterable[Any], media_type: str) -> str:
    """Return the body that has these items.

    Raises:
        TypeError, ValueError, RecursionError: An item cannot be written as JSON.
    """
    return "".join(map(_known(media_type).write, items))


def read_item(value: Any) -> Any:
    """Return the JSON value of an item or of an event's data, which a text may spell.

    Raises:
        ValueError: The text is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except RecursionError:
        raise ValueError("nested too deep") from None


_NOTHING = object()


# -- Lines and text sequences -----------------------------------------------------------------


def _values(piece: str) -> Iterator[Any]:
    piece = _trimmed(piece)
    try:
        value = read_item(piece)
    except ValueError:
        value = piece
    if not isinstance(value, str):
        yield value
    if piece:
        yield piece


def _line(item: Any) -> str:
    text = _as_text(item)
    return text if text.endswith("\n") else f"{text}\n"


def _record(item: Any) -> str:
    """Return a text of a sequence (RFC 7464), which begins with a record separator."""
    text = _as_text(item)
    return text if text.startswith("\x1e") else f"\x1e{text}\n"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _trimmed(piece: str) -> str:
    return piece.strip("\x1e\r\n\ufeff")


# -- Server-sent events (HTML, section 9.2.6) -------------------------------------------------


def _events(block: str) -> Iterator[Any]:
    fields: dict[str, Any] = {}
    for line in _LINE_BREAK.split(_trimmed(block)):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in fields:
            fields["data"] += f"\n{value}"
        elif name == "retry" and value.isdecimal():
            fields["retry"] = int(value)
        elif name in ("data", "event", "id"):
            fields[name] = value
    if "data" in fields:
        data = [*_values(fields["data"]), fields["data"]]
        yield from ({**fields, "data": each} for each in data)


def _block(item: Any) -> str:
    """Return an event as it is written; an item that is no event is the data of one."""
    if isinstance(item, str) and (":" in item or not item.strip()):
        return item if _BLANK_LINE.search(item) else f"{item}\n\n"
    fields = item if is_event(item) else {"data": item}
    lines = [
        f"{name}: {line}" for name, value in fields.items() for line in _as_text(value).split("\n")
    ]
    return "\n".join([*lines, "", ""])


# -- Formats ----------------------------------------------------------------------------------

_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_BLANK_LINE = re.compile(r"(?>\r\n|\n|\r){2,}\Z")

_EVENTS = _Format(
    re.compile(r".+?(?:(?>\r\n|\n|\r){2,}|\Z)", re.DOTALL).findall,
    _events,
    _block,
)
_LINES = _Format(re.compile(r"[^\n]*\n|[^\n]+").findall, _values, _line)
_RECORDS = _Format(re.compile(r"\x1e[^\x1e]*|[^\x1e]+").findall, _values, _record)


@lru_cache(maxsize=256)
def _format(media_type: str) -> _Format | None:
    kind = base_type(media_type)
    if kind == EVENT_STREAM:
        return _EVENTS
    name = kind.rpartition("/")[2].rpartition("+")[2]  # application/vnd.example+x-ndjson
    if name in _LINE_TYPES:
        return _LINES
    return _RECORDS if name == "json-seq" else None


def _known(media_type: str) -> _Format:
    form = _format(media_type)
    assert form is not None, f"{media_type} is not sequential"
    return form
