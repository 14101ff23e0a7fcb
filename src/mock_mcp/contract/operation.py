"""Operations of a document: their parameters, request bodies and responses, read on demand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.document import Document, Place
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.media_types import base_type, is_json
from mock_mcp.sequential import is_event_stream, is_sequential

__all__ = [
    "JSON",
    "Media",
    "Operation",
    "Parameter",
    "ResponseContract",
    "pick_media",
]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

_MAX_UNIONS = 8
"""Nesting of alternatives that are looked into for the data of an event."""


@dataclass(frozen=True, slots=True)
class Media:
    """One media type of a body: its name as declared; where it, and its schema if any, stand.

    ``is_item_schema`` is set where the schema is OpenAPI 3.2's ``itemSchema``: that of each item.
    """

    name: str
    place: Place
    node: Mapping[str, Any]
    schema: Place | None
    is_item_schema: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation.

    ``where`` is ``path``, ``query``, ``header`` or ``cookie``; ``style`` and ``explode`` are those
    of OpenAPI 3 (Swagger's ``collectionFormat`` is translated). ``media_type`` is set when the
    value is a document of its own (``content`` in place of ``schema``), ``may_be_empty`` when a
    query may name it without a value.
    """

    name: str
    where: str
    required: bool
    style: str
    explode: bool
    schema: Place | None
    media_type: str | None
    may_be_empty: bool = False

    @property
    def pointer(self) -> str:
        """Where violations say that it stands in a request."""
        place = {"header": "headers", "cookie": "cookies"}.get(self.where, self.where)
        return pointers.extend(f"/{place}", self.name)


class ResponseContract:
    """What an operation declares for one status.

    Attributes:
        key: The status as declared: ``200``, ``4XX`` or ``default``.
        place: Where the response stands, references followed.
        node: The response object.
    """

    def __init__(
        self, operation: Operation, key: str, place: Place, node: Mapping[str, Any]
    ) -> None:
        self.operation = operation
        self.key = key
        self.place = place
        self.node = node

    @cached_property
    def media(self) -> tuple[Media, ...]:
        """The declared bodies in the order of the document; none when no body is declared."""
        if self.operation.document.version != "2.0":
            return _media(self.operation.document, self.place, self.node)
        if "schema" not in self.node:
            return ()
        schema = self.place.child("schema")
        produces = self.operation.swagger_types("produces") or (JSON,)
        return tuple(Media(name, self.place, self.node, schema) for name in produces)

    def pick(self, media_type: str | None = None) -> Media | None:
        """Return the media for ``media_type``; for None the preferred one, JSON first."""
        return self.preferred if media_type is None else pick_media(self.media, media_type)

    @cached_property
    def preferred(self) -> Media | None:
        """The media to answer with when nothing else is asked for: JSON if it is declared."""
        return pick_media(self.media, None)

    @cached_property
    def required_headers(self) -> tuple[str, ...]:
        """The names of the headers that an answer must have, sorted."""
        return tuple(sorted(header.name for header in self.headers if header.required))

    @cached_property
    def headers(self) -> tuple[Parameter, ...]:
        """The declared headers; they are written as header parameters are."""
        return tuple(self._headers())

    def _headers(self) -> Iterator[Parameter]:
        document = self.operation.document
        headers = self.node.get("headers")
        for name, node in headers.items() if isinstance(headers, dict) else ():
            if name.lower() == "content-type":  # ignored here by the specification
                continue
            place, header = document.deref(self.place.child("headers", name), node)
            if not isinstance(header, dict):
                continue
            yield self.operation.parameter(name, "header", place, header)

    @cached_property
    def examples(self) -> tuple[Any, ...]:
        """The examples of the preferred body, as the document gives them: they may be invalid."""
        return () if self.preferred is None else self.examples_of(self.preferred)

    def examples_of(self, media: Media) -> tuple[Any, ...]:
        """Return the examples of a body, as the document gives them: they may be invalid."""
        if self.operation.document.version == "2.0":
            examples = self.node.get("examples")
            return tuple(examples.values()) if isinstance(examples, dict) else ()
        return tuple(_examples(self.operation.document, media))


