"""Bodies that are server-sent events (``text/event-stream``), judged event by event.

A contract describes one event, by the schema of its data, which is JSON; or of the whole event,
``{"event", "data"}``. What ends a stream by custom, ``[DONE]``, is no event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.schema import CompiledSchema
from mock_mcp.contract.violations import excerpt, explain
from mock_mcp.media_types import base_type
from mock_mcp.types import Violation

__all__ = ["EVENT_STREAM", "as_events", "describes_events", "event_violations", "has_events"]

EVENT_STREAM = "text/event-stream"
_END = "[DONE]"


def describes_events(media_type: str, compiled: CompiledSchema | None) -> bool:
    """Say whether the schema of a media type describes its events, not their whole text."""
    return (
        compiled is not None
        and base_type(media_type) == EVENT_STREAM
        and "string" not in compiled.kinds
    )


def has_events(body: Any) -> bool:
    """Say whether a body is text with an event in it."""
    return isinstance(body, str) and next(_events(body), None) is not None


def event_violations(
    body: str, compiled: CompiledSchema, *, request_id: str
) -> Iterator[Violation]:
    """Yield what is wrong with each event; pointers begin with ``/body`` and its number, from 0."""
    for number, (name, text) in enumerate(_events(body)):
        prefix = pointers.extend("/body", str(number))
        try:
            data = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            hint = f"Write the data of event {number} as JSON, in one line."
            yield Violation(request_id, prefix, "content-type", "JSON", excerpt(text), hint)
            continue
        whole = {"event": name, "data": data}
        found = [
            explain(compiled, value, request_id=request_id, prefix=prefix)
            for value in ([data] if name is None else [data, whole])
        ]
        yield from min(found, key=len)


def as_events(event: Any) -> str:
    """Return the stream of one event, which is valid by a schema of events."""
    name = None
    if isinstance(event, Mapping) and event.keys() == {"event", "data"}:
        name, event = event["event"], event["data"]
    data = f"data: {msgspec.json.encode(event).decode()}\n\n"
    return data if name is None else f"event: {name}\n{data}"


def _events(body: str) -> Iterator[tuple[str | None, str]]:
    """Yield the name and data of each event (HTML, section 9.2.6); the last may lack its end."""
    name: str | None = None
    data: list[str] = []
    for line in (*re.split("\r\n|\n|\r", body.removeprefix("\ufeff")), ""):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif not line:
            if data and (text := "\n".join(data)) != _END:
                yield name, text
            name, data = None, []
