"""The contract sources of one project, and the checks against them.

One `Contracts` serves a whole process: the daemon checks mocks, the client polices requests, the
adapter shows schemas. A request names its sources; the first that matches wins: a JSON Schema in
``metadata.schema``, a local document in ``metadata.schemaUrl``, the documents the test brought in
``contract.documents``, the project's documents. What no contract covers is delivered and said to
be unchecked, with the reason; it is never passed off as checked. What a registered document ought
to judge and cannot, because it cannot be read or used, is an error.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.bodies import header, media_type_of, shape_error
from mock_mcp.contract.document import (
    METHODS,
    Document,
    DocumentSource,
    Place,
    document_of_schema,
    load_document,
    load_schema_file,
)
from mock_mcp.contract.errors import ContractDocumentError, NoOperation
from mock_mcp.contract.finder import Finder, Match
from mock_mcp.contract.items import Scope, as_text, described, has_items, item_violations
from mock_mcp.contract.normalise import SCHEMA_KEYWORDS
from mock_mcp.contract.operation import JSON, Media, ResponseContract
from mock_mcp.contract.request import asks_to_stream, read_parameter, violations_of_request
from mock_mcp.contract.schema import CompiledSchema, SchemaCache, fingerprint, is_too_deep
from mock_mcp.contract.violations import bounded, excerpt, explain, limited
from mock_mcp.errors import MissingExtra, MockMcpError
from mock_mcp.media_types import base_type, is_json
from mock_mcp.sequential import is_sequential
from mock_mcp.types import Mock, Violation

__all__ = ["MAX_DOCUMENTS", "MODES", "Contracts", "Mode", "Source", "Verdict", "contract_mode"]

MAX_DOCUMENTS = 32
"""Loaded documents kept; 4 MB of JSON take about 30 MB."""

_MAX_SCHEMAS = 256

Mode = Literal["enforce", "warn", "off"]
MODES: tuple[Mode, ...] = ("enforce", "warn", "off")

_RANK = {"method": 0, "path": 1, "server": 2}


class Source(msgspec.Struct, frozen=True):
    """Where the contract of one request comes from.

    Exactly one of ``match``, ``schema`` and ``reason`` is set.

    Attributes:
        match: The operation and its path parameters.
        schema: The place of a schema that a successful answer's body must satisfy.
        document: The document of either.
        reason: Why nothing checks this request.
        error: What stood in the way, when it was an error: no operation, or an unusable document.
        skipped: Why a source in the metadata was passed over, sentence by sentence.
        wrong: Why ``metadata.schemaUrl`` cannot be used, when it names a local document.
    """

    match: Match | None = None
    schema: Place | None = None
    document: Document | None = None
    reason: str | None = None
    error: MockMcpError | None = None
    skipped: tuple[str, ...] = ()
    wrong: MockMcpError | None = None

    def declared_headers(self, status: int) -> list[str]:
        """Return the names of the headers that the contract declares for an answer."""
        response = self.match and self.match.operation.response(status)
        return [header.name for header in response.headers] if response else []


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of checking one mock.

    Attributes:
        checked: Whether a contract judged the body.
        violations: Every broken rule; a verdict may have some though the body is unchecked.
        unchecked_reason: Why the body was not judged; None when it was.
        operation: The operation, as ``GET /pet/{petId}``; None for a lone schema.
        media_type: The contract's media type for this status; None when it declares no body.
        notes: What the contract says and this verdict ignores, because it is not valid: sentences.
        error: Why a registered document, or an operation's schema, could not be used. Where
            violations are enforced nothing may be delivered then, for nobody judged it.
        contract_hash: SHA-256 of what the mock was judged by; the same as long as the contract
            asks the same of this answer, whatever else changes in the document. None if unchecked.
    """

    checked: bool
    violations: tuple[Violation, ...] = ()
    unchecked_reason: str | None = None
    contract_hash: str | None = None
    operation: str | None = None
    media_type: str | None = None
    notes: tuple[str, ...] = ()
    error: MockMcpError | None = None


