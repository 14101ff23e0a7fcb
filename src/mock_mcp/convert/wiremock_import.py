"""WireMock stub mappings (https://wiremock.org/docs/stubbing/, its published JSON Schema), read.

A stub is taken if its patterns admit exactly one call. What this project wrote into the stub's
``metadata`` (`wiremock_export`) is read again, and trusted no more than the rest.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from mock_mcp.convert.errors import ConversionError
from mock_mcp.convert.values import (
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
from mock_mcp.convert.wiremock_export import ABSENT, ANYTHING, IGNORED, METADATA, STARTED
from mock_mcp.errors import InvalidMessage, LimitExceeded
from mock_mcp.exchange import FailureKind, decode_body
from mock_mcp.media_types import base_type, is_json
from mock_mcp.recordings.bodies import (
    MAX_DEPTH,
    Unusable,
    from_base64,
    header,
    header_map,
    recorded_response,
    with_content_type,
)
from mock_mcp.recordings.format import (
    Headers,
    RecordedFailure,
    RecordedInteraction,
    RecordedRequest,
    RecordedResponse,
)
from mock_mcp.recordings.redact import PLACEHOLDER, is_secret
from mock_mcp.wire.json import decode, encode

__all__ = ["BASE_URL", "from_wiremock", "in_answering_order"]

BASE_URL = "http://localhost:8080"
"""Where WireMock listens when nobody says otherwise; the host of stubs that name none."""

_JSON_UNIT = "${json-unit."
_TEMPLATES = "response-template"
_TEMPLATE = "{{"
_LENIENT = ("ignoreExtraElements", "ignoreArrayOrder", "caseInsensitive")
_PLAIN_REGEX = re.compile(r"(?:\\[^A-Za-z0-9]|[^\\.^$*+?{}\[\]|()])+")
_ESCAPE = re.compile(r"\\(.)")
_FORM = "application/x-www-form-urlencoded"
_LOOKS_LIKE_FORM = re.compile(r"[^=&\s]+=[^=&\s]*(&[^=&\s]+=[^=&\s]*)*")

_PATTERNS = ("url", "urlPath", "urlPathTemplate", "urlPattern", "urlPathPattern")
_IDLE_RESPONSE_FIELDS = frozenset(("fromConfiguredStub", "proxyUrlPrefixToRemove"))
_RESPONSE_FIELDS = frozenset(
    (
        *("status", "statusMessage", "headers", "fixedDelayMilliseconds", "delayDistribution"),
        *("body", "jsonBody", "base64Body", "bodyFileName", "fault", *_IDLE_RESPONSE_FIELDS),
    )
)
_REQUEST_FIELDS = frozenset(
    (
        *("scheme", "host", "port", "method", "headers", "queryParameters", "pathParameters"),
        *("bodyPatterns", "formParameters", "multipartPatterns", *_PATTERNS),
    )
)

Hides = Callable[[str], bool]
"""Says whether a field that may be anything is one whose value is never recorded."""


def from_wiremock(
    tree: Any, file: str, read: ReadFile | None = None, base_url: str = BASE_URL
) -> Conversion:
    """Return the calls that stub mappings answer.

    Args:
        tree: One stub, or an object with ``mappings``, as JSON.
        file: How errors and losses name it.
        read: Reads the bodies that stubs keep in files (``bodyFileName``).
        base_url: Scheme, host and port of calls whose stub names none.

    Raises:
        ConversionError: It holds no stubs.
    """
    if not isinstance(tree, dict):
        raise ConversionError(
            file, "it must be an object: a stub, or one with `mappings`", path="$"
        )
    found = tree.get("mappings", [tree])
    listed = calls_of(found, file, "$.mappings", "stubs are here")
    conversion = Conversion(file, "wiremock")
    order = in_answering_order([stub if isinstance(stub, dict) else {} for stub in listed])
    answered: dict[bytes, str] = {}
    for index in order:
        place = f"$.mappings[{index}]" if "mappings" in tree else "$"
        try:
            reader = _Reader(conversion, place, read, base_url)
            interaction = reader.interaction(listed[index])
            if "scenarioName" not in listed[index]:
                key = encode([interaction.request.method, interaction.request.url])
                key += encode(listed[index].get("request"))
                if (winner := answered.setdefault(key, place)) != place:
                    raise Unusable(f"{winner} answers the same call first")
            conversion.calls.append((place, interaction))
        except Unusable as exc:
            conversion.lose(place + exc.place, exc.reason, call=True)
    return conversion


def in_answering_order(stubs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of stubs in the order they answer: by priority, and along scenarios."""

    def priority(index: int) -> int:
        value = stubs[index].get("priority")
        return value if isinstance(value, int) else 5

    order = sorted(range(len(stubs)), key=priority)
    scenarios: dict[str, list[int]] = {}
    for index in order:
        if isinstance(name := stubs[index].get("scenarioName"), str):
            scenarios.setdefault(name, []).append(index)
    slot_of = {index: slot for slot, index in enumerate(order)}
    for members in scenarios.values():
        slots = sorted(slot_of[index] for index in members)
        for slot, index in zip(slots, _along(stubs, members), strict=True):
            order[slot] = index
    return order


