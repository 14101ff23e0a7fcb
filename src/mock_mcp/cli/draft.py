"""The answer to a batch as a person edits it: JSON between comment lines.

A comment is a whole line that begins with ``//``; a JSON string cannot span lines, so taking such
lines out is safe, and editors know the form as ``.jsonc``. What must be corrected is noted in lines
of its own at the top, and taken out again, so that the rest stays as the person wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mock_mcp.cli.terminal import printable
from mock_mcp.contract.bodies import media_type_of
from mock_mcp.errors import InvalidParams
from mock_mcp.integers import convert
from mock_mcp.sequential import listed
from mock_mcp.serving.mocks import MockArgument
from mock_mcp.types import Mock

__all__ = ["read_draft", "with_notes", "write_draft"]

_NOTE = "//! "
_COMMENT = re.compile(r"^[ \t]*//.*$", re.MULTILINE)
_NOTES = re.compile(r"^//!.*\n?", re.MULTILINE)
_LINES = 60
"""Lines of one part of a request, or of a contract, that are shown."""
_COLUMNS = 80
"""Length of JSON up to which it is shown in one line."""
_NAMED = ("requestId", "method", "endpoint")
_HOW = (
    "Save and leave the editor to send the answer. To give the batch back, leave without saving,",
    "or empty the file. Lines that begin with // are not read.",
)


def write_draft(
    view: Mapping[str, Any], answers: Mapping[str, Mock], missing: Mapping[str, str]
) -> str:
    """Return the document that is edited.

    Args:
        view: The claimed batch, made by `mock_mcp.serving.view.claim_view`.
        answers: A mock to begin with for each request, by request id.
        missing: Why a request's mock is empty, by request id.
    """
    test = view["test"]
    name = " ".join(filter(None, (test.get("name"), test.get("file"))))
    lines = [f"// {view['batchId']}" + (f", asked for by {name}" if name else "")]
    lines += [f"// {line}" for line in _HOW]
    for attempt in view["history"]:
        lines.append(f"// Earlier: {attempt['outcome']} {attempt.get('reason', '')}".rstrip())
    for used in view.get("used", ()):
        lines += _comment("Used in this run", used, "")
    contracts = dict(view.get("contracts", {}))
    shared = view.get("shared", {})
    items = []
    for request in view["requests"]:
        request_id = request["requestId"]
        mock = answers[request_id]
        item = [f"  // {request['method']} {request['endpoint']}"]
        for key, value in request.items():
            if key == "contract" and isinstance(value, str) and value in contracts:
                # Its example is what the answer begins with.
                contract = contracts.pop(value)
                said = {name: part for name, part in contract.items() if name != "example"}
                item += _comment(f"contract {value}", said, "  ")
            elif key == "metadata" and isinstance(known := _unshared(value, shared), dict):
                for name, part in known.items():
                    item += _comment(name, part, "  ")
            elif key not in _NAMED:
                item += _comment(key, _unshared(value, shared), "  ")
        if request_id in missing:
            item.append(f"  // No answer to begin with: {missing[request_id]}")
        data = listed(mock.data, media_type_of(mock.headers))
        fields = {"requestId": request_id, "status": mock.status or 200, "data": data}
        if mock.headers:
            fields["headers"] = mock.headers
        text = json.dumps(fields, ensure_ascii=False, indent=2)
        items.append("\n".join([*map(printable, item), *(f"  {ln}" for ln in text.split("\n"))]))
    return "\n".join([*map(printable, lines), "[", ",\n".join(items), "]", ""])


def read_draft(text: str) -> list[Mock] | None:
    """Return the mocks of an edited document; None when there is nothing in it.

    Raises:
        InvalidParams: It is no JSON array of mocks; the message says where.
    """
    bare = _COMMENT.sub("", text)
    if not bare.strip():
        return None
    try:
        value = json.loads(bare)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # can it be sent at all?
        return [argument.mock() for argument in convert(value, list[MockArgument])]
    except json.JSONDecodeError as exc:
        message = f"This is no JSON: {exc.msg}, in line {exc.lineno}, column {exc.colno}."
        raise InvalidParams(message) from None
    except (ValueError, RecursionError) as exc:
        raise InvalidParams(f"This is no list of mocks: {exc}") from None


def with_notes(text: str, message: str) -> str:
    """Return the document with what must be corrected at its top, and no earlier such notes."""
    notes = "".join(f"{_NOTE}{printable(line)}\n" for line in message.split("\n"))
    return notes + _NOTES.sub("", text)


def _comment(name: str, value: Any, margin: str) -> Iterator[str]:
    lines = value.split("\n") if isinstance(value, str) else _layout(value)
    if len(lines) > 1:
        lines = ["", *lines]
    yield f"{margin}//   {name}: {lines[0]}".rstrip()
    yield from (f"{margin}//     {line}" for line in lines[1 : _LINES + 1])
    if len(lines) > _LINES + 1:
        yield f"{margin}//     and {len(lines) - _LINES - 1} more lines"


def _layout(value: Any) -> list[str]:
    """Return JSON in lines, each part on one line if it is short enough."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _COLUMNS or not isinstance(value, dict | list):
        return [text]
    names = (
        [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    )
    parts = [_layout(part) for part in (value.values() if isinstance(value, dict) else value)]
    lines = []
    for number, (name, (first, *rest)) in enumerate(zip(names, parts, strict=True), 1):
        part = [f"  {name}{first}", *(f"  {line}" for line in rest)]
        part[-1] += "," if number < len(parts) else ""
        lines += part
    return ["{", *lines, "}"] if isinstance(value, dict) else ["[", *lines, "]"]


def _unshared(value: Any, shared: Mapping[str, Any]) -> Any:
    """Return a value with what requests repeat put back: a person reads one request at a time."""
    if not isinstance(value, dict):
        return value
    if isinstance(name := value.get("$shared"), str) and name in shared:
        return shared[name]
    return {key: _unshared(part, shared) for key, part in value.items()}