@dataclass(slots=True)
class _Loaded:
    document: Document
    finder: Finder


class Contracts:
    """The contract sources of one project.

    Safe to be called from several threads. Nothing is read before the first request needs it; a
    document that changed on disk is read again.

    Args:
        documents: The project's documents, in the order they are searched.
        cache_dir: A private directory for parsed YAML documents; None keeps none.
        root: The project root: relative paths are read against it, and ``$ref``s stay below it.
    """

    def __init__(
        self,
        documents: Sequence[DocumentSource] = (),
        *,
        cache_dir: Path | None = None,
        root: Path | None = None,
    ) -> None:
        self._documents = tuple(documents)
        self._cache_dir = cache_dir
        self._root = root
        self._loaded: OrderedDict[tuple[str, str | None, bool], _Loaded] = OrderedDict()
        self._bare: OrderedDict[bytes, Document] = OrderedDict()
        self._lock = threading.RLock()
        self.schemas = SchemaCache()

    # -- Sources ------------------------------------------------------------------------------

    def resolve(self, request: Mapping[str, Any]) -> Source:
        """Return the source of a request's contract; the first that matches wins.

        Args:
            request: The wire object: ``endpoint``, ``method``, and the optional ``metadata`` and
                ``contract``.
        """
        reasons: list[str] = []
        errors: list[MockMcpError] = []
        wrong: MockMcpError | None = None
        metadata = request.get("metadata")
        if isinstance(metadata, dict):
            found = self._from_metadata(request, metadata, reasons, errors)
            if isinstance(found, Source):
                return found
            wrong = found
        for source in (*_request_documents(request), *self._documents):
            try:
                loaded = self._load(source)
                match = loaded.finder.find(request["endpoint"], request["method"])
                return Source(match, document=loaded.document, skipped=tuple(reasons))
            except (ContractDocumentError, MissingExtra, NoOperation) as error:
                errors.append(error)
        worst = min(errors, key=_severity, default=None)
        said = (*reasons, str(worst)) if worst is not None else tuple(reasons)
        reason = "; ".join(said) or "no contract is registered for this request"
        return Source(reason=reason, error=worst, skipped=tuple(reasons), wrong=wrong)

    def _from_metadata(
        self,
        request: Mapping[str, Any],
        metadata: Mapping[str, Any],
        reasons: list[str],
        errors: list[MockMcpError],
    ) -> Source | MockMcpError | None:
        """Return the source in the metadata, or why the local ``schemaUrl`` there is wrong."""
        if "schema" in metadata:
            schema = _schema_of(metadata["schema"])
            if schema is not None and is_too_deep(schema):
                return Source(reason="metadata.schema is nested too deep")
            if schema is not None:
                document = self._bare_document(schema)
                return Source(schema=document.place, document=document)
            reasons.append("metadata.schema holds no schema")
        url = metadata.get("schemaUrl")
        if isinstance(url, str):
            try:
                return self._from_url(url, request)
            except NoOperation as error:
                errors.append(error)
            except (ContractDocumentError, MissingExtra) as error:
                reasons.append(f"metadata.schemaUrl: {error}")
                is_remote = "://" in url and not url.lower().startswith("file:")
                return None if is_remote or not url else error
        return None

    def _from_url(self, url: str, request: Mapping[str, Any]) -> Source:
        """Return the source that a ``schemaUrl`` names: a schema, an operation, or a document."""
        location, _, fragment = url.partition("#")
        loaded = self._load(DocumentSource(self._local_path(location, url)), schemas=True)
        document, pointer = loaded.document, unquote(fragment)
        file = document.place.file.name
        if not pointer and document.version != "schema":
            match = loaded.finder.find(request["endpoint"], request["method"])
            return Source(match=match, document=document)
        try:
            tokens = pointers.split(pointer)
            node = pointers.follow(document.raw, pointer)
        except (LookupError, ValueError):
            raise ContractDocumentError(file, pointer, "nothing is there") from None
        if len(tokens) == 3 and tokens[0] == "paths" and tokens[2] in METHODS:
            operation = loaded.finder.at(tokens[1], tokens[2])
            if operation is not None:
                return Source(match=Match(operation, {}), document=document)
        if _schema_of(node) is not node:
            raise ContractDocumentError(file, pointer, "is not a schema")
        return Source(schema=Place(document.place.file, pointer), document=document)

    def _local_path(self, location: str, url: str) -> Path:
        if location.lower().startswith("file:"):
            location = unquote(location[len("file:") :])
            if location.startswith("//"):
                host, slash, rest = location[2:].partition("/")
                if host not in ("", "localhost"):
                    raise ContractDocumentError(
                        url, "", "is on another host; only local files are read"
                    )
                location = slash + rest
        elif "://" in location:
            raise ContractDocumentError(url, "", "is not local, and nothing is fetched")
        if not location or "\0" in location:
            raise ContractDocumentError(url, "", "names no file")
        path = Path(location)
        if path.is_absolute():
            return path
        if self._root is None:
            raise ContractDocumentError(url, "", "is relative, and the project root is not known")
        root = Path(os.path.realpath(self._root))
        path = Path(os.path.realpath(root / path))
        if not path.is_relative_to(root):
            raise ContractDocumentError(url, "", f"lies outside {root}")
        return path

    def _load(self, source: DocumentSource, *, schemas: bool = False) -> _Loaded:
        key = (str(source.path), source.server, schemas)
        with self._lock:
            loaded = self._loaded.get(key)
            if loaded is None or loaded.document.changed():
                self._loaded.pop(key, None)
                load = load_schema_file if schemas else load_document
                document = load(
                    self._absolute(source.path),
                    server=source.server,
                    cache_dir=self._cache_dir,
                    root=self._root,
                )
                loaded = self._loaded[key] = _Loaded(document, Finder(document))
                while len(self._loaded) > MAX_DOCUMENTS:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
            return loaded

    def _absolute(self, path: Path) -> Path:
        if "\0" in str(path):
            raise ContractDocumentError(repr(str(path)), "", "is not a file name")
        return path if path.is_absolute() else (self._root or Path()) / path

    def _bare_document(self, schema: dict[str, Any]) -> Document:
        key = msgspec.json.encode(schema)
        with self._lock:
            if key not in self._bare:
                self._bare[key] = document_of_schema(schema)
                while len(self._bare) > _MAX_SCHEMAS:
                    self._bare.popitem(last=False)
            self._bare.move_to_end(key)
            return self._bare[key]

    # -- Mocks --------------------------------------------------------------------------------

    def check_mock(
        self, request: Mapping[str, Any], mock: Mock, source: Source | None = None
    ) -> Verdict:
        """Check a mock against the contract of its request.

        Never raises for what the request, the mock or a document holds: a document that cannot be
        used makes the verdict unchecked, with the reason, and its error if it is registered.

        Args:
            request: The wire object the mock answers.
            mock: The answer.
            source: What `resolve` has just said of the request.
        """
        source = source or self.resolve(request)
        try:
            if source.match is not None:
                verdict = self._check_answer(source.match, request, mock)
                if source.skipped:
                    notes = (*source.skipped, *verdict.notes)
                    verdict = msgspec.structs.replace(verdict, notes=notes)
                return verdict
            if source.schema is not None and source.document is not None:
                return self._check_schema(source.document, source.schema, mock)
        except (ContractDocumentError, MissingExtra) as error:
            registered = error if source.match is not None else None
            return Verdict(checked=False, unchecked_reason=str(error), error=registered)
        unusable = None if isinstance(source.error, NoOperation) else source.error
        return Verdict(checked=False, unchecked_reason=source.reason, error=unusable)

    def _check_schema(self, document: Document, place: Place, mock: Mock) -> Verdict:
        status = 200 if mock.status is None else mock.status
        if not 200 <= status <= 299:
            reason = f"status {status}: the schema describes successful answers only"
            return Verdict(checked=False, unchecked_reason=reason)
        compiled = self.schemas.get(document, place, "response")
        media_type = media_type_of(mock.headers) or JSON
        found = _judge(mock, media_type, compiled, described(media_type, compiled))
        if found is not None:
            found = limited(tuple(found), mock.request_id)
            return Verdict(True, found, None, compiled.fingerprint, notes=compiled.ignored)
        found = tuple(_body_violations(mock, media_type, compiled))
        if isinstance(mock.data, str) and compiled.is_valid(mock.data):
            return Verdict(True, (), None, compiled.fingerprint, notes=compiled.ignored)
        if not found or "string" not in compiled.kinds:
            found = (_evading(mock, media_type, JSON),)
        return Verdict(False, found, _not_judged(media_type))

    def _check_answer(self, match: Match, request: Mapping[str, Any], mock: Mock) -> Verdict:
        operation = match.operation
        status = 200 if mock.status is None else mock.status
        response = operation.response(status)
        if response is None:
            undeclared = _undeclared(match, mock, status)
            return Verdict(checked=True, violations=(undeclared,), operation=operation.label)
        notes: list[str] = []
        found = list(self._header_violations(response, mock, notes)) if response.headers else []
        content_type = media_type_of(mock.headers)
        media = response.pick(content_type)
        bodiless = request["method"].upper() == "HEAD" or status in (204, 205, 304) or status < 200
        if bodiless or not response.media:
            reason = None
            if mock.data is None or mock.data == "":
                pass
            elif bodiless:
                found.append(_body_forbidden(mock, status, request["method"]))
            else:
                reason = f"{operation.label} declares no body for {response.key}"
            return _verdict(mock, response, found, unchecked_reason=reason)
        if media is None:
            found.append(_wrong_media(mock, response, content_type))
            return _verdict(mock, response, found)
        document = operation.document
        compiled = self._schema_for(document, media)
        media_type = content_type or (JSON if self._means_json(document, media) else media.name)
        scope = described(media_type, compiled, is_item_schema=media.is_item_schema)
        told = None if compiled is None else _judge(mock, media_type, compiled, scope)
        if compiled is not None and told is not None:
            found += told
            judge = f"{media.name} {compiled.fingerprint}"
            return _verdict(mock, response, found, judge=judge, notes=(*notes, *compiled.ignored))
        judged = next((m for m in response.media if self._means_json(document, m)), None)
        if judged is None or content_type is None or _is_asked_for(request, content_type):
            found += _body_violations(mock, media_type, compiled)
        else:  # the test did not choose this type, and the responder may not escape by it
            found.append(_evading(mock, content_type, JSON if "*" in judged.name else judged.name))
        reason = _not_judged(media_type)
        if compiled is None:
            reason = f"{operation.label} declares no schema for {response.key} {media.name}"
        return _verdict(mock, response, found, unchecked_reason=reason)

    def _schema_for(self, document: Document, media: Media) -> CompiledSchema | None:
        if media.schema is None:
            return None
        return self.schemas.get(document, media.schema, "response")

    def _means_json(self, document: Document, media: Media) -> bool:
        """Say whether a body of this declared type is JSON that its schema judges.

        A range (``*/*``) means JSON unless its schema takes text, which may be that of any type.
        """
        if media.schema is None or is_json(media.name):
            return media.schema is not None
        if base_type(media.name) not in ("*/*", "application/*"):
            return False
        compiled = self.schemas.get(document, media.schema, "response")
        return "string" not in compiled.kinds

    def _header_violations(
        self, response: ResponseContract, mock: Mock, notes: list[str]
    ) -> Iterator[Violation]:
        document = response.operation.document
        for declared in response.headers:
            name = declared.name
            value = header(mock.headers, name)
            prefix = pointers.extend("/headers", name.lower())
            if value is None:
                if declared.required:
                    yield Violation(
                        mock.request_id,
                        prefix,
                        "required",
                        f"header {name}",
                        "no such header",
                        f"Add the header {name}: {response.key} requires it.",
                    )
            elif declared.schema is not None:
                compiled = self.schemas.get(document, declared.schema, "response")
                notes += compiled.ignored
                read = read_parameter(value, declared, compiled)
                yield from explain(compiled, read, request_id=mock.request_id, prefix=prefix)

    # -- Requests -----------------------------------------------------------------------------

    def check_request(
        self, request: Mapping[str, Any], source: Source | None = None
    ) -> tuple[Violation, ...]:
        """Check the request that the code under test made.

        A request that no document covers (another host, or a lone schema) has nothing to break.

        Args:
            request: The wire object; ``headers`` absent means that nothing is known about them.
            source: What `resolve` has just said of it.

        Returns:
            Every violation: pointers begin with ``/path``, ``/method``, ``/query``, ``/headers``,
            ``/cookies`` or ``/body``.

        Raises:
            ContractDocumentError: A document that is needed for the decision cannot be used: one
                that is registered, or the one that the only source, a local
                ``metadata.schemaUrl``, names.
            MissingExtra: It is YAML and PyYAML is not installed.
        """
        source = source or self.resolve(request)
        if source.match is not None:
            found = tuple(violations_of_request(source.match, request, self.schemas))
            return limited(found, request["requestId"])
        if not isinstance(source.error, NoOperation | None):
            raise source.error
        if source.error is not None and source.error.keyword != "server":
            return (_no_operation(request, source.error, source.skipped),)
        if source.wrong is not None:
            raise source.wrong
        return ()


