"""Convert schemas of any supported dialect into one closed JSON Schema 2020-12.

The input is whatever OpenAPI 3.0, 3.1, Swagger 2.0 or a plain JSON Schema (drafts 4 to 2020-12)
may hold, with the defects of real documents. The output is *closed*: one dict, ``$ref`` only to
``#/$defs/NAME``, only keywords of 2020-12 with values of the right type. Just the closure of one
schema is converted, because whole documents compile to gigabytes.

The dialects are read as one superset: a keyword that a dialect lacks is honoured where its author
can only have meant it (``nullable`` in 3.1, ``const`` in 3.0), and that is noted as a defect of
the document. Where the dialects disagree about the same text (``$ref`` with siblings), the
document's version decides.
"""

from __future__ import annotations

import hashlib
import operator
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract._patterns import portable
from mock_mcp.contract.document import Document, Place
from mock_mcp.contract.errors import ContractDocumentError
from mock_mcp.contract.parse import MAX_DEPTH, as_text

__all__ = [
    "FORMAT_BOUNDS",
    "SCHEMA_KEYWORDS",
    "Closed",
    "Direction",
    "close",
    "strip_annotations",
]

Direction = Literal["response", "request"]

Schema = dict[str, Any] | bool

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_TEXT_TYPES = ("string", ["string"], ["string", "null"], ["null", "string"])
_ONE = frozenset(
    (
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP = frozenset(("dependentSchemas", "patternProperties", "properties"))
_NUMBERS = frozenset(("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"))
_COUNTS = frozenset(
    (
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
    )
)
_TEXTS = frozenset(("description", "format", "pattern", "title"))
_FLAGS = frozenset(("deprecated", "readOnly", "uniqueItems", "writeOnly"))
_ANNOTATIONS = frozenset(
    ("default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly")
)

_HOLDERS = (
    _ONE
    | _LIST
    | _MAP
    | {"$dynamicRef", "$recursiveRef", "$ref", "additionalItems", "dependencies"}
)
"""Keywords whose value is, or leads to, schemas."""

_IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
"""Keywords whose subschemas judge the same value as the schema that holds them."""

SCHEMA_KEYWORDS = (
    (_ONE | _LIST | _MAP | _NUMBERS | _COUNTS | {"format", "pattern", "uniqueItems"})
    | {"$dynamicRef", "$recursiveRef", "$ref", "const", "dependencies", "dependentRequired"}
    | {"additionalItems", "enum", "required", "type"}
)
"""Keywords that make an object a schema that asserts something."""

_WEAKER = frozenset(("any type is accepted", "any value is accepted", "ignored"))
"""What is done about a defect that leaves something unchecked."""

_FORMATS = frozenset(
    (
        *("date", "date-time", "duration", "time"),
        *("email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6"),
        *("iri", "iri-reference", "uri", "uri-reference", "uri-template", "uuid"),
        *("json-pointer", "regex", "relative-json-pointer"),
        *("binary", "byte", "double", "float", "int32", "int64", "password"),
    )
)
"""The formats of JSON Schema and of the OpenAPI specifications."""

FORMAT_BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
"""The least and the greatest number of a format; no validator knows them by its name."""

_MAX_SCOPED = 2000
"""Definitions of a schema with ``$dynamicRef``: each counts once for every scope it is used in, of
which there may be two to the power of the dynamic anchors."""

_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_NULL_BRANCH: dict[str, Any] = {"type": "null"}

_Scope = tuple[tuple[str, Place], ...]


class Closed(NamedTuple):
    """A closed 2020-12 schema, and what of its source it does not check, as sentences."""

    schema: dict[str, Any]
    ignored: tuple[str, ...]


class _Definition(NamedTuple):
    """A converted definition: the names it refers to, those of them that judge the same value."""

    schema: Schema
    referred: frozenset[str]
    in_place: frozenset[str]
    ignored: tuple[str, ...]


def close(document: Document, place: Place, node: Any, direction: Direction) -> Closed:
    """Return the closed 2020-12 schema of ``node`` and everything it refers to.

    Args:
        document: The document it belongs to; lenient readings are noted there.
        place: Where ``node`` stands.
        node: The schema as the document has it.
        direction: ``response`` lifts ``required`` from write-only properties, ``request`` from
            read-only ones.

    Raises:
        ContractDocumentError: A ``$ref`` cannot be resolved, or the nesting is too deep.
    """
    try:
        return _converter(document, direction, is_scoped=False).close(place, node)
    except _NeedsScope:
        return _converter(document, direction, is_scoped=True).close(place, node)


def _converter(document: Document, direction: Direction, *, is_scoped: bool) -> _Converter:
    key = f"converter:{direction}:{is_scoped}"
    return document.memo(key, lambda owner: _Converter(owner, direction, is_scoped=is_scoped))


class _NeedsScope(Exception):
    """What a ``$dynamicRef`` means depends on how it was reached, which was not followed."""


class _At(NamedTuple):
    """Where the conversion stands: the place, the dynamic anchors in force, by name, the nesting.

    ``whole`` is the outermost schema that this one is a part of by ``allOf``, None if it is none.
    """

    place: Place
    scope: _Scope
    depth: int
    whole: tuple[Place, dict[str, Any]] | None = None

    def child(self, *tokens: str | int) -> _At:
        return _At(self.place.child(*tokens), self.scope, self.depth + 1)


class _Converter:
    """Convert schemas of one document for one direction; each definition is converted once.

    The definitions are shared by all closed schemas they occur in. Their names depend only on
    where they stand, so that a closed schema is the same whatever was converted before it.

    ``is_scoped`` says to follow the dynamic scope: then a definition is converted once for all the
    ways to it that have the same dynamic anchors in force.
    """

    def __init__(self, document: Document, direction: Direction, *, is_scoped: bool) -> None:
        self._document = document
        self._is_scoped = is_scoped
        self._unrequired = "writeOnly" if direction == "response" else "readOnly"
        raw = document.raw if isinstance(document.raw, dict) else {}
        draft = raw.get("$schema", raw.get("jsonSchemaDialect"))
        old_draft = isinstance(draft, str) and re.search(r"draft-0[3-7]", draft) is not None
        self._lone_refs = document.version in ("2.0", "3.0") or old_draft
        self._names: dict[tuple[Place, _Scope, bool], str] = {}
        self._sources: dict[str, tuple[Place, Any, _Scope, bool]] = {}
        self._defs: dict[str, _Definition] = {}
        self._referred: set[str] = set()
        self._ignored: dict[str, None] = {}
        self._formats: set[str] = set()
        self._lock = threading.Lock()

    def close(self, place: Place, node: Any) -> Closed:
        """Convert ``node`` and collect the definitions it reaches."""
        with self._lock:
            self._referred, self._ignored = set(), {}
            root = self._convert(_At(place, self._enter((), place), 0), node)
            ignored = self._ignored
            closed = root if isinstance(root, dict) else ({} if root else {"not": {}})
            todo, reached = list(self._referred), set(self._referred)
            found: dict[str, _Definition] = {}
            while todo:
                if self._is_scoped and len(found) >= _MAX_SCOPED:
                    said = f"reaches more than {_MAX_SCOPED} schemas in their dynamic scopes"
                    raise ContractDocumentError(place.file.name, place.pointer, said)
                name = todo.pop()
                found[name] = self._definition(name)
                todo.extend(found[name].referred - reached)
                reached |= found[name].referred
            self._ignored = ignored
            self._note_loops({name: each.in_place for name, each in found.items()})
        for name in sorted(found):
            ignored |= dict.fromkeys(found[name].ignored)
        if found:
            closed["$defs"] = {name: found[name].schema for name in sorted(found)}
        return Closed(closed, tuple(ignored))

    def _note_loops(self, edges: dict[str, frozenset[str]]) -> None:
        """Note the definitions that lead back to themselves without going into the value."""
        edges = {name: ends for name, ends in edges.items() if ends}
        while any(not ends & edges.keys() for ends in edges.values()):
            edges = {name: ends for name, ends in edges.items() if ends & edges.keys()}
        for name in sorted(edges):  # each of them leads to a loop, but need not be on it
            todo, seen = set(edges[name]), {""}
            while todo and name not in seen:
                seen |= todo
                todo = {end for each in todo for end in edges.get(each, ())} - seen
            if name in seen:
                message = "leads back to itself by $ref and allOf alone"
                self._say(self._sources[name][0], message, "ignored")

    def _definition(self, name: str) -> _Definition:
        if name not in self._defs:
            place, node, scope, family = self._sources[name]
            self._referred, self._ignored = set(), {}
            convert = self._family if family else self._convert
            schema = convert(_At(place, scope, 0), node)
            self._defs[name] = _Definition(
                schema, frozenset(self._referred), _in_place(schema), tuple(self._ignored)
            )
        return self._defs[name]

    # -- References ---------------------------------------------------------------------------

    def _ref(self, at: _At, ref: str, *, base: bool = False) -> dict[str, Any]:
        place, target = self._document.resolve(at.place, ref)
        return self._def(place, target, at.scope, base=base)

    def _def(
        self, place: Place, target: Any, scope: _Scope, *, base: bool = False
    ) -> dict[str, Any]:
        """Return a reference to the definition of ``target``, queueing it on first sight.

        ``base`` asks for the schema by itself, not for the family its discriminator opens.
        """
        family = not base and bool(self._subtypes(place, target))
        scope = self._enter(scope, place)
        key = (place, scope, family)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = self._name(place, scope, family=family)
            self._sources[name] = (place, target, scope, family)
        self._referred.add(name)
        return {"$ref": f"#/$defs/{name}"}

    def _name(self, place: Place, scope: _Scope, *, family: bool) -> str:
        """Name a definition: a component by its own name, others by last token and a hash."""
        holder, _, token = place.pointer.rpartition("/")
        stem = _NAME.sub("_", token) or "schema"
        own = place.file is self._document.place.file and holder == _components(self._document)
        if not own or stem != token or scope:
            relative = self._document.relative_name
            identity = (relative(place), *((anchor, relative(at)) for anchor, at in scope))
            stem += "-" + hashlib.sha256(repr(identity).encode()).hexdigest()[:8]
        return f"{stem}.any" if family else stem

    def _enter(self, scope: _Scope, place: Place) -> _Scope:
        """Add the dynamic anchors of the resource at ``place``; outer ones stay in force.

        A name that a resource has twice, against the rules, counts where just one of them is
        inside the schema that is entered: so it is meant in documents without an ``$id``.
        """
        if not self._is_scoped:
            return scope
        file, pointer = place.file, place.pointer
        entered = dict(scope)
        names = file.identifiers.dynamic.get(file.resource(pointer).pointer, {})
        for name, all_of_it in names.items():
            inside = [at for at in all_of_it if f"{at}/".startswith(f"{pointer}/")]
            found = inside if len(all_of_it) > 1 else all_of_it
            if len(found) == 1:
                entered.setdefault(name, Place(file, found[0]))
        return tuple(sorted(entered.items(), key=operator.itemgetter(0)))

    def _inside(self, at: _At, node: dict[str, Any]) -> _At:
        """Return ``at`` with the dynamic anchors in force that its schema brings."""
        if not self._is_scoped or not node.keys() & {"$id", "$defs", "$dynamicAnchor"}:
            return at
        return at._replace(scope=self._enter(at.scope, at.place))

    def _dynamic(self, at: _At, ref: str) -> dict[str, Any]:
        """``$dynamicRef``: the outermost dynamic anchor, if the reference itself names one."""
        place, target = self._document.resolve(at.place, ref)
        name = unquote(ref.partition("#")[2])
        if name and isinstance(target, dict) and target.get("$dynamicAnchor") == name:
            return self._outermost(at, name, place)
        return self._def(place, target, at.scope)

    def _recursive(self, at: _At) -> dict[str, Any]:
        """``$recursiveRef`` (2019-09): the outermost schema that is marked as its anchor.

        Only the root of a resource may be marked. In an OpenAPI document, which is none, the
        nearest schema is meant that is.
        """
        file, pointer = at.place.file, at.place.pointer
        root = file.resource(pointer).pointer
        while pointer != root and not self._is_recursive(Place(file, pointer)):
            pointer = pointer.rpartition("/")[0]
        place = Place(file, pointer)
        if pointer == root and self._is_recursive(place):
            return self._outermost(at, "", place)
        if not pointer and self._document.version != "schema":
            self._say(at.place, "$recursiveRef has no $recursiveAnchor above it", "ignored")
            return {}
        return self._def(place, _node(place), at.scope)

    def _is_recursive(self, place: Place) -> bool:
        node = _node(place)
        return isinstance(node, dict) and node.get("$recursiveAnchor") is True

    def _outermost(self, at: _At, name: str, itself: Place) -> dict[str, Any]:
        if not self._is_scoped:
            raise _NeedsScope
        place = dict(at.scope).get(name, itself)
        return self._def(place, _node(place), at.scope)

    # -- One schema ---------------------------------------------------------------------------

    def _convert(self, at: _At, node: Any) -> Schema:
        if isinstance(node, bool):
            return node
        place = at.place
        if not isinstance(node, dict):
            self._say(place, "is not a schema", "any value is accepted")
            return True
        if at.depth > MAX_DEPTH:
            raise ContractDocumentError(
                place.file.name, place.pointer, f"is nested more than {MAX_DEPTH} levels deep"
            )
        at = self._inside(at, node)
        ref = node.get("$ref")
        if isinstance(ref, str) and self._lone_refs:
            out = self._ref(at, ref)
            if isinstance(node.get("description"), str):
                out["description"] = node["description"]
        else:
            out = {}
            for keyword, value in node.items():
                if keyword in _HOLDERS:
                    self._holder(out, at, node, keyword, value)
                else:
                    self._plain(out, at, node, keyword, value)
            self._repair(out, place)
        if node.get("nullable") is True or node.get("x-nullable") is True:
            if self._document.version in ("3.1", "schema"):
                self._say(place, "nullable is not a keyword of this version", "honoured")
            elif "$ref" in out:
                self._say(place, "nullable beside $ref", "honoured")
            out = _with_null(out)
        return out

    def _holder(
        self, out: dict[str, Any], at: _At, node: dict[str, Any], keyword: str, value: Any
    ) -> None:
        """Take a keyword whose value is, or leads to, schemas."""
        inner = at.child(keyword)
        if keyword in ("items", "additionalItems") and isinstance(node.get("items"), list):
            self._tuple_items(out, inner, keyword, value)
        elif keyword in _ONE:
            out[keyword] = self._convert(inner, value)
        elif keyword in _LIST:
            if not isinstance(value, list) or not value:
                self._say(inner.place, "is not a list of schemas", "ignored")
            elif keyword == "allOf":
                whole = at.whole or (at.place, node)
                take = self._convert if self._is_wrapper(at.place, node) else self._member
                out[keyword] = [
                    take(inner.child(i)._replace(whole=whole), item) for i, item in enumerate(value)
                ]
            elif keyword == "prefixItems" or (discriminator := _discriminator(node)) is None:
                out[keyword] = [self._convert(inner.child(i), item) for i, item in enumerate(value)]
            else:
                out[keyword] = [
                    self._branch(inner.child(i), item, discriminator, at.place)
                    for i, item in enumerate(value)
                ]
        elif keyword in _MAP:
            if not isinstance(value, dict):
                self._say(inner.place, "is not a map of schemas", "ignored")
                return
            rename = portable if keyword == "patternProperties" else str
            out[keyword] = {
                rename(name): self._convert(inner.child(name), item) for name, item in value.items()
            }
        elif keyword == "$ref" and isinstance(value, str):
            _add_ref(out, self._ref(at, value))
        elif keyword == "$dynamicRef" and isinstance(value, str):
            _add_ref(out, self._dynamic(at, value))
        elif keyword == "$recursiveRef" and isinstance(value, str):
            _add_ref(out, self._recursive(at))
        elif keyword == "dependencies" and isinstance(value, dict):
            for name, rule in value.items():
                if isinstance(rule, list):
                    out.setdefault("dependentRequired", {})[name] = _unique_texts(rule)
                else:
                    schema = self._convert(inner.child(name), rule)
                    out.setdefault("dependentSchemas", {})[name] = schema
        elif keyword == "dependencies":
            self._say(inner.place, "is not a map of schemas", "ignored")
        else:
            self._say(inner.place, "is not text", "ignored")

    def _plain(
        self, out: dict[str, Any], at: _At, node: dict[str, Any], keyword: str, value: Any
    ) -> None:
        """Take a keyword that holds no schemas; drop, and note, what cannot be meant."""
        place = at.place
        if keyword == "type":
            self._type(out, place, value)
        elif keyword == "enum":
            if isinstance(value, list) and value:
                out["enum"] = self._values(place, node, keyword, value)
                if any(map(operator.is_not, out["enum"], value)):
                    message = "has numbers or booleans for a string"
                    self._say(place.child(keyword), message, "read as text")
            else:
                self._note(place, keyword, "is not a list of values", "ignored")
        elif keyword == "required":
            self._required(out, at, node, value)
        elif keyword in ("const", "default"):
            out[keyword] = self._value(place, node, value, keyword)
            if keyword == "const" and out[keyword] is not value:
                message = "is a number or a boolean for a string"
                self._say(place.child(keyword), message, "read as text")
        elif keyword == "example":
            out.setdefault("examples", [self._value(place, node, value, keyword)])
        elif keyword == "examples":
            if isinstance(value, list) and value:
                out["examples"] = self._values(place, node, keyword, value)
        elif keyword in _TEXTS:
            if not isinstance(value, str):
                self._note(place, keyword, "is not text", "ignored")
                return
            out[keyword] = portable(value) if keyword == "pattern" else value
            if keyword == "format" and value not in _FORMATS and value not in self._formats:
                self._formats.add(value)  # once: some documents have thousands
                message = f"{value!r} is a format that no specification names"
                self._say(place.child(keyword), message, "ignored", weakens=False)
        elif keyword in _FLAGS:
            if value is True:
                out[keyword] = True
            elif value is not False:
                self._note(place, keyword, "is not true or false", "ignored")
        elif keyword in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
            limit = "minimum" if keyword == "exclusiveMinimum" else "maximum"
            if value and _is_number(node.get(limit)):
                out[keyword] = node[limit]
            if self._document.version in ("3.1", "schema"):
                self._note(place, keyword, "is true or false as in OpenAPI 3.0", "read as in 3.0")
        elif keyword in _NUMBERS or keyword in _COUNTS:
            self._number(out, place, keyword, value)
        elif keyword == "dependentRequired":
            if isinstance(value, dict):
                out[keyword] = {name: _unique_texts(rule) for name, rule in value.items()}
            else:
                self._note(place, keyword, "is not a map of lists of names", "ignored")

    def _values(
        self, place: Place, node: dict[str, Any], keyword: str, values: list[Any]
    ) -> list[Any]:
        return [self._value(place, node, value, keyword, i) for i, value in enumerate(values)]

    def _value(self, place: Place, node: dict[str, Any], value: Any, *at: str | int) -> Any:
        """Return a value that ``node`` names: as text if it is a number for a string."""
        return _text_at(place, value, *at) if node.get("type") in _TEXT_TYPES else value

    def _note(self, place: Place, keyword: str, message: str, action: str) -> None:
        self._say(place.child(keyword), message, action, weakens=keyword not in _ANNOTATIONS)

    def _say(self, place: Place, message: str, action: str, *, weakens: bool = True) -> None:
        """Note a defect; remember for the schema at hand what it does not check because of it."""
        self._document.note(place, message, action)
        if weakens and action in _WEAKER:
            at = self._document.relative_name(place) or "/"
            self._ignored[f"{at} {message}: {action}"] = None

    def _repair(self, out: dict[str, Any], place: Place) -> None:
        """Settle keywords that mean something only together, however they are ordered."""
        bounds = FORMAT_BOUNDS.get(out.get("format", ""))
        if bounds is not None and out.get("type") != "string":
            out["minimum"] = max(bounds[0], out.get("minimum", bounds[0]))
            out["maximum"] = min(bounds[1], out.get("maximum", bounds[1]))
        if "exclusiveMinimum" in out and out.get("minimum") == out["exclusiveMinimum"]:
            del out["minimum"]
        if "exclusiveMaximum" in out and out.get("maximum") == out["exclusiveMaximum"]:
            del out["maximum"]
        options = out.get("enum")
        if options is not None and out.get("type") in ("integer", "number"):
            numbers = [_as_number(o) if isinstance(o, str) else None for o in options]
            if None not in numbers:
                self._say(place.child("enum"), "has text for numbers", "read as numbers")
                out["enum"] = numbers

    def _type(self, out: dict[str, Any], place: Place, value: Any) -> None:
        kinds = value if isinstance(value, list) else [value]
        known = [kind for kind in kinds if isinstance(kind, str) and kind in _TYPES]
        if value == "file":  # Swagger 2.0: the body is a file
            return
        if len(known) < len(kinds):
            unknown = next(
                kind for kind in kinds if not isinstance(kind, str) or kind not in _TYPES
            )
            self._note(place, "type", f"{unknown!r} is not a type", "any type is accepted")
        elif known:
            known = list(dict.fromkeys(known))
            out["type"] = known if len(known) > 1 else known[0]

    def _number(self, out: dict[str, Any], place: Place, keyword: str, value: Any) -> None:
        number = value
        if isinstance(value, str):
            number = _as_number(value)
            if number is not None:
                self._note(place, keyword, f"is the text {value!r}", f"read as {number}")
        if not _is_number(number):
            self._note(place, keyword, "is not a number", "ignored")
        elif keyword in _COUNTS and (number < 0 or number != int(number)):
            self._note(place, keyword, "is not a whole number of 0 or more", "ignored")
        elif keyword == "multipleOf" and number <= 0:
            self._note(place, keyword, "is not above 0", "ignored")
        else:
            out[keyword] = int(number) if keyword in _COUNTS else number

    def _required(self, out: dict[str, Any], at: _At, node: dict[str, Any], value: Any) -> None:
        place = at.place
        if isinstance(value, bool):
            self._note(place, "required", "is true or false; a list of names is meant", "ignored")
            return
        if not isinstance(value, list):
            self._note(place, "required", "is not a list of names", "ignored")
            return
        names = _unique_texts([_text_at(place, n, "required", i) for i, n in enumerate(value)])
        if len(names) < len(value):
            self._note(
                place, "required", "names a property twice, or not by text", "each counts once"
            )
        names = [name for name in names if not self._lifted(*(at.whole or (place, node)), name)]
        if names:
            out["required"] = names

    def _lifted(self, place: Place, node: dict[str, Any], name: str) -> bool:
        """Say whether ``name`` is read-only (in a request) or write-only (in a response)."""
        for at, prop in self._property(place, node, name):
            _, target = self._document.deref(at, prop)
            for schema in (prop, target):
                if isinstance(schema, dict) and schema.get(self._unrequired) is True:
                    return True
        return False

    def _property(
        self, place: Place, node: Any, name: str, depth: int = 0
    ) -> Iterator[tuple[Place, Any]]:
        """Yield the schemas of a property: of the schema itself, its ``allOf``, its ``$ref``."""
        if depth > 8 or not isinstance(node, dict):
            return
        ref = node.get("$ref")
        if isinstance(ref, str):
            target, schema = self._document.resolve(place, ref)
            yield from self._property(target, schema, name, depth + 1)
            if self._lone_refs:
                return
        properties = node.get("properties")
        if isinstance(properties, dict) and name in properties:
            yield place.child("properties", name), properties[name]
        members = node.get("allOf")
        for i, member in enumerate(members if isinstance(members, list) else ()):
            yield from self._property(place.child("allOf", i), member, name, depth + 1)

    def _tuple_items(self, out: dict[str, Any], at: _At, keyword: str, value: Any) -> None:
        """Take ``items`` as a list, and ``additionalItems`` (drafts before 2020-12)."""
        if keyword == "additionalItems":
            out["items"] = self._convert(at, value)
        elif value:
            out["prefixItems"] = [self._convert(at.child(i), item) for i, item in enumerate(value)]

    def _is_wrapper(self, place: Place, node: dict[str, Any]) -> bool:
        """Say whether ``allOf`` only attaches something to a reference, and extends nothing."""
        is_named = place.pointer.rpartition("/")[0] == _components(self._document)
        others = node.keys() & SCHEMA_KEYWORDS - {"allOf", "type"}
        return len(node["allOf"]) == 1 and not others and not is_named

    def _member(self, at: _At, node: Any) -> Schema:
        """Convert a member of ``allOf``; a reference in it means that schema and not its family."""
        if not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
            return self._convert(at, node)
        reference = self._ref(self._inside(at, node), node["$ref"], base=True)
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        if self._lone_refs or not siblings:
            return reference
        out = self._convert(at, siblings)
        assert isinstance(out, dict)
        _add_ref(out, reference)
        return out

    # -- Discriminators -----------------------------------------------------------------------

    def _branch(
        self, at: _At, node: Any, discriminator: tuple[str, Mapping[str, Any]], holder: Place
    ) -> Schema:
        """Convert one alternative that a discriminator selects by a property's value.

        An alternative that does not fix the value itself gets it as an ``enum`` beside its
        ``$ref``; so the alternatives exclude each other with the means of JSON Schema.
        """
        branch = self._convert(at, node)
        values = self._branch_values(at.place, node, discriminator, holder)
        if values and isinstance(branch, dict):
            return _select(branch, discriminator[0], values)
        return branch

    def _branch_values(
        self, at: Place, node: Any, discriminator: tuple[str, Mapping[str, Any]], place: Place
    ) -> list[Any]:
        """Return the discriminator values of one branch; none when the branch fixes its own."""
        name, mapping = discriminator
        own: list[Any] = []
        for where, prop in self._property(at, node, name):
            _, target = self._document.deref(where, prop)
            if isinstance(target, dict):
                options = [target["const"]] if "const" in target else target.get("enum")
                own = options if isinstance(options, list) else own
        if len(own) == 1 or not isinstance(node, dict) or not isinstance(node.get("$ref"), str):
            return []
        target_place, target = self._document.resolve(at, node["$ref"])
        mapped = self._mapped(mapping, place, target_place)
        is_union = isinstance(target, dict) and ("oneOf" in target or "anyOf" in target)
        if mapped or own or is_union:  # a union has the values of its own alternatives
            return mapped
        return [pointers.split(target_place.pointer)[-1]] if target_place.pointer else []

    def _mapped(self, mapping: Mapping[str, Any], place: Place, target: Place) -> list[str]:
        """Return the values that ``mapping`` gives to ``target``: by reference or by bare name."""
        values = []
        for value, ref in mapping.items():
            if not isinstance(ref, str):
                continue
            if self._is_name(ref):
                if _component(target) == ref:
                    values.append(value)
                continue
            try:
                if self._document.resolve(place, ref)[0] == target:
                    values.append(value)
            except ContractDocumentError:
                self._say(
                    place.child("discriminator", "mapping", value),
                    f"{ref!r} names no schema",
                    "ignored",
                )
        return values

    def _is_name(self, ref: str) -> bool:
        """Say whether a value of a mapping is the bare name of a schema; such may have dots."""
        if _NAME.search(ref) is not None:
            return False
        named = _find(self._document, _components(self._document))
        return "." not in ref or (isinstance(named, dict) and ref in named)

    def _subtypes(self, at: Place, target: Any) -> list[tuple[str, Place]]:
        """Return the schemas that extend a discriminated base through ``allOf``."""
        if not isinstance(target, dict) or "discriminator" not in target:
            return []
        if "oneOf" in target or "anyOf" in target or _discriminator(target) is None:
            return []
        extensions = _extensions(self._document)
        found: dict[Place, str] = {}
        todo = [at]
        while todo:
            for name, child in extensions.get(todo.pop(), ()):
                if child not in found:
                    found[child] = name
                    todo.append(child)
        return [(name, child) for child, name in found.items()]

    def _family(self, at: _At, target: dict[str, Any]) -> Schema:
        """Return the schema of a discriminated base: one of its subtypes, or itself."""
        discriminator = _discriminator(target)
        assert discriminator is not None
        name, mapping = discriminator
        branches: list[Schema] = []
        taken: list[Any] = []
        for subtype, child in self._subtypes(at.place, target):
            values = self._mapped(mapping, at.place, child) or [subtype]
            taken += values
            node = _node(child)
            branches.append(_select(self._def(child, node, at.scope, base=True), name, values))
        itself = self._def(at.place, target, at.scope, base=True)
        branches.append({**itself, "properties": {name: {"not": {"enum": taken}}}})
        return {"anyOf": branches}


def _add_ref(out: dict[str, Any], reference: dict[str, Any]) -> None:
    """Add a reference to a schema that may have one already."""
    if reference and "$ref" in out:
        out.setdefault("allOf", []).append(reference)
    else:
        out.update(reference)


def _in_place(schema: Schema) -> frozenset[str]:
    """Return the definitions that a schema applies to its own value, by `$ref` and `allOf`."""
    found: set[str] = set()
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            todo += node.get("allOf", ())
            if "$ref" in node:
                found.add(node["$ref"].removeprefix("#/$defs/"))
    return frozenset(found)


def _discriminator(node: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """Return the discriminating property and the mapping; Swagger 2.0 writes only the name."""
    value = node.get("discriminator")
    if isinstance(value, str):
        return value, {}
    if isinstance(value, dict) and isinstance(value.get("propertyName"), str):
        mapping = value.get("mapping")
        return value["propertyName"], mapping if isinstance(mapping, dict) else {}
    return None


def _select(reference: dict[str, Any], name: str, values: list[Any]) -> dict[str, Any]:
    return {**reference, "properties": {name: {"enum": values}}, "required": [name]}


def _node(place: Place) -> Any:
    return pointers.follow(place.file.tree, place.pointer)


def _text_at(place: Place, value: Any, *at: str | int) -> Any:
    """Return a number or a boolean as text, as it is spelled: YAML's ``1.10``, ``+49``."""
    if not isinstance(value, (int, float)):
        return value
    spelled = place.file.spelled.get(pointers.extend(place.pointer, *at))
    return as_text(value) if spelled is None else spelled


def _component(place: Place) -> str:
    return pointers.split(place.pointer)[-1] if place.pointer else ""


def _components(document: Document) -> str:
    """Return the pointer of the map that holds the document's named schemas."""
    if document.version == "schema":
        return "/$defs" if "$defs" in document.raw else "/definitions"
    return "/definitions" if document.version == "2.0" else "/components/schemas"


def _find(document: Document, pointer: str) -> Any:
    """Return what stands at ``pointer``, None if nothing does."""
    try:
        return pointers.follow(document.raw, pointer)
    except (LookupError, ValueError):
        return None


def _extensions(document: Document) -> Mapping[Place, list[tuple[str, Place]]]:
    """Return, by base schema, the named schemas of the document that extend it by ``allOf``."""
    return document.memo("extensions", _find_extensions)


def _find_extensions(document: Document) -> dict[Place, list[tuple[str, Place]]]:
    place = Place(document.place.file, _components(document))
    schemas = _find(document, place.pointer)
    found: dict[Place, list[tuple[str, Place]]] = {}
    for name, schema in schemas.items() if isinstance(schemas, dict) else ():
        members = schema.get("allOf") if isinstance(schema, dict) else None
        for i, member in enumerate(members if isinstance(members, list) else ()):
            if isinstance(member, dict) and isinstance(member.get("$ref"), str):
                at = place.child(name)
                try:
                    base, _ = document.resolve(at.child("allOf", i), member["$ref"])
                except ContractDocumentError:
                    continue
                found.setdefault(base, []).append((name, at))
    return found


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``schema`` widened by null, keeping its annotations on the outside."""
    applicators = [k for k in _IN_PLACE if k in schema]
    if applicators and not set(schema) - _ANNOTATIONS - {"anyOf"}:
        branches = schema["anyOf"]
        return (
            schema if _NULL_BRANCH in branches else {**schema, "anyOf": [*branches, _NULL_BRANCH]}
        )
    if applicators:
        outside = {k: v for k, v in schema.items() if k in _ANNOTATIONS}
        inside = {k: v for k, v in schema.items() if k not in _ANNOTATIONS}
        return {**outside, "anyOf": [inside, dict(_NULL_BRANCH)]}
    out = dict(schema)
    if "type" in out:
        kinds = out["type"] if isinstance(out["type"], list) else [out["type"]]
        out["type"] = list(dict.fromkeys((*kinds, "null")))
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if "enum" in out and None not in out["enum"]:
        out["enum"] = [*out["enum"], None]
    return out


def strip_annotations(schema: Any) -> Any:
    """Return a closed schema without what no validator reads: descriptions, examples, defaults."""
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword in _ONE:
            out[keyword] = strip_annotations(value)
        elif keyword in _LIST:
            out[keyword] = [strip_annotations(item) for item in value]
        elif keyword in _MAP or keyword == "$defs":
            out[keyword] = {name: strip_annotations(item) for name, item in value.items()}
        else:
            out[keyword] = value
    return out


def _unique_texts(values: Any) -> list[str]:
    texts = values if isinstance(values, list) else []
    return list(dict.fromkeys(text for text in texts if isinstance(text, str)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_number(text: str) -> int | float | None:
    if not re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", text):
        return None
    return float(text) if "." in text else int(text)