def _along(stubs: Sequence[Mapping[str, Any]], members: Sequence[int]) -> list[int]:
    """Return the stubs of one scenario as its states follow one another."""
    by_state: dict[str, list[int]] = {}
    for index in members:
        by_state.setdefault(str(stubs[index].get("requiredScenarioState")), []).append(index)
    found: list[int] = []
    state = STARTED
    while state in by_state:
        here = by_state.pop(state)
        found += here
        state = next((str(n) for i in here if (n := stubs[i].get("newScenarioState"))), "")
    reached = set(found)
    return [*found, *(index for index in members if index not in reached)]


class _Reader:
    """Read one stub; what is lost is noted in the conversion."""

    def __init__(
        self, conversion: Conversion, place: str, read: ReadFile | None, base_url: str
    ) -> None:
        self._conversion = conversion
        self._place = place
        self._read = read
        self._base_url = base_url.rstrip("/")
        self._is_ours = False

    def interaction(self, stub: Any) -> RecordedInteraction:
        if not isinstance(stub, dict):
            raise Unusable("it must be an object")
        own = member(member(stub, "metadata", dict, {}), METADATA, dict, {})
        source = source_of(own, "hand")
        self._is_ours = bool(own)
        asked, answer = member(stub, "request", dict), member(stub, "response", dict)
        with within(".request"):
            request = self._request(asked, own)
        if stub.get("postServeActions") or stub.get("serveEventListeners"):
            self._lose("", "what it does after answering is not done in a replay")
        with within(".response"):
            if "fault" in answer:
                return RecordedInteraction(request, source, error=self._failure(answer, own))
            return RecordedInteraction(request, source, self._response(request, answer, own))

    def _lose(self, place: str, reason: str) -> None:
        self._conversion.lose(self._place + place, reason)

    def _hides(self, name: str) -> bool:
        """Say whether a field that may be anything is one whose value is never recorded."""
        return self._is_ours or is_secret(name)

    # -- The request --------------------------------------------------------------------------

    def _request(self, fields: Mapping[str, Any], own: Mapping[str, Any]) -> RecordedRequest:
        unknown = sorted(fields.keys() - _REQUEST_FIELDS)
        if unknown:
            raise Unusable("a pattern that a recording cannot hold", f".{unknown[0]}")
        method = fields.get("method")
        if not isinstance(method, str) or method.upper() == "ANY":
            raise Unusable("it answers several methods; a recorded call has one", ".method")
        url = self._origin(fields, own) + self._target(fields)
        http_url(url)
        headers = self._headers(member(fields, "headers", dict, {}), own)
        body = self._body(fields, headers)
        for place in _leniencies(fields, ".request"):
            self._lose(place, "a recorded call is compared strictly")
        return RecordedRequest(method_of(method), url, headers, body)

    def _origin(self, fields: Mapping[str, Any], own: Mapping[str, Any]) -> str:
        host = fields.get("host")
        if host is None:
            origin = own.get("origin")
            return origin if isinstance(origin, str) else self._base_url
        name = _exact(host, ".host", hidden=False) if isinstance(host, dict) else str(host)
        scheme = member(fields, "scheme", str, urlsplit(self._base_url).scheme)
        port = member(fields, "port", int, 0)
        return f"{scheme}://{name}{f':{port}' if port else ''}"

    def _target(self, fields: Mapping[str, Any]) -> str:
        """Return the path and query of the only call that the patterns admit."""
        named = (member(fields, name, str, "") for name in ("url", "urlPath"))
        patterns = (member(fields, name, str, "") for name in ("urlPattern", "urlPathPattern"))
        path = next(filter(None, (*named, *map(_literal, patterns))), "")
        if not path and (template := member(fields, "urlPathTemplate", str, "")):
            path = template
            for name, pattern in member(fields, "pathParameters", dict, {}).items():
                value = _exact(pattern, f".pathParameters.{name}", hidden=False)
                path = path.replace(f"{{{name}}}", quote(value, safe=""))
            if "{" in path:
                raise Unusable("it answers many paths", ".urlPathTemplate")
        if not path.startswith("/"):
            names = [name for name in _PATTERNS if name in fields]
            place = f".{names[0]}" if names else ""
            raise Unusable("it answers many URLs; a recorded call has one", place)
        query: list[tuple[str, str]] = []
        for name, pattern in member(fields, "queryParameters", dict, {}).items():
            place = f".queryParameters.{name}"
            values = _exact_values(pattern, place, hidden=self._hides(name))
            query += [(name, value) for value in values]
        if not query:
            return path
        return f"{path}{'&' if '?' in path else '?'}{urlencode(query)}"

    def _headers(self, patterns: Mapping[str, Any], own: Mapping[str, Any]) -> Headers:
        found: Headers = {}
        kept = own.get("requestHeaders")
        if isinstance(kept, dict):
            found |= {str(name).lower(): value for name, value in kept.items() if _is_header(value)}
        for name, pattern in patterns.items():
            try:
                found[name.lower()] = _exact(pattern, "", hidden=self._hides(name))
            except Unusable:
                self._lose(f".request.headers.{name}", "only an exact value can be recorded")
                continue
            if name.lower() != "content-type":
                reason = "recorded only if the test matches by it (match=headers:…)"
                self._lose(f".request.headers.{name}", reason)
        return found

    def _body(self, fields: Mapping[str, Any], headers: Headers) -> Any:
        content_type = header(headers, "content-type")
        if form := member(fields, "formParameters", dict, {}):
            values = {
                name: _exact_values(pattern, f".formParameters.{name}", hidden=self._hides(name))
                for name, pattern in form.items()
            }
            headers.setdefault("content-type", _FORM)
            single = {name: v[0] if len(v) == 1 else v for name, v in values.items() if v}
            return {"$form": single}
        if parts := member(fields, "multipartPatterns", list, []):
            headers.setdefault("content-type", "multipart/form-data")
            return {
                "$multipart": [
                    _read_part(part, f".multipartPatterns[{index}]", self._hides)
                    for index, part in enumerate(parts)
                ]
            }
        patterns = member(fields, "bodyPatterns", list, [])
        if not patterns or patterns == [ABSENT]:
            return msgspec.UNSET
        if len(patterns) > 1:
            raise Unusable("only one pattern of a body can be recorded", ".bodyPatterns")
        if content_type is None and not self._is_ours:  # what WireMock records tells no types
            content_type = _likely_type(patterns[0])
            if content_type == _FORM:
                headers["content-type"] = _FORM
        return _body_of(patterns[0], ".bodyPatterns[0]", content_type, self._hides)

    # -- The response -------------------------------------------------------------------------

    def _response(
        self, request: RecordedRequest, fields: Mapping[str, Any], own: Mapping[str, Any]
    ) -> RecordedResponse:
        if "proxyBaseUrl" in fields:
            raise Unusable("it passes the call on to a server", ".proxyBaseUrl")
        content = self._content(fields)
        done = self._without_templates(fields, content)
        for name in sorted(fields.keys() - _RESPONSE_FIELDS - done):
            self._lose(f".response.{name}", "it is not done in a replay")
        status = member(fields, "status", int, 200)
        self._check_reason(status, fields)
        pairs: list[tuple[str, str]] = []
        for name, values in member(fields, "headers", dict, {}).items():
            if not _is_header(values):
                raise Unusable("it must be text, or a list of texts", f".headers.{name}")
            pairs += [(name, v) for v in (values if isinstance(values, list) else [values])]
        response, change = recorded_response(
            request,
            status,
            header_map(pairs, keep_length=request.method == "HEAD"),
            content,
            content_type="application/json" if "jsonBody" in fields else None,
            delay_ms=self._delay(fields),
        )
        if change is not None:
            self._lose(".response", change)
        return with_content_type(response, own)

    def _without_templates(self, fields: Mapping[str, Any], content: bytes | str) -> set[str]:
        """Return the fields that fill in templates, where there is no template.

        Raises:
            Unusable: There is one, and WireMock would fill it in.
        """
        filled = fields.get("transformers") == [_TEMPLATES]
        text = content.decode(errors="replace") if isinstance(content, bytes) else content
        if _TEMPLATE in text + encode(fields.get("headers")).decode():
            if filled:
                raise Unusable("it is made from a template anew each time", ".transformers")
            if not self._is_ours:
                self._lose(
                    ".response", "`{{` is taken literally, as by a WireMock without templates"
                )
        return {"transformers", "transformerParameters"} if filled else set()

    def _check_reason(self, status: int, fields: Mapping[str, Any]) -> None:
        said = member(fields, "statusMessage", str, "")
        usual = {item.value: item.phrase for item in HTTPStatus}.get(status)
        if said and said != usual:
            self._lose(".response.statusMessage", "a replay says the usual one")

    def _content(self, fields: Mapping[str, Any]) -> bytes | str:
        if "jsonBody" in fields:
            return encode(fields["jsonBody"])
        if "base64Body" in fields:
            with within(".base64Body"):
                return from_base64(member(fields, "base64Body", str))
        if name := member(fields, "bodyFileName", str, ""):
            if self._read is None:
                raise Unusable(f"its body is in the file {name!r}", ".bodyFileName")
            with within(".bodyFileName"):
                return self._read(name)
        return member(fields, "body", str, "").encode()

    def _delay(self, fields: Mapping[str, Any]) -> float | None:
        if (fixed := fields.get("fixedDelayMilliseconds")) is not None:
            if (delay := delay_of(fixed)) is None:
                self._lose(".response.fixedDelayMilliseconds", "a delay is up to ten minutes")
            return delay
        spread = fields.get("delayDistribution")
        if isinstance(spread, dict) and spread.get("type") == "fixed":
            return delay_of(spread.get("milliseconds"))
        if spread is not None:
            self._lose(".response.delayDistribution", "a recorded delay is the same each time")
        return None

    def _failure(self, fields: Mapping[str, Any], own: Mapping[str, Any]) -> RecordedFailure:
        fault = fields["fault"]
        if fault == "EMPTY_RESPONSE":
            self._lose(".response.fault", "recorded as a connection that was reset")
        elif fault != "CONNECTION_RESET_BY_PEER":
            raise Unusable("a failure that cannot be recorded", ".fault")
        message = own.get("message")
        return RecordedFailure(
            str(FailureKind.RESET), message if isinstance(message, str) else None
        )


def _is_header(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    )


# -- Patterns that admit one value ------------------------------------------------------------


def _exact(pattern: Any, place: str, *, hidden: bool) -> str:
    """Return the only text that a pattern admits; ``hidden`` says that it may be anything."""
    if isinstance(pattern, dict):
        if isinstance(text := pattern.get("equalTo"), str):
            return text
        if isinstance(regex := pattern.get("matches"), str):
            if hidden and regex == ANYTHING:  # what `_equal` writes for a secret
                return PLACEHOLDER
            if text := _literal(regex):
                return text
    raise Unusable("it admits many values; a recorded call has one", place)


def _literal(regex: str) -> str:
    """Return the only text that a regular expression matches; an empty one when there are more."""
    plain = regex.removeprefix("^").removesuffix("$")
    return _ESCAPE.sub(r"\1", plain) if _PLAIN_REGEX.fullmatch(plain) else ""


def _exact_values(pattern: Any, place: str, *, hidden: bool) -> list[str]:
    """Return the only values that the pattern of a parameter admits; none if it must be absent."""
    if pattern == ABSENT:
        return []
    if isinstance(pattern, dict) and isinstance(several := pattern.get("hasExactly"), list):
        return [_exact(item, place, hidden=hidden) for item in several]
    return [_exact(pattern, place, hidden=hidden)]


def _body_of(
    pattern: Any, place: str, content_type: str | None, hides: Hides, name: str = ""
) -> Any:
    """Return the only body that a pattern admits, as recordings hold it; ``name`` is its field."""
    if isinstance(pattern, dict):
        if "equalToJson" in pattern:
            return _json_of(pattern["equalToJson"], f"{place}.equalToJson", hides, name)
        if isinstance(binary := pattern.get("binaryEqualTo"), str):
            content = from_base64(binary)
            if base_type(content_type).startswith(("text/", "multipart/")) or is_json(content_type):
                return decode_body(content, content_type)
            return {"$base64": base64.b64encode(content).decode()}
        if isinstance(xml := pattern.get("equalToXml"), str):
            return xml
    text = _exact(pattern, place, hidden=hides(name))
    return text if not text else decode_body(text.encode(), content_type)


def _likely_type(pattern: Any) -> str | None:
    """Return the type of a body that a pattern of text admits, if it reads as JSON or a form."""
    text = pattern.get("equalTo") if isinstance(pattern, dict) else None
    if not isinstance(text, str):
        return None
    if text.lstrip()[:1] in ("{", "["):
        return "application/json"
    return _FORM if _LOOKS_LIKE_FORM.fullmatch(text) else None


def _json_of(value: Any, place: str, hides: Hides, name: str) -> Any:
    if isinstance(value, str):
        try:
            value = decode(value.encode(), MAX_DEPTH)
        except (InvalidMessage, LimitExceeded) as exc:
            raise Unusable(f"it cannot be read: {exc.message}", place) from None
    return _without_wildcards(value, place, hides, name)