def contract_mode(request: Mapping[str, Any], project_default: Mode = "enforce") -> Mode:
    """Return how violations of this request are treated: the test's choice, else the project's.

    Args:
        request: The wire object; the test's choice is ``contract.mode``.
        project_default: The mode of the project.
    """
    contract = request.get("contract")
    mode = contract.get("mode") if isinstance(contract, dict) else None
    return mode if mode in MODES else project_default


def _schema_of(value: Any) -> dict[str, Any] | None:
    """Return the schema that ``value`` is or wraps as ``{"summary", "response": schema}``."""
    if not isinstance(value, dict):
        return None
    if value.keys() & SCHEMA_KEYWORDS:
        return value
    inner = value.get("response")
    return inner if isinstance(inner, dict) and inner.keys() & SCHEMA_KEYWORDS else None


def _request_documents(request: Mapping[str, Any]) -> Iterable[DocumentSource]:
    contract = request.get("contract")
    listed = contract.get("documents") if isinstance(contract, dict) else None
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            server = entry.get("server")
            yield DocumentSource(Path(entry["path"]), server if isinstance(server, str) else None)


def _severity(error: MockMcpError) -> int:
    """Order errors: an unusable document first, then how close a document came to the call."""
    return _RANK[error.keyword] if isinstance(error, NoOperation) else -1


