"""Sequential bodies (server-sent events, JSON lines), judged item by item.

A contract describes one item, or the list of all of them. What it says of a server-sent event is
the schema of its data, which is JSON, or of the whole event, ``{"event", "data"}``. What ends a
stream by custom, ``[DONE]``, is no item.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.coerce import fields_of
from mock_mcp.contract.schema import MAX_LOOKED_AT, CompiledSchema
from mock_mcp.contract.violations import excerpt, explain
from mock_mcp.sequential import is_event, is_event_stream, is_sequential, join, read_item, split
from mock_mcp.types import Violation

__all__ = ["DONE", "Scope", "as_text", "described", "has_items", "item_violations"]

DONE = "[DONE]"

Scope = Literal["item", "event", "list"]
"""What the schema of a sequential body describes: each item (of an event its data, or with its name
all of it), each event with all its fields, or the list of the items."""


def described(
    media_type: str, compiled: CompiledSchema | None, *, is_item_schema: bool = False
) -> Scope | None:
    """Return what a schema describes of a body; None: not its items.

    Args:
        media_type: Of the body.
        compiled: Its schema; None when the contract has none.
        is_item_schema: Whether it is OpenAPI's ``itemSchema``.
    """
    if compiled is None or not is_sequential(media_type):
        return None
    if is_item_schema:
        is_whole = is_event_stream(media_type) and "data" in fields_of(compiled.schema)
        return "event" if is_whole else "item"
    kinds = compiled.kinds
    if "string" in kinds:
        return None
    return "list" if "array" in kinds and "object" not in kinds else "item"


def has_items(body: Any, media_type: str) -> bool:
    """Say whether a body of a sequential media type has an item in it."""
    return next(_items(body, media_type), None) is not None


def as_text(body: Any, media_type: str) -> Any:
    """Return a sequential body that is a list of items as the text it stands for."""
    if not isinstance(body, list) or not is_sequential(media_type):
        return body
    try:
        return join(body, media_type)
    except (TypeError, ValueError, RecursionError):
        return body


def item_violations(
    body: str | list[Any],
    media_type: str,
    compiled: CompiledSchema,
    scope: Scope,
    *,
    request_id: str,
) -> Iterator[Violation]:
    """Yield what is wrong with each item; pointers begin with ``/body`` and its number, from 0."""
    values: list[Any] = []
    is_wrong = False
    for number, item in _items(body, media_type):
        meanings = tuple(_meanings(item, media_type, compiled, scope))
        if scope == "list":
            values.append(meanings[0][1] if meanings else item)
            continue
        prefix = pointers.extend("/body", str(number))
        found = [
            explain(compiled, value, request_id=request_id, prefix=f"{prefix}{place}")
            for place, value in meanings
        ]
        best = min(found, key=len) if found else (_not_json(request_id, prefix, item),)
        yield from best
        is_wrong = is_wrong or bool(best)
        if is_wrong and number >= MAX_LOOKED_AT:
            return  # as of a long list: what is said so far will do
    if scope == "list":
        yield from explain(compiled, values, request_id=request_id, prefix="/body")


def _meanings(
    item: Any, media_type: str, compiled: CompiledSchema, scope: Scope
) -> Iterator[tuple[str, Any]]:
    """Yield what the schema may judge of an item, and where that stands in it."""
    is_whole = is_event_stream(media_type)
    try:
        value = read_item(item["data"] if is_whole else item)
    except ValueError:
        if scope == "event":
            yield "", item
        return
    if not is_whole:
        yield "", value
        return
    if scope == "item":
        yield "/data", value
    if scope != "item" or ("event" in item and {"event", "data"} <= fields_of(compiled.schema)):
        yield "", {**item, "data": value}
    if scope == "event":
        yield "", item


def _items(body: Any, media_type: str) -> Iterator[tuple[int, Any]]:
    """Yield each item and its number; of server-sent events only those with data, as events."""
    if isinstance(body, str):
        body = split(body, media_type)
    is_events = is_event_stream(media_type)
    for number, item in enumerate(body if isinstance(body, list) else ()):
        is_read = is_event(item) if is_events else not isinstance(item, str)
        for part in [item] if is_read else split(join([item], media_type), media_type):
            if not (is_events and part["data"] == DONE):
                yield number, part


def _not_json(request_id: str, pointer: str, item: Any) -> Violation:
    hint = f"Write {pointer.removeprefix('/')} as JSON, in one line."
    return Violation(request_id, pointer, "content-type", "JSON", excerpt(item), hint)