class Operation:
    """One method of one path.

    Attributes:
        document: The document that declares it.
        path: The path template.
        method: In lower case.
        pointer: JSON pointer of the operation (of a referenced path item: in its own file).
        node: The operation object.
    """

    def __init__(
        self,
        document: Document,
        path: str,
        method: str,
        place: Place,
        item: Mapping[str, Any],
    ) -> None:
        self.document = document
        self.path = path
        self.method = method
        self.place = place.child(method)
        self.pointer = self.place.pointer
        self.node: Mapping[str, Any] = item[method]
        self._item = item
        self._item_place = place

    def __repr__(self) -> str:
        return f"Operation({self.label!r})"

    @cached_property
    def label(self) -> str:
        """Method and template, as people write them: ``GET /pet/{petId}``."""
        return f"{self.method.upper()} {self.path}"

    @cached_property
    def responses(self) -> Mapping[str, ResponseContract]:
        """The declared responses by status key.

        Raises:
            ContractDocumentError: A response's ``$ref`` cannot be resolved.
        """
        declared = self.node.get("responses")
        found: dict[str, ResponseContract] = {}
        for key, node in declared.items() if isinstance(declared, dict) else ():
            place = self.place.child("responses", key)
            if key.startswith("x-"):
                continue
            name = key.upper() if re.fullmatch(r"[1-5][xX]{2}", key) else key
            if name != "default" and not re.fullmatch(r"[1-5](?:[0-9]{2}|XX)", name):
                self.document.note(place, "is not a status", "ignored")
                continue
            place, target = self.document.deref(place, node)
            if isinstance(target, dict):
                found[name] = ResponseContract(self, name, place, target)
            else:
                self.document.note(place, "is not a response", "ignored")
        return found

    @property
    def successes(self) -> Iterator[ResponseContract]:
        """The successful responses, the one to answer with first: by status, then the default."""
        keys = sorted(key for key in self.responses if key.startswith("2"))
        yield from (self.responses[key] for key in (*keys, "default") if key in self.responses)

    def response(self, status: int) -> ResponseContract | None:
        """Return what is declared for ``status``: exactly, by range (``2XX``), or by default."""
        for key in (str(status), f"{status // 100}XX", "default"):
            if key in self.responses:
                return self.responses[key]
        return None

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the operation and of its path item; the operation's own win."""
        found: dict[tuple[str, str], Parameter] = {}
        for place, node in self._parameter_nodes():
            name, where = node.get("name"), node.get("in")
            if isinstance(name, str) and where in ("path", "query", "header", "cookie"):
                found[name, where] = self.parameter(name, where, place, node)
        return tuple(found.values())

    def parameter(self, name: str, where: str, place: Place, node: Mapping[str, Any]) -> Parameter:
        """Return the parameter, or the header of a response, that ``node`` declares."""
        required = node.get("required") is True or where == "path"
        may_be_empty = where == "query" and node.get("allowEmptyValue") is True
        schema: Place | None
        if self.document.version == "2.0":
            default = ("form" if where == "query" else "simple", False)
            style, explode = _COLLECTION_FORMATS.get(str(node.get("collectionFormat")), default)
            schema = self.document.attach(str(place), _without(node, _SWAGGER_PARAMETER), place)
            return Parameter(name, where, required, style, explode, schema, None, may_be_empty)
        content = node.get("content")
        if isinstance(content, dict) and content:
            media_type, holder = next(iter(content.items()))
            at = place.child("content", media_type)
            schema = at.child("schema") if isinstance(holder, dict) and "schema" in holder else None
            return Parameter(name, where, required, "content", False, schema, media_type)
        style = node.get("style", "form" if where in ("query", "cookie") else "simple")
        explode = node.get("explode", style == "form")
        schema = place.child("schema") if "schema" in node else None
        explode = explode is True
        return Parameter(name, where, required, str(style), explode, schema, None, may_be_empty)

    def _parameter_nodes(self) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        for place, holder in ((self._item_place, self._item), (self.place, self.node)):
            nodes = holder.get("parameters")
            for i, node in enumerate(nodes if isinstance(nodes, list) else ()):
                at, parameter = self.document.deref(place.child("parameters", i), node)
                if isinstance(parameter, dict):
                    yield at, parameter

    @cached_property
    def request_media(self) -> tuple[Media, ...]:
        """The declared request bodies; none when the operation declares no body."""
        if self.document.version == "2.0":
            return self._swagger_media()
        place, body = self.document.deref(
            self.place.child("requestBody"), self.node.get("requestBody")
        )
        return _media(self.document, place, body) if isinstance(body, dict) else ()

    @cached_property
    def body_required(self) -> bool:
        """Whether a request without a body breaks the contract."""
        if self.document.version == "2.0":
            return any(
                node.get("required") is True and node.get("in") in ("body", "formData")
                for _, node in self._parameter_nodes()
            )
        _, body = self.document.deref(self.place.child("requestBody"), self.node.get("requestBody"))
        return isinstance(body, dict) and body.get("required") is True

    def swagger_types(self, keyword: str) -> tuple[str, ...]:
        """Return ``produces`` or ``consumes`` of a Swagger 2.0 operation or of its document."""
        for holder in (self.node, self.document.raw):
            value = holder.get(keyword)
            if isinstance(value, list):
                return tuple(name for name in value if isinstance(name, str))
        return ()

    def _swagger_media(self) -> tuple[Media, ...]:
        consumes = self.swagger_types("consumes")
        form: dict[str, Any] = {}
        encoding: dict[str, Any] = {}
        required: list[str] = []
        is_file = False
        for place, node in self._parameter_nodes():
            name = node.get("name")
            if node.get("in") == "body":
                schema = place.child("schema") if "schema" in node else None
                return tuple(Media(kind, place, node, schema) for kind in consumes or (JSON,))
            if node.get("in") == "formData" and isinstance(name, str):
                form[name] = node
                is_file = is_file or node.get("type") == "file"
                if node.get("type") == "array":
                    given = str(node.get("collectionFormat"))
                    style, explode = _COLLECTION_FORMATS.get(given, ("form", False))
                    encoding[name] = {"style": style, "explode": explode}
                required += [name] if node.get("required") is True else []
        if not form:
            return ()
        kinds = [kind for kind in consumes if base_type(kind) in (FORM, MULTIPART)]
        properties = {name: _without(node, _SWAGGER_PARAMETER) for name, node in form.items()}
        schema_node = {"type": "object", "properties": properties, "required": required}
        at = self.document.attach(f"{self.place}/formData", schema_node)
        return tuple(
            Media(kind, self.place, {"encoding": encoding}, at)
            for kind in kinds or [MULTIPART if is_file else FORM]
        )