def _verdict(
    mock: Mock,
    response: ResponseContract,
    found: list[Violation],
    *,
    judge: str = "",
    unchecked_reason: str | None = None,
    notes: Iterable[str] = (),
) -> Verdict:
    """Return the verdict; ``judge`` is what the body was judged by, for the contract's hash."""
    checked = unchecked_reason is None
    return Verdict(
        checked,
        limited(found, mock.request_id),
        unchecked_reason,
        _judged_by(response.key, judge, response.required_headers) if checked else None,
        response.operation.label,
        None if response.preferred is None else response.preferred.name,
        tuple(notes),
    )


@lru_cache(maxsize=256)
def _judged_by(*parts: Any) -> str:
    return fingerprint(parts)


def _body_forbidden(mock: Mock, status: int, method: str) -> Violation:
    return Violation(
        mock.request_id,
        "/body",
        "content",
        "no body",
        excerpt(mock.data),
        f"An answer {status} to {method.upper()} has no body: send null.",
    )


def _wrong_media(mock: Mock, response: ResponseContract, content_type: str | None) -> Violation:
    kinds = ", ".join(media.name for media in response.media)
    return Violation(
        mock.request_id,
        "/headers/content-type",
        "content-type",
        bounded(f"one of {kinds}"),
        excerpt(content_type),
        bounded(f"{response.key} is declared as {kinds}: use one of these.", 400),
    )


