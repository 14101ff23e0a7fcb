"""What a whole document amounts to: the facts behind ``mock-mcp check-contract``.

Responses with the same schema are looked at together, so that each distinct schema is compiled
once and its validator dropped before the next: a large document would take gigabytes otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mock_mcp.contract.document import Defect, Document, Place, load_document
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.finder import Finder
from mock_mcp.contract.operation import Media, Operation, ResponseContract
from mock_mcp.contract.parse import repeated_keys
from mock_mcp.contract.schema import CompiledSchema, close_schema, compile_schema
from mock_mcp.types import Violation

__all__ = ["Survey", "survey"]


@dataclass(slots=True)
class Survey:
    """One document's facts.

    Attributes:
        path: The file.
        version: ``2.0``, ``3.0`` or ``3.1``.
        sha256: Hash of the file.
        servers: The server URLs.
        operations: How many there are.
        schemas: Response schemas (by operation, status and media type).
        uncompilable: Those that cannot be used: where, and why.
        examples: Examples of response bodies.
        invalid_examples: Those their own schema refuses: operation, status, and first violation.
        unreadable: Operations whose answers cannot be read at all, and why.
        sampled: Operations whose successful answer can be sampled.
        unsampled: Those for which it cannot: operation, and why.
        bodiless: Operations whose successful answer declares no schema.
        defects: What was read leniently.
    """

    path: str
    version: str
    sha256: str
    servers: tuple[str, ...]
    operations: int = 0
    schemas: int = 0
    uncompilable: list[str] = field(default_factory=list)
    examples: int = 0
    invalid_examples: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    sampled: int = 0
    unsampled: list[str] = field(default_factory=list)
    bodiless: int = 0
    defects: tuple[Defect, ...] = ()


@dataclass(slots=True)
class _Body:
    """One response body of one operation; ``wanted`` when it is the one to sample."""

    operation: Operation
    response: ResponseContract
    media: Media
    wanted: bool


def survey(path: Path, *, cache_dir: Path | None = None) -> Survey:
    """Read a document and try everything in it.

    Args:
        path: The document.
        cache_dir: A private directory for parsed YAML documents.

    Raises:
        ContractDocumentError: The document as a whole cannot be used.
        MissingExtra: It is YAML and PyYAML is not installed.
    """
    document = load_document(path, cache_dir=cache_dir)
    assert document.path is not None
    document.note_repeated(document.place.file, repeated_keys(document.path))
    found = Survey(str(path), document.version, document.sha256, document.servers)
    groups: dict[bytes, list[_Body]] = {}
    for operation in Finder(document):
        found.operations += 1
        for body in _bodies(found, operation):
            found.schemas += 1
            try:
                closed = close_schema(document, _schema(body))
            except ContractDocumentError as error:
                _fail(found, body, error)
                continue
            # Definitions have one name in the whole document: the root decides.
            root = {key: value for key, value in closed.items() if key != "$defs"}
            groups.setdefault(msgspec.json.encode(root), []).append(body)
    for bodies in groups.values():
        _try_group(found, document, bodies)
    found.defects = document.defects
    return found


def _bodies(found: Survey, operation: Operation) -> list[_Body]:
    try:
        wanted = _wanted(operation)
        bodies = [
            _Body(operation, response, media, media is wanted)
            for response in operation.responses.values()
            for media in response.media
            if media.schema is not None
        ]
    except ContractDocumentError as error:
        found.unreadable.append(f"{operation.label}: {_reason(found, error)}")
        return []
    found.bodiless += wanted is None
    return bodies


def _wanted(operation: Operation) -> Media | None:
    """Return the body of the operation's successful answer, if it has a schema."""
    bodies = (response.pick() for response in operation.successes)
    return next((media for media in bodies if media is not None and media.schema is not None), None)


def _try_group(found: Survey, document: Document, bodies: list[_Body]) -> None:
    place = _schema(bodies[0])
    try:
        compiled = compile_schema(document, place, close_schema(document, place))
    except ContractDocumentError as error:
        for body in bodies:
            _fail(found, body, error)
        return
    for body in bodies:
        if body.media is body.response.pick():
            for example in body.response.examples:
                found.examples += 1
                wrong = next(_violations(body, compiled, example), None)
                if wrong is not None:
                    where = f"{body.operation.label} {body.response.key}"
                    pointer = wrong.pointer.removeprefix("/body") or "/"
                    found.invalid_examples.append(f"{where}: {pointer} {wrong.hint}")
    wanted = [body for body in bodies if body.wanted]
    if wanted:
        _try_sample(found, compiled, wanted)


def _try_sample(found: Survey, compiled: CompiledSchema, bodies: list[_Body]) -> None:
    from mock_mcp.contract.sample import CannotSample, sample

    for body in bodies:
        try:
            sample(
                compiled.schema,
                seed=body.operation.label,
                examples=body.response.examples,
                is_valid=compiled.is_valid,
            )
        except CannotSample as error:
            found.unsampled.append(f"{body.operation.label}: {error}")
        else:
            found.sampled += 1


def _violations(body: _Body, compiled: CompiledSchema, example: object) -> Iterator[Violation]:
    from mock_mcp.contract.items import described
    from mock_mcp.contract.stream import Stream
    from mock_mcp.contract.violations import explain

    media = body.media
    scope = described(media.name, compiled, is_item_schema=media.is_item_schema)
    if scope is None:
        return iter(explain(compiled, example, request_id="", prefix="/body"))
    stream = Stream(media.name, compiled, scope, ())
    return stream.violations(stream.items_of(example))


def _fail(found: Survey, body: _Body, error: ContractDocumentError) -> None:
    where = f"{body.operation.label} {body.response.key} {body.media.name}"
    found.uncompilable.append(f"{where}: {_reason(found, error)}")
    if body.wanted:
        found.unsampled.append(f"{body.operation.label}: its schema cannot be used")


def _reason(found: Survey, error: ContractDocumentError) -> str:
    """Return the place and the reason; the survey names its own file already."""
    own = error.file == os.path.realpath(found.path)
    return f"{error.pointer or '/'}: {error.reason}" if own else str(error)


def _schema(body: _Body) -> Place:
    assert body.media.schema is not None
    return body.media.schema
