"""An OpenAPI or Swagger document, or a plain JSON Schema, and everything its ``$ref``s reach.

A document is parsed once and used in place: nothing is resolved, converted or compiled until an
operation needs it. Every value is known by its `Place` (file and JSON pointer), so that a
relative ``$ref`` is read against the file it stands in, and an error can name where it is.
References reach the same file and sibling files below the root; never the network.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.parse import parse_file
from mock_mcp.contract.resources import (
    Identifiers,
    Resource,
    identifiers_of,
    join,
    resource_of,
    root_of,
)

__all__ = [
    "MAX_DEFECTS",
    "METHODS",
    "Defect",
    "Document",
    "DocumentSource",
    "Place",
    "document_of_schema",
    "load_document",
    "load_schema_file",
]

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""The keys of a path item that are operations."""

MAX_DEFECTS = 200
"""Defects kept of one document; a document with more is not helped by a longer list."""

T = TypeVar("T")

_ATTACHED = "x-mock-mcp-attached"
_MAX_REF_HOPS = 64
_MAX_FILES = 1000


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """A document somebody registered: its file, and the server URL its paths are served under.

    ``server`` None means the servers that the document itself names.
    """

    path: Path
    server: str | None = None


@dataclass(frozen=True, slots=True)
class Defect:
    """Something in a document that was read leniently: where, what, and what was done about it."""

    pointer: str
    message: str
    action: str


class Place(msgspec.Struct, frozen=True):
    """Where a value stands: a file of the document and a JSON pointer into it."""

    file: File
    pointer: str

    def child(self, *tokens: str | int) -> Place:
        """Return the place of a member."""
        return Place(self.file, pointers.extend(self.pointer, *tokens))

    def __str__(self) -> str:
        return f"{self.file.name}#{self.pointer}"

    def __repr__(self) -> str:
        return f"Place({str(self)!r})"