def _evading(mock: Mock, media_type: str, judged: str) -> Violation:
    """Say that a type was chosen which no schema judges, where one judges ``judged``."""
    return Violation(
        mock.request_id,
        "/headers/content-type",
        "content-type",
        bounded(judged),
        bounded(media_type),
        bounded(f"No schema judges {media_type} here: send a body of type {judged}.", 400),
    )


def asks_for(request: Mapping[str, Any], media_type: str) -> bool:
    """Say whether the Accept header names the type, or its kind as in ``image/*``."""
    headers = request.get("headers")
    accept = header(headers, "accept") if isinstance(headers, Mapping) else None
    kind = base_type(media_type)
    wanted = {kind, f"{kind.partition('/')[0]}/*"} - {"application/*"}
    return any(
        base_type(part) in wanted and not re.search(r";\s*q=0(?:\.0*)?\s*(?:;|$)", part)
        for part in (accept or "").split(",")
    )


def _is_asked_for(request: Mapping[str, Any], media_type: str) -> bool:
    is_stream = is_sequential(media_type) and asks_to_stream(request)
    return is_stream or asks_for(request, media_type)


def _not_judged(media_type: str) -> str:
    return f"a body of type {bounded(media_type)} is not judged by its schema"


def _undeclared(match: Match, mock: Mock, status: int) -> Violation:
    declared = list(match.operation.responses)
    shown = ", ".join(declared) or "none"
    success = next((key for key in declared if key.startswith("2") and key.isdecimal()), None)
    use = f"; for success use {success}" if success else ""
    return Violation(
        mock.request_id,
        "/status",
        "status",
        bounded(f"one of {shown}"),
        str(status) if mock.status is not None else "200 (no status given)",
        bounded(f"{match.operation.label} declares only {shown}{use}.", 400),
    )


