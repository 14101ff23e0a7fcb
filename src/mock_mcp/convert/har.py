"""HAR 1.2, the archive of browser tools and Playwright (http://www.softwareishard.com/blog/har-12-spec/).

An exported entry shows what a replay answers. What HAR has no field for stands in ``_mockMcp`` (the
format keeps names that begin with an underscore for such things): where the answer came from, and
which headers only the framing added. A recording has no clock, so entries begin at the epoch, each
when the one before has ended; a real archive's times are not taken over as delays.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from mock_mcp._version import __version__
from mock_mcp.convert.values import (
    EXTENSION,
    Conversion,
    ReadFile,
    calls_of,
    delay_of,
    http_url,
    member,
    method_of,
    source_of,
    within,
)
from mock_mcp.exchange import FailureKind, HttpRequest, HttpResponse
from mock_mcp.media_types import base_type
from mock_mcp.recordings.bodies import (
    Unusable,
    from_base64,
    header_map,
    recorded_request,
    recorded_response,
    wire_request,
    wire_response,
    with_content_type,
)
from mock_mcp.recordings.format import (
    RecordedFailure,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
    Recording,
)

__all__ = ["from_har", "to_har"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BODILESS = frozenset((204, 205, 304))

_FAILURES = (  # what Chromium and Firefox call them, and how a library fails
    (("CONNECTION_REFUSED",), FailureKind.REFUSED),
    (("NAME_NOT_RESOLVED", "UNKNOWN_HOST"), FailureKind.UNRESOLVED),
    (("CONNECTION_TIMED_OUT",), FailureKind.CONNECT_TIMEOUT),
    (("TIMED_OUT", "NET_TIMEOUT"), FailureKind.READ_TIMEOUT),
    (
        ("CONNECTION_RESET", "CONNECTION_CLOSED", "EMPTY_RESPONSE", "NET_RESET"),
        FailureKind.RESET,
    ),
)


# -- Out --------------------------------------------------------------------------------------


def to_har(recordings: Iterable[tuple[str, Recording]]) -> tuple[dict[str, Any], Conversion]:
    """Return recordings as one archive, each recording a page of it.

    Args:
        recordings: Each with how its file is named in losses; bodies in place.

    Returns:
        The archive, and what it could not hold.
    """
    conversion = Conversion("", "har")
    pages: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    now = _EPOCH
    for file, recording in recordings:
        conversion.file = file
        page = f"page_{len(pages) + 1}"
        pages.append(
            {
                "startedDateTime": _time(now),
                "id": page,
                "title": recording.test,
                "pageTimings": {},
            }
        )
        for index, interaction in enumerate(recording.interactions):
            place = f"$.interactions[{index}]"
            try:
                entry = _entry(interaction)
            except Unusable as exc:
                conversion.lose(place + exc.place, exc.reason, call=True)
                continue
            entries.append({"pageref": page, "startedDateTime": _time(now), **entry})
            now += timedelta(milliseconds=1 + entry["time"])
    log = {
        "version": "1.2",
        "creator": {"name": "mock-mcp", "version": __version__},
        "pages": pages,
        "entries": entries,
    }
    return {"log": log}, conversion


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _entry(interaction: RecordedInteraction) -> dict[str, Any]:
    asked = interaction.request
    extension: dict[str, Any] = {"source": interaction.source}
    delay_ms = 0.0
    if (failure := interaction.error) is not None:
        extension["error"] = {"kind": failure.kind}
        if failure.message is not None:
            extension["error"]["message"] = failure.message
        answer = HttpResponse(0, (), b"")
    else:
        told = interaction.response
        assert told is not None
        answer = wire_response(asked, told)
        delay_ms = told.delay_ms or 0.0
        if told.delay_ms is not None:
            extension["delayMs"] = _whole(told.delay_ms)
        if (recorded := told.headers.get("content-type")) != answer.header("content-type"):
            extension["contentType"] = recorded
    return {
        "time": _whole(delay_ms),
        "request": _request(wire_request(asked), asked),
        "response": _response(answer, interaction.error),
        "cache": {},
        "timings": {"send": 0, "wait": _whole(delay_ms), "receive": 0},
        EXTENSION: extension,
    }


def _request(request: HttpRequest, asked: RecordedRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "method": request.method,
        "url": request.url,
        "httpVersion": "HTTP/1.1",
        "cookies": _cookies(request.headers, "cookie"),
        "headers": _named(request.headers),
        "queryString": _named(parse_qsl(urlsplit(request.url).query, keep_blank_values=True)),
        "headersSize": -1,
        "bodySize": len(request.body),
    }
    if asked.body is not msgspec.UNSET:
        content_type = request.header("content-type") or ""
        data: dict[str, Any] = {"mimeType": content_type, "params": []}
        if base_type(content_type) == "application/x-www-form-urlencoded":
            text = request.body.decode("utf-8", "replace")
            data["params"] = _named(parse_qsl(text, keep_blank_values=True))
        fields["postData"] = data | _text(request.body)
    return fields


def _response(response: HttpResponse, failure: RecordedFailure | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "size": len(response.body),
        "mimeType": response.header("content-type") or "x-unknown",
    }
    if response.body:
        content |= _text(response.body)
    fields = {
        "status": response.status,
        "statusText": response.reason,
        "httpVersion": "HTTP/1.1",
        "cookies": _cookies(response.headers, "set-cookie"),
        "headers": _named(response.headers),
        "content": content,
        "redirectURL": response.header("location") or "",
        "headersSize": -1,
        "bodySize": len(response.body),
    }
    if failure is not None:
        fields["_error"] = failure.message or failure.kind
    return fields


def _named(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _text(body: bytes) -> dict[str, str]:
    try:
        text = body.decode()
        if "\0" not in text:
            return {"text": text}
    except UnicodeDecodeError:
        pass
    return {"text": base64.b64encode(body).decode(), "encoding": "base64"}


def _cookies(headers: Sequence[tuple[str, str]], name: str) -> list[dict[str, Any]]:
    """Return the cookies of a header as the archive lists them, beside the header itself."""
    found: list[dict[str, Any]] = []
    for value in (value for key, value in headers if key == name):
        first, *rest = (part.strip().partition("=") for part in value.split(";"))
        if name == "cookie":
            found += [{"name": key, "value": text} for key, _, text in (first, *rest)]
            continue
        attributes = {key.lower(): text for key, _, text in rest}
        cookie: dict[str, Any] = {"name": first[0], "value": first[2]}
        cookie |= {key: attributes[key] for key in ("path", "domain") if key in attributes}
        flags = {"httpOnly": "httponly" in attributes, "secure": "secure" in attributes}
        found.append(cookie | flags)
    return found


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


# -- In ---------------------------------------------------------------------------------------


def from_har(tree: Any, file: str, read: ReadFile | None = None) -> Conversion:
    """Return the calls of an archive.

    Args:
        tree: The archive as JSON.
        file: How errors and losses name it.
        read: Reads the bodies that Playwright keeps in files beside the archive.

    Raises:
        ConversionError: It is no archive.
    """
    log = tree.get("log") if isinstance(tree, dict) else None
    found = log.get("entries") if isinstance(log, dict) else None
    entries = calls_of(found, file, "$.log.entries", "a HAR has its calls here")
    conversion = Conversion(file, "har")
    for index, entry in enumerate(entries):
        place = f"$.log.entries[{index}]"
        try:
            reader = _Reader(conversion, place, read)
            conversion.calls.append((place, reader.interaction(entry)))
        except Unusable as exc:
            conversion.lose(place + exc.place, exc.reason, call=True)
    return conversion


class _Reader:
    """Read one entry; what is lost is noted in the conversion."""

    def __init__(self, conversion: Conversion, place: str, read: ReadFile | None) -> None:
        self._conversion = conversion
        self._place = place
        self._read = read

    def interaction(self, entry: Any) -> RecordedInteraction:
        if not isinstance(entry, dict):
            raise Unusable("it must be an object")
        if "_webSocketMessages" in entry:
            raise Unusable("it is a WebSocket, which is not recorded")
        extension = member(entry, EXTENSION, dict, {})
        source = source_of(extension, "live")
        asked, answer = member(entry, "request", dict), member(entry, "response", dict)
        with within(".request"):
            request = self._request(asked)
        if member(answer, "status", int, 0) <= 0:
            return RecordedInteraction(request, source, error=_failure(answer, extension))
        with within(".response"):
            response = self._response(request, answer, extension)
        return RecordedInteraction(request, source, response)

    def _request(self, fields: Mapping[str, Any]) -> RecordedRequest:
        url = member(fields, "url", str)
        http_url(url)
        headers = header_map(_pairs(fields))
        method = method_of(member(fields, "method", str))
        if method == "OPTIONS" and "access-control-request-method" in headers:
            raise Unusable("it is a browser's preflight, which is no call")
        posted = member(fields, "postData", dict, {})
        content: bytes | str = b""
        content_type = member(posted, "mimeType", str, "")
        if posted:
            content = self._content(posted)
            if not content:
                content, content_type = _of_params(member(posted, "params", list, []), content_type)
                if base_type(content_type) == "multipart/form-data":
                    headers = headers | {"content-type": content_type}  # with the boundary
        size = max(member(fields, "bodySize", int, 0), _length(fields))
        if not content and size > 0:
            raise Unusable(
                f"its body ({size} bytes) was not saved, and so the call would not be recognised"
            )
        return recorded_request(method, url, headers, content, content_type or None)

    def _response(
        self, request: RecordedRequest, fields: Mapping[str, Any], extension: Mapping[str, Any]
    ) -> RecordedResponse:
        status = member(fields, "status", int)
        headers = header_map(_pairs(fields), keep_length=request.method == "HEAD")
        content = member(fields, "content", dict, {})
        body: bytes | str = self._content(content)
        declared = member(content, "mimeType", str, "").partition("x-unknown")[0]
        size = member(content, "size", int, 0)
        if size < 0:  # not measured
            size = _length(fields, unknown=1 if declared else 0)
        bodiless = request.method == "HEAD" or status in _BODILESS or status in _REDIRECTS
        if not body and size and not bodiless:
            raise Unusable("its body was not saved: save the HAR with content")
        response, change = recorded_response(
            request,
            status,
            headers,
            body,
            content_type=declared or None,
            delay_ms=delay_of(extension.get("delayMs")),
        )
        if change is not None:
            self._conversion.lose(f"{self._place}.response", change)
        return with_content_type(response, extension)

    def _content(self, fields: Mapping[str, Any]) -> bytes | str:
        """Return the body of a ``content`` or ``postData`` object."""
        text = member(fields, "text", str, "")
        if not text and isinstance(name := fields.get("_file"), str):
            if self._read is None:
                raise Unusable(f"its body is in the file {name!r}")
            content = self._read(name)
            if "charset=" not in member(fields, "mimeType", str, "").lower():
                return content
            try:
                return content.decode()  # Chromium had decoded it, whatever its charset was
            except UnicodeDecodeError:
                return content
        if member(fields, "encoding", str, "") == "base64":
            return from_base64(text)
        return text


def _length(fields: Mapping[str, Any], unknown: int = 0) -> int:
    """Return the length that the headers say a body had on the wire."""
    said = [text for name, text in _pairs(fields) if name.lower() == "content-length"]
    return int(said[0]) if said and said[0].isdecimal() else unknown


def _pairs(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for item in member(fields, "headers", list, []):
        if not isinstance(item, dict):
            raise Unusable("a header must be an object", ".headers")
        pairs.append((member(item, "name", str), member(item, "value", str, "")))
    return pairs


def _of_params(params: Sequence[Any], content_type: str) -> tuple[bytes, str]:
    """Return the body that the parameters of a form describe, and its content type."""
    fields: list[dict[str, Any]] = []
    for item in params:
        if not isinstance(item, dict):
            raise Unusable("a parameter must be an object", ".postData.params")
        part: dict[str, Any] = {"name": member(item, "name", str)}
        part["data"] = member(item, "value", str, "")
        if filename := member(item, "fileName", str, ""):
            part["filename"] = filename
        if kind := member(item, "contentType", str, ""):
            part["contentType"] = kind
        fields.append(part)
    if not fields:
        return b"", content_type
    if base_type(content_type) != "multipart/form-data":
        return urlencode([(part["name"], part["data"]) for part in fields]).encode(), content_type
    plain = RecordedRequest("POST", "", {}, {"$multipart": fields})
    framed = wire_request(plain)
    return framed.body, framed.header("content-type") or content_type


def _failure(answer: Mapping[str, Any], extension: Mapping[str, Any]) -> RecordedFailure:
    """Return the failure of a call that has no answer.

    Raises:
        Unusable: It was cancelled, or failed in a way that is not recorded.
    """
    own = member(extension, "error", dict, {})
    if own.get("kind") in list(FailureKind):  # a list, because what is there may not be hashable
        message = own.get("message")
        return RecordedFailure(str(own["kind"]), message if isinstance(message, str) else None)
    said = str(answer.get("_error") or answer.get("_failureText") or "")
    for names, kind in _FAILURES:
        if any(name in said for name in names):
            return RecordedFailure(str(kind))
    raise Unusable(f"it has no answer ({said[:100] or 'it was blocked or cancelled'})", ".response")