@dataclass(eq=False)
class File:
    """One parsed file. ``path`` is None for a schema that came inside a message."""

    path: Path | None
    tree: Any
    sha256: str
    stamp: tuple[int, int, int] | None
    repeated: Sequence[str] = ()
    spelled: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file, as text for messages."""
        return str(self.path) if self.path else "schema"

    @cached_property
    def root(self) -> Resource:
        """The schema resource that the file begins."""
        return root_of(self.tree)

    @cached_property
    def identifiers(self) -> Identifiers:
        """All ``$id``s and anchors of the file."""
        return identifiers_of(self.tree, self.root)

    def resource(self, pointer: str) -> Resource:
        """Return the schema resource that the value at ``pointer`` belongs to."""
        return resource_of(self.tree, self.root, pointer)

    def changed(self) -> bool:
        """Say whether the file on disk is no longer the one that was parsed."""
        return self.stamp is not None and self.path is not None and _stamp(self.path) != self.stamp


def _within(file: File, resource: Resource, fragment: str) -> tuple[Place, Any] | None:
    """Return what a fragment, unquoted, names in a schema resource; None if it names nothing."""
    pointer: str | None = resource.pointer + fragment
    if fragment and not fragment.startswith("/"):
        pointer = file.identifiers.anchors.get((resource.pointer, fragment))
    try:
        return (
            None if pointer is None else (Place(file, pointer), pointers.follow(file.tree, pointer))
        )
    except (LookupError, ValueError):
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - asked for every call
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Document:
    """A loaded contract document.

    Attributes:
        path: The file; None for a schema that came inside a message.
        sha256: Hash of the file's bytes, hexadecimal.
        version: ``2.0``, ``3.0``, ``3.1``, or ``schema`` for a plain JSON Schema.
        raw: The parsed tree, unchanged.
        server: The server URL that replaces the document's own, or None.
    """

    def __init__(
        self,
        file: File,
        version: str,
        *,
        server: str | None = None,
        root: Path | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        self.path = file.path
        self.sha256 = file.sha256
        self.version = version
        self.raw: Any = file.tree
        if isinstance(file.tree, dict):
            file.tree = dict(file.tree)  # see attach()
        self.server = server
        self.place = Place(file, "")
        self._root = root
        self._cache_dir = cache_dir
        self._files: dict[Path, File] = {file.path: file} if file.path else {}
        self._defects: dict[tuple[str, str], Defect] = {}
        self._memo: dict[str, Any] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Document({str(self.path)!r}, version={self.version!r})"

    @property
    def defects(self) -> tuple[Defect, ...]:
        """What was read leniently so far; grows as more of the document is used."""
        return tuple(self._defects.values())

    def note(self, place: Place, message: str, action: str) -> None:
        """Record a defect once, while there are fewer than `MAX_DEFECTS`."""
        pointer = place.pointer if place.file is self.place.file else str(place)
        if len(self._defects) < MAX_DEFECTS:
            self._defects.setdefault((pointer, message), Defect(pointer, message, action))

    def note_repeated(self, file: File, keys: Iterable[str]) -> None:
        """Record keys that stand twice in their object."""
        for pointer in keys:
            self.note(Place(file, pointer), "stands twice in its object", "the last one counts")

    def attach(self, name: str, schema: Any, source: Place | None = None) -> Place:
        """Return the place of a schema that the document spells in another form, kept by ``name``.

        Swagger's parameters are such schemas: they stand at ``source``. ``raw`` does not show them.
        """
        place = self.place.child(_ATTACHED, name)
        with self._lock:
            attached = self.place.file.tree.setdefault(_ATTACHED, {})
            if name not in attached and source is not None:
                start = len(source.pointer)
                self.place.file.spelled |= {
                    place.pointer + pointer[start:]: text
                    for pointer, text in source.file.spelled.items()
                    if pointer.startswith(f"{source.pointer}/")
                }
            attached.setdefault(name, schema)
        return place

    def relative_name(self, place: Place) -> str:
        """Return ``place`` as text that is the same wherever the project is checked out."""
        if place.file is self.place.file or place.file.path is None or self.path is None:
            return place.pointer
        return f"{os.path.relpath(place.file.path, self.path.parent)}#{place.pointer}"

    def memo(self, key: str, build: Callable[[Document], T]) -> T:
        """Return ``build(self)``, computed once under ``key``: an index over the whole document."""
        with self._lock:
            if key not in self._memo:
                self._memo[key] = build(self)
            found: T = self._memo[key]
            return found

    def changed(self) -> bool:
        """Say whether any file this document was read from has changed on disk."""
        return any(map(File.changed, list(self._files.values())))

    @property
    def paths(self) -> Iterator[tuple[str, Place, dict[str, Any]]]:
        """Each path template with the place and the value of its path item, ``$ref`` followed."""
        paths = self.raw.get("paths") if isinstance(self.raw, dict) else None
        if not isinstance(paths, dict):
            return
        for template, item in paths.items():
            place = self.place.child("paths", template)
            if template.startswith("x-"):
                continue
            if not isinstance(item, dict) or not template.startswith("/"):
                self.note(place, "is not a path item under a path that begins with '/'", "ignored")
                continue
            if "$ref" in item:
                try:
                    place, target = self.deref(place, item)
                except ContractDocumentError as error:
                    self.note(place, f"path item cannot be resolved: {error.reason}", "ignored")
                    continue
                if not isinstance(target, dict):
                    self.note(place, "is not a path item", "ignored")
                    continue
                yield template, place, {**item, **target}
            else:
                yield template, place, item

    def server_nodes(self, *holders: Any) -> list[dict[str, Any]]:
        """Return the server objects in force for an operation.

        Args:
            holders: The operation, then its path item; the nearest that has ``servers`` wins, and
                after them the document.
        """
        if self.server is not None:
            return [{"url": self.server}]
        if self.version == "2.0":
            return [{"url": url} for url in self._swagger_servers()]
        for holder in (*holders, self.raw):
            servers = holder.get("servers") if isinstance(holder, dict) else None
            if isinstance(servers, list) and servers:
                return [s for s in servers if isinstance(s, dict) and isinstance(s.get("url"), str)]
        return [{"url": "/"}]

    @property
    def servers(self) -> tuple[str, ...]:
        """The server URLs of the document as a whole, as they are written."""
        return tuple(server["url"] for server in self.server_nodes())

    def _swagger_servers(self) -> list[str]:
        host, base = self.raw.get("host"), self.raw.get("basePath")
        base = base if isinstance(base, str) else "/"
        if not isinstance(host, str) or not host:
            return [base]
        schemes = self.raw.get("schemes")
        schemes = [s for s in schemes if isinstance(s, str)] if isinstance(schemes, list) else []
        return [f"{scheme}://{host}{base}" for scheme in schemes or ["https"]]

    def deref(self, place: Place, node: Any) -> tuple[Place, Any]:
        """Follow ``$ref`` until something else stands there.

        Args:
            place: Where ``node`` stands.
            node: Any value; one that is not a reference comes back as it is.

        Raises:
            ContractDocumentError: The reference dangles, leaves the root, is remote or circular.
        """
        if isinstance(node, dict) and not isinstance(node.get("$ref", ""), str):
            self.note(place.child("$ref"), "is not text", "ignored")
        hops = 0
        while isinstance(node, dict) and isinstance(node.get("$ref"), str):
            hops += 1
            if hops > _MAX_REF_HOPS:
                raise ContractDocumentError(place.file.name, place.pointer, "is a circular $ref")
            place, node = self.resolve(place, node["$ref"])
        return place, node

    def resolve(self, place: Place, ref: str) -> tuple[Place, Any]:
        """Return the place and the value that the reference ``ref`` at ``place`` names.

        Raises:
            ContractDocumentError: Nothing is there, or the reference is not a local one.
        """
        location, _, fragment = ref.partition("#")
        fragment = unquote(fragment)
        file = place.file
        resource = file.resource(place.pointer)
        if location:
            file, resource = self._locate(place, resource, location, ref)
        found = _within(file, resource, fragment)
        if found is None and not location and resource.pointer:
            found = _within(file, file.root, fragment)
            if found is not None:
                self.note(place, f"$ref {ref!r} leads out of its $id", "read against the file")
        if found is None:
            is_anchor = fragment and not fragment.startswith("/")
            raise self._bad_ref(place, ref, "no such anchor" if is_anchor else "nothing is there")
        return found

    def _locate(
        self, place: Place, base: Resource, location: str, ref: str
    ) -> tuple[File, Resource]:
        """Return the file and the schema resource in it that ``location`` names."""
        uri = join(base.uri, location)
        # A relative one is nearly always another file; to look for identifiers costs time.
        if base.uri or ":" in location or self.version == "schema":
            known = place.file.identifiers.resources.get(uri)
            if known is not None:
                return place.file, known
        if "://" in location or location.startswith("//"):
            raise self._bad_ref(place, ref, "remote references are never fetched; copy the file")
        if place.file.path is None or self._root is None:
            raise self._bad_ref(place, ref, "a schema in a message cannot refer to files")
        if "\0" in location:
            raise self._bad_ref(place, ref, "is not a file name")
        if "://" not in uri:
            location = uri
        path = Path(os.path.realpath(place.file.path.parent / unquote(location)))
        if not path.is_relative_to(self._root):
            raise self._bad_ref(place, ref, f"lies outside {self._root}")
        with self._lock:
            if path not in self._files:
                if len(self._files) >= _MAX_FILES:
                    raise self._bad_ref(place, ref, f"is one file more than {_MAX_FILES}")
                try:
                    file = self._files[path] = _read(path, self._cache_dir)
                except ContractDocumentError as error:
                    raise self._bad_ref(place, ref, str(error)) from None
                self.note_repeated(file, file.repeated)
            return self._files[path], self._files[path].root

    @staticmethod
    def _bad_ref(place: Place, ref: str, reason: str) -> ContractDocumentError:
        return ContractDocumentError(
            place.file.name, place.pointer, f"$ref {ref!r} cannot be resolved: {reason}"
        )


def load_document(
    path: Path | str,
    *,
    server: str | None = None,
    cache_dir: Path | None = None,
    root: Path | None = None,
) -> Document:
    """Read an OpenAPI 3.0 or 3.1 or Swagger 2.0 document.

    Args:
        path: The JSON or YAML file.
        server: A server URL that replaces every server the document names.
        cache_dir: A private directory for parsed YAML files.
        root: Files outside it are never read through a ``$ref``; the document's directory if None.

    Raises:
        ContractDocumentError: The file cannot be read or is not such a document.
        MissingExtra: The file is YAML and PyYAML is not installed.
    """
    document = load_schema_file(path, server=server, cache_dir=cache_dir, root=root)
    if document.version == "schema":
        raise ContractDocumentError(
            document.path, "", "is not an OpenAPI document: it has neither 'openapi' nor 'swagger'"
        )
    return document


def load_schema_file(
    path: Path | str,
    *,
    server: str | None = None,
    cache_dir: Path | None = None,
    root: Path | None = None,
) -> Document:
    """Read a document as `load_document` does, or a file of plain JSON Schemas."""
    real = Path(os.path.realpath(path))
    file = _read(real, cache_dir)
    if not isinstance(file.tree, dict):
        raise ContractDocumentError(real, "", "is not an OpenAPI document: it is not an object")
    reach = Path(os.path.realpath(root)) if root is not None else real.parent
    if not real.is_relative_to(reach):
        reach = real.parent
    version, odd = _version(real, file.tree)
    document = Document(file, version, server=server, root=reach, cache_dir=cache_dir)
    if odd is not None:
        document.note(document.place, f"version {odd} is not known", f"read as {version}")
    document.note_repeated(file, file.repeated)
    _check_paths(document)
    return document


def document_of_schema(schema: Any) -> Document:
    """Return a document that is only a schema from a message; its ``$ref``s stay inside it."""
    return Document(File(None, schema, "", None), "schema")


def _read(path: Path, cache_dir: Path | None) -> File:
    stamp = _stamp(path)
    tree, digest, repeated, spelled = parse_file(path, cache_dir)
    return File(path, tree, digest, stamp, repeated, spelled)


def _version(path: Path, tree: dict[str, Any]) -> tuple[str, str | None]:
    for keyword in ("openapi", "swagger", "swaggerVersion"):
        if keyword not in tree:
            continue
        version = tree[keyword]
        text = str(version) if isinstance(version, (str, int, float)) else ""
        series = ".".join(text.split(".")[:2])
        if keyword == "swagger" and series in ("2.0", "2"):
            return "2.0", None
        if keyword == "openapi" and series in ("3.0", "3.1"):
            return series, None
        if keyword == "openapi" and series == "3":
            return "3.0", text
        if keyword == "openapi" and series.startswith("3."):
            return "3.1", text
        raise ContractDocumentError(
            path,
            f"/{keyword}",
            f"version {text or version!r} is not supported; OpenAPI 3.0, 3.1 and Swagger 2.0 are",
        )
    return "schema", None


def _check_paths(document: Document) -> None:
    if document.version == "schema":
        return
    paths = document.raw.get("paths")
    if not isinstance(paths, dict) and (paths is not None or document.version != "3.1"):
        raise ContractDocumentError(
            document.path, "/paths", "must be an object that maps paths to path items"
        )
