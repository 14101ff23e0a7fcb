"""VCR cassettes: vcrpy and pytest-recording (YAML, JSON), Betamax and Ruby's VCR.

Cassettes keep answers as they travelled, compressed ones compressed; they are unpacked here, the
whole file within one budget. Of aiohttp's requests vcrpy keeps what the body was made of, the value
of ``json=`` or the fields of ``data=``, and not which of them it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from mock_mcp.convert.values import (
    Conversion,
    calls_of,
    http_url,
    member,
    method_of,
    within,
)
from mock_mcp.media_types import base_type, is_json
from mock_mcp.recordings.bodies import (
    Budget,
    Unusable,
    from_base64,
    header,
    header_map,
    recorded_request,
    recorded_response,
)
from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest, RecordedResponse

__all__ = ["WRAPPING", "from_vcr"]

WRAPPING = frozenset(("string", "base64_string", "encoding"))
"""The fields around a text body; a request body with other ones is a value."""

_FORM = "application/x-www-form-urlencoded"


def from_vcr(tree: Any, file: str) -> Conversion:
    """Return the calls of a cassette.

    Args:
        tree: The cassette as JSON, whose binary values may be bytes.
        file: How errors and losses name it.

    Raises:
        ConversionError: It is no cassette.
    """
    name = "http_interactions" if isinstance(tree, dict) and "http_interactions" in tree else ""
    name = name or "interactions"
    found = tree.get(name) if isinstance(tree, dict) else None
    listed = calls_of(found, file, f"$.{name}", "a cassette has its calls here")
    conversion = Conversion(file, "vcr")
    budget = Budget()
    for index, fields in enumerate(listed):
        place = f"$.{name}[{index}]"
        try:
            conversion.calls.append((place, _interaction(fields, conversion, place, budget)))
        except Unusable as exc:
            conversion.lose(place + exc.place, exc.reason, call=True)
    return conversion


def _interaction(
    fields: Any, conversion: Conversion, place: str, budget: Budget
) -> RecordedInteraction:
    if not isinstance(fields, dict):
        raise Unusable("it must be an object")
    asked, told = member(fields, "request", dict), member(fields, "response", dict)
    with within(".request"):
        request, guess = _request(asked)
    with within(".response"):
        response, change = _response(told, request, budget)
    if guess is not None:
        conversion.lose(f"{place}.request.body", guess)
    if change is not None:
        conversion.lose(f"{place}.response", change)
    return RecordedInteraction(request, "live", response)


def _request(fields: Mapping[str, Any]) -> tuple[RecordedRequest, str | None]:
    url = member(fields, "uri", str)
    http_url(url)
    headers = header_map(_pairs(fields))
    method = method_of(member(fields, "method", str))
    body = fields.get("body")
    is_wrapped = isinstance(body, dict) and body and body.keys() <= WRAPPING
    if is_wrapped or not isinstance(body, dict | list):
        return recorded_request(method, url, headers, _content(body)), None
    declared = header(headers, "content-type")
    try:
        if base_type(declared) == _FORM:
            content = urlencode(body if isinstance(body, dict) else [*map(tuple, body)], doseq=True)
        elif declared is None or is_json(declared):
            content = json.dumps(body)
        else:
            raise TypeError
    except (TypeError, ValueError):
        raise Unusable("how this value was sent is not told", ".body") from None
    guess = None
    if declared is None and _may_be_form(body):
        guess = (
            "the cassette does not tell whether it was sent as JSON or as a form. JSON is taken; "
            'for a form, wrap it in the recording: {"$form": {…}}'
        )
    return recorded_request(method, url, headers, content, "application/json"), guess


def _may_be_form(body: Any) -> bool:
    """Say whether a value can be the fields of a form: texts by name, or pairs of texts."""
    pairs = body.items() if isinstance(body, dict) else body
    return all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
        for pair in pairs
    )


def _response(
    fields: Mapping[str, Any], request: RecordedRequest, budget: Budget
) -> tuple[RecordedResponse, str | None]:
    status = fields.get("status", fields.get("status_code"))  # the latter: vcrpy 4's httpx
    if isinstance(status, dict):
        status = status.get("code")
    if isinstance(status, str) and status.isdecimal() and len(status) == 3:
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool):
        raise Unusable("it must be a number", ".status.code")
    pairs = _pairs(fields)
    content = _content(fields.get("body", fields.get("content")))
    if isinstance(content, bytes):
        coding = ", ".join(value for name, value in pairs if name.lower() == "content-encoding")
        content = budget.unpack(content, coding) if content else content
    headers = header_map(pairs, keep_length=request.method == "HEAD")
    if isinstance(content, str) and header(headers, "content-type") is not None:
        content = content.encode()  # cassettes hold text only where the bytes were UTF-8
    return recorded_response(request, status, headers, content)


def _pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, values in member(fields, "headers", dict, {}).items():
        for value in values if isinstance(values, list) else [values]:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if not isinstance(text, str | int | float):
                raise Unusable("it must be text", f".headers.{name}")
            pairs.append((name, str(text)))
    return pairs


def _content(body: Any) -> bytes | str:
    """Return a body in any of the forms that cassettes have had."""
    if isinstance(body, dict):
        if isinstance(packed := body.get("base64_string"), str):
            return from_base64(packed)
        body = body.get("string")
    if body is None:
        return b""
    if isinstance(body, bytes | str):
        return body
    raise Unusable("it must be text or binary", ".body")
