"""WireMock stub mappings (https://wiremock.org/docs/stubbing/, its published JSON Schema), written.

A stub is a pattern that answers again and again; a recorded call is concrete and answers once. A
call becomes the stub that matches what replay matches: method, path, query and body. The host is
not matched, because WireMock stands in for it; equal calls become a scenario, whose last stub goes
on answering. A stub also answers a call with more parameters than it names, so stubs of one path
say which of the others' they do not have. What replay does not look at, or patterns have no word
for, stands in the stub's ``metadata``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from mock_mcp.convert.values import Conversion, http_url
from mock_mcp.exchange import FailureKind
from mock_mcp.media_types import is_json
from mock_mcp.recordings.bodies import Unusable, header, header_map, wire_request, wire_response
from mock_mcp.recordings.format import (
    RecordedFailure,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
    Recording,
)
from mock_mcp.recordings.redact import PLACEHOLDER
from mock_mcp.sequential import is_sequential
from mock_mcp.wire.json import encode

__all__ = ["ABSENT", "ANYTHING", "IGNORED", "METADATA", "STARTED", "to_wiremock"]

METADATA = "mock-mcp"
"""The field of a stub's metadata that is this project's."""
STARTED = "Started"
"""The state in which every scenario begins."""
ANYTHING = ".*"
"""The regular expression of a text that may be anything."""
IGNORED = "${json-unit.ignore}"
"""A JSON value that may be anything."""
ABSENT = {"absent": True}
"""The pattern of what must not be there."""

_SEVERAL = "hasExactly"
_BODIES = ("formParameters", "multipartPatterns", "bodyPatterns")


def to_wiremock(recordings: Iterable[tuple[str, Recording]]) -> tuple[dict[str, Any], Conversion]:
    """Return recordings as a list of stub mappings.

    Args:
        recordings: Each with how its file is named in losses; bodies in place.

    Returns:
        The mappings, and what they could not hold.
    """
    conversion = Conversion("", "wiremock")
    stubs: list[dict[str, Any]] = []
    for file, recording in recordings:
        conversion.file = file
        for index, interaction in enumerate(recording.interactions):
            place = f"$.interactions[{index}]"
            try:
                stub = _stub(interaction, recording.test, conversion, place)
            except Unusable as exc:
                conversion.lose(place + exc.place, exc.reason, call=True)
                continue
            stubs.append(stub)
    for requests in _by([stub["request"] for stub in stubs], _target):
        _tell_apart(requests)
    for series in _by(stubs, lambda stub: msgspec.json.encode(stub["request"], order="sorted")):
        _chain(series)
    mappings = [_ordered(stub) for stub in stubs]
    return {"mappings": mappings, "meta": {"total": len(mappings)}}, conversion


def _by(
    found: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Hashable]
) -> list[list[dict[str, Any]]]:
    """Return groups of what has the same key, in order."""
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault(key(each), []).append(each)
    return list(groups.values())


def _target(request: Mapping[str, Any]) -> tuple[str, str]:
    return request["method"], request.get("url") or request["urlPath"]


def _tell_apart(requests: Sequence[dict[str, Any]]) -> None:
    """Let no pattern match the call of another one with the same method and path.

    WireMock lets a call have more query parameters, form fields and values of one than a stub
    names, and any body where it names none.
    """
    for fields in ("queryParameters", "formParameters"):
        having = [request[fields] for request in requests if fields in request]
        names = dict.fromkeys(name for patterns in having for name in patterns)
        several = {name for patterns in having for name in patterns if _SEVERAL in patterns[name]}
        for patterns in having:
            for name in names:
                pattern = patterns.setdefault(name, ABSENT)
                if name in several and _SEVERAL not in pattern and pattern != ABSENT:
                    patterns[name] = {_SEVERAL: [pattern]}
    if any(name in request for request in requests for name in _BODIES):
        for request in requests:
            if not any(name in request for name in _BODIES):
                request["bodyPatterns"] = [ABSENT]


def _chain(series: Sequence[dict[str, Any]]) -> None:
    """Make the stubs of equal calls answer one after the other, the last one again and again."""
    if len(series) == 1:
        return
    request = series[0]["request"]
    digest = msgspec.json.encode(request, order="sorted")
    name = f"{' '.join(_target(request))} {_digest(digest)}"
    for number, stub in enumerate(series, 1):
        stub["scenarioName"] = name
        stub["requiredScenarioState"] = STARTED if number == 1 else f"Call {number}"
        if number < len(series):
            stub["newScenarioState"] = f"Call {number + 1}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _ordered(stub: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "scenarioName", "requiredScenarioState", "newScenarioState")
    order = (*names, "request", "response", "metadata")
    return {name: stub[name] for name in order if name in stub}


def _stub(
    interaction: RecordedInteraction, test: str, conversion: Conversion, place: str
) -> dict[str, Any]:
    asked = interaction.request
    parts = http_url(asked.url)
    metadata: dict[str, Any] = {
        "test": test,
        "origin": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        "source": interaction.source,
    }
    if asked.headers:
        metadata["requestHeaders"] = asked.headers
    if interaction.error is not None:
        response = _fault(interaction.error, metadata)
    else:
        assert interaction.response is not None
        response = _response(asked, interaction.response, metadata, conversion, place)
    return {
        "name": f"{asked.method} {parts.path or '/'}",
        "request": _request(asked),
        "response": response,
        "metadata": {METADATA: metadata},
    }


def _request(asked: RecordedRequest) -> dict[str, Any]:
    if not asked.method.isalpha():
        raise Unusable(f"WireMock knows no method {asked.method}", ".request.method")
    parts = urlsplit(asked.url)
    path = parts.path or "/"
    request: dict[str, Any] = {"method": asked.method}
    query = _grouped(parse_qsl(parts.query, keep_blank_values=True))
    if parts.query and not query:
        raise Unusable("its query has no parameters", ".request.url")
    request |= {"urlPath": path, "queryParameters": _fields(query)} if query else {"url": path}
    body = asked.body
    if body is msgspec.UNSET:
        return request
    content = wire_request(asked).body
    if not content:
        return request | {"bodyPatterns": [ABSENT]}
    content_type = header(asked.headers, "content-type")
    form = _wrapped(body, "$form", dict, content_type)
    parts_of = _wrapped(body, "$multipart", list, content_type)
    if form:
        pairs = parse_qsl(content.decode(), keep_blank_values=True)
        request["formParameters"] = _fields(_grouped(pairs))
    elif parts_of is not None:
        if not parts_of:
            raise Unusable("a multipart body without parts cannot be matched", ".request.body")
        request["multipartPatterns"] = [_part(part) for part in parts_of]
    elif _wrapped(body, "$base64", str, content_type) is not None:
        request["bodyPatterns"] = [{"binaryEqualTo": body["$base64"]}]
    elif isinstance(body, str) and not is_json(content_type):
        request["bodyPatterns"] = [{"equalTo": body}]
    elif isinstance(body, list) and is_sequential(content_type):
        request["bodyPatterns"] = [{"equalTo": content.decode()}]
    else:
        request["bodyPatterns"] = [_json_pattern(body)]
    return request


def _wrapped(body: Any, name: str, kind: type, content_type: str | None) -> Any:
    """Return what a form, multipart or binary body wraps; None for every other body."""
    if is_json(content_type) or not isinstance(body, dict) or set(body) != {name}:
        return None
    return body[name] if isinstance(body[name], kind) else None


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _fields(fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        name: _equal(values[0]) if len(values) == 1 else {_SEVERAL: [*map(_equal, values)]}
        for name, values in fields.items()
    }


def _equal(text: str) -> dict[str, Any]:
    """Return the pattern of a value; one that was a secret may be anything."""
    return {"matches": ANYTHING} if text == PLACEHOLDER else {"equalTo": text}


def _json_pattern(value: Any) -> dict[str, Any]:
    value = _replaced(value, PLACEHOLDER, IGNORED)
    return {"equalToJson": value if isinstance(value, dict) else encode(value).decode()}


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, old, new) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new if value == old else value


def _part(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise Unusable("a part of its body is no object", ".request.body")
    pattern: dict[str, Any] = {"matchingType": "ANY", "name": str(part.get("name", ""))}
    if "filename" in part:
        pattern["fileName"] = str(part["filename"])
    if part.get("contentType"):
        pattern["headers"] = {"Content-Type": {"equalTo": str(part["contentType"])}}
    data = part.get("data", "")
    if isinstance(part.get("$base64"), str):
        content = {"binaryEqualTo": part["$base64"]}
    elif isinstance(data, str) and not is_json(part.get("contentType")):
        content = _equal(data)
    else:
        content = _json_pattern(data)
    return pattern | {"bodyPatterns": [content]}


def _response(
    asked: RecordedRequest,
    told: RecordedResponse,
    metadata: dict[str, Any],
    conversion: Conversion,
    place: str,
) -> dict[str, Any]:
    answer = wire_response(asked, told)
    if (recorded := told.headers.get("content-type")) != answer.header("content-type"):
        metadata["contentType"] = recorded
    response: dict[str, Any] = {"status": told.status}
    headers = header_map(answer.headers, keep_length=asked.method == "HEAD")
    if headers:
        response["headers"] = headers
    if answer.body:
        response |= _body(answer.body, told.body, answer.header("content-type"))
    if told.delay_ms is not None:
        response["fixedDelayMilliseconds"] = round(told.delay_ms)
        if told.delay_ms != round(told.delay_ms):
            conversion.lose(f"{place}.response.delayMs", "WireMock delays are whole milliseconds")
    return response


def _body(content: bytes, value: Any, content_type: str | None) -> dict[str, Any]:
    if is_json(content_type) and isinstance(value, dict | list):
        return {"jsonBody": value}
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    # WireMock sends text as UTF-8.
    if "\0" in text or _wrapped(value, "$base64", str, content_type) is not None:
        return {"base64Body": base64.b64encode(content).decode()}
    return {"body": text}


def _fault(failure: RecordedFailure, metadata: dict[str, Any]) -> dict[str, Any]:
    if failure.kind != FailureKind.RESET:
        raise Unusable(f"WireMock cannot fail with {failure.kind!r}", ".error")
    if failure.message is not None:
        metadata["message"] = failure.message
    return {"fault": "CONNECTION_RESET_BY_PEER"}