def _no_operation(
    request: Mapping[str, Any], error: NoOperation, skipped: Iterable[str]
) -> Violation:
    actual = request["method"] if error.keyword == "method" else request["endpoint"]
    return Violation(
        request["requestId"],
        f"/{error.keyword}",
        error.keyword,
        bounded(", ".join(error.candidates) or "a path of the contract"),
        bounded(str(actual)),
        "; ".join(bounded(text, 400) for text in (str(error), *skipped)),
    )


def _judge(
    mock: Mock, media_type: str, compiled: CompiledSchema, scope: Scope | None
) -> Iterable[Violation] | None:
    """Return what a schema says of a body, None where it does not judge it."""
    if scope is not None:
        if shape_error(media_type, mock.data) is not None:
            return _body_violations(mock, media_type, compiled)
        if not has_items(mock.data, media_type):
            return None
        return item_violations(mock.data, media_type, compiled, scope, request_id=mock.request_id)
    if "string" in compiled.kinds:
        mock = msgspec.structs.replace(mock, data=as_text(mock.data, media_type))
    if not _judged(mock.data, media_type, compiled):
        return None
    if is_json(media_type) and compiled.is_valid(mock.data):
        return ()
    return _body_violations(mock, media_type, compiled)


def _judged(body: Any, media_type: str, compiled: CompiledSchema) -> bool:
    """Say whether the schema judges a body of this type: JSON, or text that it takes as text."""
    return is_json(media_type) or (isinstance(body, str) and "string" in compiled.kinds)


def _body_violations(
    mock: Mock, media_type: str, compiled: CompiledSchema | None
) -> Iterator[Violation]:
    shape = shape_error(media_type, mock.data)
    if shape is not None:
        expected, hint = shape
        yield Violation(
            mock.request_id, "/body", "content-type", expected, excerpt(mock.data), hint
        )
    elif compiled is not None and _judged(mock.data, media_type, compiled):
        yield from explain(compiled, mock.data, request_id=mock.request_id, prefix="/body")