def _without(node: Mapping[str, Any], keywords: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in keywords}


_SWAGGER_PARAMETER = frozenset(("allowEmptyValue", "collectionFormat", "in", "name", "required"))

_COLLECTION_FORMATS = {
    "csv": ("form", False),
    "ssv": ("spaceDelimited", False),
    "tsv": ("tabDelimited", False),
    "pipes": ("pipeDelimited", False),
    "multi": ("form", True),
}


def pick_media(declared: Sequence[Media], media_type: str | None) -> Media | None:
    """Return the declared media that covers ``media_type``.

    Args:
        declared: What the contract declares, in its order.
        media_type: A content type; None asks for the preferred one: ``application/json``, else
            any JSON type, else the first.

    Returns:
        The exact type (parameters included, then without), else the same type with a structured
        suffix as JSON, else the narrowest range that covers it; None when nothing does.
    """
    if media_type is None:
        by_rank = sorted(declared, key=lambda m: (base_type(m.name) != JSON, not is_json(m.name)))
        return by_rank[0] if by_rank else None
    for media in declared:  # nearly always
        if media.name == media_type:
            return media
    wanted = media_type.strip().lower().replace(" ", "")
    kind = base_type(media_type)
    tests = (
        lambda name: name.lower().replace(" ", "") == wanted,
        lambda name: base_type(name) == kind,
        lambda name: base_type(name) == f"{kind.partition('/')[0]}/*",
        lambda name: base_type(name) == "*/*",
    )
    return next((m for test in tests for m in declared if test(m.name)), None)


def _media(document: Document, place: Place, node: Mapping[str, Any]) -> tuple[Media, ...]:
    content = node.get("content")
    found = []
    for name, value in content.items() if isinstance(content, dict) else ():
        at, media = document.deref(place.child("content", name), value)
        if isinstance(media, dict) and "itemSchema" in media and is_sequential(name):
            found.append(Media(name, at, media, _item_schema(document, name, at, media), True))
        elif isinstance(media, dict):
            schema = at.child("schema") if "schema" in media else None
            found.append(Media(name, at, media, schema))
        else:
            document.note(at, "is not a media type object", "ignored")
    return tuple(found)


def _item_schema(document: Document, name: str, at: Place, media: Mapping[str, Any]) -> Place:
    place = at.child("itemSchema")
    if is_event_stream(name):
        node = media["itemSchema"]
        event = _with_json_data(document, place, node)
        if event is not node:
            return document.attach(f"{place}", event)
    return place


def _with_json_data(document: Document, place: Place, node: Any, depth: int = 0) -> Any:
    """Return the schema of an event with that of the JSON in its data in place of the text's.

    OpenAPI 3.2 describes an event with its data as text, and the JSON in it by ``contentSchema``.
    A schema that says nothing of JSON comes back itself.
    """
    place, schema = document.deref(place, node)
    if not isinstance(schema, dict) or place.file is not document.place.file or depth > _MAX_UNIONS:
        return node  # what stands in another file is read from there
    changed: dict[str, Any] = {}
    for key in ("oneOf", "anyOf"):
        parts = schema.get(key)
        if isinstance(parts, list):
            at = place.child(key)
            read = [
                _with_json_data(document, at.child(i), part, depth + 1)
                for i, part in enumerate(parts)
            ]
            if any(new is not old for new, old in zip(read, parts, strict=True)):
                changed[key] = read
    properties = schema.get("properties")
    data = properties.get("data") if isinstance(properties, dict) else None
    if isinstance(properties, dict) and isinstance(data, dict):
        if "contentSchema" in data:
            changed["properties"] = {**properties, "data": data["contentSchema"]}
        elif changed:  # text, whichever alternative it is
            changed["properties"] = {**properties, "data": _without(data, frozenset(("type",)))}
    return {**schema, **changed} if changed else node


def _examples(document: Document, media: Media) -> Iterator[Any]:
    if "example" in media.node:
        yield media.node["example"]
    examples = media.node.get("examples")
    for name, node in examples.items() if isinstance(examples, dict) else ():
        at = media.place.child("examples", name)
        try:
            _, example = document.deref(at, node)
        except ContractDocumentError as error:
            document.note(at, error.reason, "ignored")
            continue
        if isinstance(example, dict) and "value" in example:
            yield example["value"]
