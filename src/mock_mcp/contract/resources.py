"""Schema resources: what an ``$id`` begins, and the identifiers and anchors inside it.

An ``$id`` is the base of the references below it, and owns the anchors there (JSON Schema 2020-12,
sections 8.2 and 9.2). Hardly any contract has one. So the resource of a place is found by looking
at the values on the way to it, and the index of a whole file is made when a reference asks for it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple
from urllib.parse import urljoin

from mock_mcp.contract import pointer as pointers

__all__ = ["Identifiers", "Resource", "identifiers_of", "join", "resource_of", "root_of"]

_DATA = frozenset(("const", "default", "enum", "example", "examples"))
"""Keywords whose value is data: an ``$id`` in it identifies nothing."""

_NAMED = frozenset(
    (
        *("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties"),
        *("properties", "headers", "parameters", "requestBodies", "responses", "schemas"),
    )
)
"""Keywords whose value is a map by name, where a name is no keyword."""

_SCHEMAS = frozenset(
    (
        *("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties"),
        *("properties", "additionalItems", "additionalProperties", "contains", "contentSchema"),
        *("allOf", "anyOf", "oneOf", "prefixItems", "items", "not", "if", "then", "else"),
        *("propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    )
)
"""Keywords that hold schemas for certain; what another one holds may be anything."""


class Resource(NamedTuple):
    """A schema resource: the pointer where it begins, and the URI of what is in it ("": none)."""

    pointer: str
    uri: str


class Identifiers(NamedTuple):
    """What a file gives names to.

    Attributes:
        resources: Resources by their URI.
        anchors: Pointers, by the pointer of their resource and the name of the anchor.
        dynamic: Pointers of dynamic anchors, by their resource and name; ``$recursiveAnchor``
            (2019-09) is one whose name is "". A file that breaks the rules has several of a name.
    """

    resources: dict[str, Resource]
    anchors: dict[tuple[str, str], str]
    dynamic: dict[str, dict[str, list[str]]]


def root_of(tree: Any) -> Resource:
    """Return the resource that a file begins."""
    if not isinstance(tree, dict):
        return Resource("", "")
    itself = tree.get("$self")  # OpenAPI 3.2
    return _entered(Resource("", itself if isinstance(itself, str) else ""), "", tree)


def resource_of(tree: Any, root: Resource, pointer: str) -> Resource:
    """Return the resource that the value at ``pointer`` of ``tree`` belongs to."""
    found, tokens = root, pointer.split("/")
    for i, token in enumerate(tokens[1:], 2):
        name = pointers.unescape(token) if "~" in token else token  # a call less: it is asked often
        try:
            tree = tree[int(name)] if isinstance(tree, list) else tree[name]
        except (LookupError, ValueError, TypeError):
            break
        if isinstance(tree, dict) and "$id" in tree:
            found = _entered(found, "/".join(tokens[:i]), tree)
    return found


def identifiers_of(tree: Any, root: Resource) -> Identifiers:
    """Return the identifiers and anchors of a file; it takes as long as to parse it.

    Where one is given twice, that counts which certainly is a schema's, then the outer one.
    """
    found = Identifiers({root.uri: root}, {}, {})
    schemas, others = deque([("", tree, root)]), deque[tuple[str, Any, Resource]]()
    while schemas or others:
        todo = schemas or others
        pointer, node, resource = todo.popleft()
        if isinstance(node, list):
            todo.extend((f"{pointer}/{i}", child, resource) for i, child in enumerate(node))
        if not isinstance(node, dict):
            continue
        if "$id" in node:
            resource = _entered(resource, pointer, node)
            found.resources.setdefault(resource.uri, resource)
        _take_anchors(found, pointer, node, resource)
        for keyword, value in node.items():
            if keyword in _DATA or not isinstance(value, (dict, list)):
                continue
            at = pointers.extend(pointer, keyword)
            todo = schemas if keyword in _SCHEMAS else others
            if keyword in _NAMED and isinstance(value, dict):
                todo.extend((pointers.extend(at, k), v, resource) for k, v in value.items())
            else:
                todo.append((at, value, resource))
    return found


def _take_anchors(
    found: Identifiers, pointer: str, node: dict[str, Any], resource: Resource
) -> None:
    for keyword in ("$anchor", "$dynamicAnchor", "$id"):
        name = node.get(keyword)
        if isinstance(name, str) and (keyword != "$id" or name.startswith("#")):
            found.anchors.setdefault((resource.pointer, name.removeprefix("#")), pointer)
            if keyword == "$dynamicAnchor":
                names = found.dynamic.setdefault(resource.pointer, {})
                names.setdefault(name, []).append(pointer)
    if node.get("$recursiveAnchor") is True and pointer == resource.pointer:
        found.dynamic.setdefault(pointer, {})[""] = [pointer]


def _entered(around: Resource, pointer: str, node: dict[str, Any]) -> Resource:
    """Return the resource that ``node`` begins, or the one around it if it begins none."""
    name = node.get("$id")
    if not isinstance(name, str) or name.startswith("#"):  # before 2019-09, "#name" is an anchor
        return around
    return Resource(pointer, join(around.uri, name.partition("#")[0]))


def join(base: str, reference: str) -> str:
    """Return ``reference`` read against ``base``; itself where that makes no sense."""
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference
