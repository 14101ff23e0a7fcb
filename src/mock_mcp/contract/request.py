"""Check the request that the code under test made against its operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from mock_mcp.contract.bodies import form_pairs, header, media_type_of, multipart_fields
from mock_mcp.contract.coerce import coerce, fields_of, nest, read_json, read_text
from mock_mcp.contract.document import Place
from mock_mcp.contract.finder import Match
from mock_mcp.contract.items import as_text, described, item_violations
from mock_mcp.contract.operation import FORM, MULTIPART, Media, Operation, Parameter, pick_media
from mock_mcp.contract.schema import CompiledSchema, SchemaCache
from mock_mcp.contract.violations import bounded, explain
from mock_mcp.media_types import base_type, is_json
from mock_mcp.types import Violation

__all__ = ["asks_to_stream", "read_parameter", "violations_of_request"]

_SEPARATORS = {"spaceDelimited": " ", "pipeDelimited": "|", "tabDelimited": "\t"}
_EXPLODED = {"label": ".", "matrix": ";"}
_UNCHECKED_HEADERS = frozenset(("accept", "authorization", "content-type"))
_TRUE = ("true", "True", "1", True)
_ABSENT = object()


def violations_of_request(
    match: Match, request: Mapping[str, Any], schemas: SchemaCache
) -> Iterator[Violation]:
    """Yield where a request breaks its operation's contract.

    Args:
        match: The operation and the path parameters of the call.
        request: The wire object; without ``headers`` nothing is known about headers and cookies,
            and none are missed.
        schemas: Where compiled schemas are kept.

    Raises:
        ContractDocumentError: A schema of the operation cannot be used.
    """
    checker = _RequestChecker(match, request, schemas)
    for parameter in match.operation.parameters:
        yield from checker.parameter(parameter)
    yield from checker.body()


class _RequestChecker:
    def __init__(self, match: Match, request: Mapping[str, Any], schemas: SchemaCache) -> None:
        self._path = match.path_parameters
        self._operation: Operation = match.operation
        self._request = request
        self._id: str = request["requestId"]
        self._schemas = schemas
        headers = request.get("headers")
        self._headers: Mapping[str, Any] | None = headers if isinstance(headers, dict) else None
        query = request["endpoint"].partition("#")[0].partition("?")[2]
        self._query = parse_qsl(query, keep_blank_values=True) if query else []

    # -- Parameters ---------------------------------------------------------------------------

    def parameter(self, parameter: Parameter) -> Iterator[Violation]:
        """Check one parameter: its presence, then its value."""
        if parameter.where in ("header", "cookie") and self._headers is None:
            return
        if parameter.where == "header" and parameter.name.lower() in _UNCHECKED_HEADERS:
            return
        compiled = self._compile(parameter.schema)
        value = self._value(parameter, compiled)
        if value is _ABSENT:
            if parameter.required:
                yield self._violation(
                    parameter.pointer,
                    "required",
                    f"{parameter.where} parameter {parameter.name!r}",
                    "no such parameter",
                    f"{self._operation.label} requires it: the code under test must send it.",
                )
        elif value == "" and parameter.may_be_empty:
            return
        elif compiled is not None and not compiled.is_valid(value):
            yield from explain(compiled, value, request_id=self._id, prefix=parameter.pointer)

    def _value(self, parameter: Parameter, compiled: CompiledSchema | None) -> Any:
        if parameter.where == "query":
            return self._query_value(parameter, compiled)
        if parameter.where == "path":
            text = self._path.get(parameter.name)
            if text is not None and parameter.style == "label":
                text = text.removeprefix(".")
            elif text is not None and parameter.style == "matrix":
                sign = f"{parameter.name}="
                text = text.removeprefix(";").removeprefix(sign).replace(f";{sign}", ";")
        elif parameter.where == "header":
            text = header(self._headers, parameter.name)
        else:
            text = self._cookies().get(parameter.name)
        return _ABSENT if text is None else read_parameter(text, parameter, compiled)

    def _query_value(self, parameter: Parameter, compiled: CompiledSchema | None) -> Any:
        name = parameter.name
        schema, kinds = (compiled.schema, compiled.kinds) if compiled is not None else ({}, ())
        values = [value for key, value in self._query if key == name]
        bracketed = [(k, v) for k, v in self._query if k.startswith(name + "[")]
        if not values and bracketed:
            tree = nest([(key[len(name) :], value) for key, value in bracketed], {})
            return coerce(tree.get("", {}), schema)
        if not values:
            if parameter.style == "form" and parameter.explode and "object" in kinds:
                return self._spread(parameter, schema)
            return _ABSENT
        if parameter.media_type is not None or "array" not in kinds:
            return read_parameter(values[-1], parameter, compiled)
        if not parameter.explode:
            values = [part for value in values for part in value.split(_separator(parameter))]
        return coerce(values, schema)

    def _spread(self, parameter: Parameter, schema: dict[str, Any]) -> Any:
        """Return an object whose properties are query parameters of their own.

        An object that declares none is what no other parameter names.
        """
        declared = fields_of(schema)
        others = {p.name for p in self._operation.parameters if p.where == "query"}
        others.discard(parameter.name)
        pairs = [
            (name, value)
            for name, value in self._query
            if (name in declared if declared else name.partition("[")[0] not in others)
        ]
        return coerce(nest(pairs, schema), schema) if pairs else _ABSENT

    def _cookies(self) -> dict[str, str]:
        text = header(self._headers, "cookie") or ""
        pairs = (part.strip().partition("=") for part in text.split(";"))
        return {name: unquote(value) for name, _, value in pairs if name}

    # -- Body ---------------------------------------------------------------------------------

    def body(self) -> Iterator[Violation]:
        """Check the body: its presence, its media type, its value."""
        declared = self._operation.request_media
        body = self._request.get("body")
        if body is None:
            if self._operation.body_required:
                kinds = ", ".join(media.name for media in declared) or "any"
                yield self._violation(
                    "/body",
                    "required",
                    f"a body ({kinds})",
                    "no body",
                    f"{self._operation.label} requires a body: the code under test must send one.",
                )
            return
        if not declared:
            return
        content_type = media_type_of(self._headers)
        media = pick_media(declared, content_type or _guess(body, declared))
        if media is None:
            kinds = ", ".join(m.name for m in declared)
            yield self._violation(
                "/headers/content-type",
                "content-type",
                f"one of {kinds}",
                content_type or "none",
                f"Send the body as {kinds}.",
            )
            return
        compiled = self._compile(media.schema)
        if compiled is not None:
            kind = base_type(content_type or media.name)
            scope = described(kind, compiled, is_item_schema=media.is_item_schema)
            if scope is not None and isinstance(body, str | list):
                yield from item_violations(body, kind, compiled, scope, request_id=self._id)
                return
            value = _body_value(body, kind, media, compiled)
            if value is not _ABSENT:
                yield from explain(compiled, value, request_id=self._id, prefix="/body")

    # -- Helpers ------------------------------------------------------------------------------

    def _compile(self, schema: Place | None) -> CompiledSchema | None:
        if schema is None:
            return None
        return self._schemas.get(self._operation.document, schema, "request")

    def _violation(
        self, pointer: str, keyword: str, expected: str, actual: str, hint: str
    ) -> Violation:
        return Violation(self._id, pointer, keyword, expected, bounded(actual), hint)


def asks_to_stream(request: Mapping[str, Any]) -> bool:
    """Say whether a call wants its answer as a stream: by ``stream`` in its body or its query."""
    body = request.get("body")
    body = read_json(body) if isinstance(body, str) else body
    fields: list[tuple[str, Any]] = []
    if isinstance(body, dict):
        form, parts = body.get("$form"), body.get("$multipart")
        if isinstance(form, dict):
            fields = form_pairs(form)
        elif isinstance(parts, list):
            fields = multipart_fields([part for part in parts if isinstance(part, dict)])
        elif body.get("stream") is True:
            return True
    fields += parse_qsl(request["endpoint"].partition("#")[0].partition("?")[2])
    return any(name == "stream" and value in _TRUE for name, value in fields)


def _guess(body: Any, declared: tuple[Media, ...]) -> str | None:
    """Return the media type a body without content type must have, by its form."""
    if isinstance(body, dict) and "$form" in body:
        return FORM
    if isinstance(body, dict) and "$multipart" in body:
        return next((m.name for m in declared if m.name.startswith("multipart/")), MULTIPART)
    return None


def _body_value(body: Any, kind: str, media: Media, compiled: CompiledSchema) -> Any:
    """Return the value that the schema judges; `_ABSENT` when the body is not one it can judge."""
    if kind == FORM or kind.startswith("multipart/"):
        if isinstance(body, dict) and isinstance(body.get("$form"), dict):
            pairs = form_pairs(body["$form"])
        elif isinstance(body, dict) and isinstance(body.get("$multipart"), list):
            pairs = multipart_fields(
                [part for part in body["$multipart"] if isinstance(part, dict)]
            )
        elif isinstance(body, str) and kind == FORM:
            pairs = parse_qsl(body, keep_blank_values=True)
        else:
            return _ABSENT
        return coerce(nest(_encoded(pairs, media), compiled.schema), compiled.schema)
    if not is_json(kind):
        body = as_text(body, kind)
        return body if isinstance(body, str) and "string" in compiled.kinds else _ABSENT
    if isinstance(body, str) and not compiled.is_valid(body):
        return read_json(body)  # a client that sends the body as it went out
    return body


def _encoded(pairs: list[tuple[str, Any]], media: Media) -> Iterator[tuple[str, Any]]:
    """Yield form fields as their ``encoding`` says they are: lists in one text, or JSON."""
    encoding = media.node.get("encoding")
    encoding = encoding if isinstance(encoding, dict) else {}
    for name, value in pairs:
        how = encoding.get(name)
        if not isinstance(how, dict) or not isinstance(value, str):
            yield name, value
        elif is_json(str(how.get("contentType", ""))):
            yield name, read_json(value)
        elif how.get("explode") is False:
            separator = _SEPARATORS.get(str(how.get("style")), ",")
            yield from ((name, part) for part in value.split(separator))
        else:
            yield name, value


def read_parameter(text: str, parameter: Parameter, compiled: CompiledSchema | None) -> Any:
    """Return the value of a parameter, or of a response's header, that is one text.

    Args:
        text: As sent: ``a,b`` is a list, ``k,v`` (or ``k=v`` exploded) an object, if the schema
            wants one; its style may put another character in place of the comma.
        parameter: How it is written.
        compiled: What it must be; None when that is not known.
    """
    if parameter.media_type is not None:
        return read_json(text) if is_json(parameter.media_type) else text
    if compiled is None:
        return text
    kinds = compiled.kinds
    separator = _separator(parameter)
    if "array" in kinds:
        return coerce([part.strip() for part in text.split(separator)], compiled.schema)
    if "object" in kinds and "string" not in kinds:
        parts = text.split(separator)
        if parameter.explode:
            pairs = {k: v for k, equals, v in (part.partition("=") for part in parts) if equals}
        else:
            pairs = dict(zip(parts[::2], parts[1::2], strict=False))
        return coerce(pairs, compiled.schema)
    return read_text(text, compiled.forms, kinds)


def _separator(parameter: Parameter) -> str:
    """Return what stands between the items of a list that is one text."""
    known = _EXPLODED if parameter.explode else _SEPARATORS
    return known.get(parameter.style, ",")