def _without_wildcards(value: Any, place: str, hides: Hides, name: str) -> Any:
    """Return JSON whose wildcards stand for secrets; ``name`` is that of the field it is in."""
    if isinstance(value, dict):
        return {
            key: _without_wildcards(inner, f"{place}.{key}", hides, key)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [
            _without_wildcards(item, f"{place}[{index}]", hides, name)
            for index, item in enumerate(value)
        ]
    if isinstance(value, str) and value.startswith(_JSON_UNIT):
        if value == IGNORED and hides(name):
            return PLACEHOLDER
        raise Unusable("it admits many values; a recorded call has one", place)
    return value


def _leniencies(patterns: Any, place: str) -> Iterator[str]:
    """Return where patterns are laxer than replay is."""
    if isinstance(patterns, list):
        for index, item in enumerate(patterns):
            yield from _leniencies(item, f"{place}[{index}]")
    elif isinstance(patterns, dict):
        for name, inner in patterns.items():
            if name == "equalToJson":
                continue
            if name in _LENIENT and inner is True:
                yield f"{place}.{name}"
            yield from _leniencies(inner, f"{place}.{name}")


def _read_part(pattern: Any, place: str, hides: Hides) -> dict[str, Any]:
    if not isinstance(pattern, dict):
        raise Unusable("it must be an object", place)
    part: dict[str, Any] = {"name": member(pattern, "name", str)}
    if filename := member(pattern, "fileName", str, ""):
        part["filename"] = filename
    for name, value in member(pattern, "headers", dict, {}).items():
        if name.lower() != "content-type":
            raise Unusable("only the type of a part can be recorded", f"{place}.headers.{name}")
        part["contentType"] = _exact(value, f"{place}.headers.{name}", hidden=False)
    bodies = member(pattern, "bodyPatterns", list, [])
    if len(bodies) != 1:
        raise Unusable("it admits many contents; a recorded part has one", f"{place}.bodyPatterns")
    within_part = f"{place}.bodyPatterns[0]"
    data = _body_of(bodies[0], within_part, part.get("contentType"), hides, part["name"])
    return part | (data if isinstance(data, dict) and set(data) == {"$base64"} else {"data": data})
