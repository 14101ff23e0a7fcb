"""Read text as the values a schema means: parameters, headers and form fields.

Everything in a URL, a header or a form is text. Whether ``5`` is a number there only the schema
knows. Names with brackets (``filter[price][gt]=5``, ``items[0][id]=a``, ``tags[]=x``) are nested
objects and lists, as ``deepObject`` parameters and form bodies write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract._judge import json_type, pattern_matches

__all__ = ["Form", "coerce", "fields_of", "forms_of", "kinds_of", "nest", "read_json", "read_text"]

_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
_NUMBER = re.compile(r"[-+]?[0-9]{1,300}(?:\.[0-9]{1,300})?(?:[eE][-+]?[0-9]{1,2})?")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NO_NUMBERS = frozenset(
    (
        *("date", "date-time", "duration", "email", "idn-email", "ipv4", "ipv6", "time"),
        *("iri", "uri", "uuid"),
    )
)
"""Formats no text of which is a number, a boolean or null."""
_MAX_NESTING = 16
_MAX_BRANCHES = 200


class Form(NamedTuple):
    """What one part of a schema wants a value to be: of which types, and one of which values.

    ``schema`` is the part itself.
    """

    kinds: frozenset[str]
    options: Any
    schema: dict[str, Any]

    def takes(self, text: str) -> bool:
        """Say whether a text that spells a number, a boolean or null may be a text to this part."""
        schema = self.schema
        return (
            schema.get("format") not in _NO_NUMBERS
            and schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text))
            and pattern_matches(schema.get("pattern", ""), text)
        )


class Field(list[Any]):
    """The values that were given for one field name."""


def nest(pairs: Iterable[tuple[str, Any]], schema: dict[str, Any]) -> dict[str, Any]:
    """Return form fields as a tree of dicts whose leaves are the values given for one name.

    Args:
        pairs: Name and value of each field, in order.
        schema: The closed schema of the form; a property it declares with brackets in its name
            is taken as it is.
    """
    declared = fields_of(schema)
    tree: dict[str, Any] = {}
    for name, value in pairs:
        tokens = [name]
        if name not in declared and "[" in name:
            tokens = [name.partition("[")[0], *_BRACKETS.findall(name)[:_MAX_NESTING]]
        node = tree
        for token in tokens[:-1]:
            child = node.get(token)
            node[token] = node = child if isinstance(child, dict) else {}
        field = node.setdefault(tokens[-1], Field())
        if isinstance(field, Field):
            field.append(value)
    return tree


def fields_of(schema: dict[str, Any]) -> frozenset[str]:
    """Return the names of the properties that the parts of a closed schema declare."""
    branches = _branches(schema, schema)
    return frozenset(name for branch in branches for name in branch.get("properties", ()))


def forms_of(schema: dict[str, Any]) -> tuple[Form, ...]:
    """Return what each part of a closed schema that may judge the value itself wants it to be."""
    return tuple(map(_form, _branches(schema, schema)))


def kinds_of(forms: Iterable[Form]) -> frozenset[str]:
    """Return the types that ``forms`` mention."""
    return frozenset().union(*(form.kinds for form in forms))


def coerce(value: Any, schema: Any, root: dict[str, Any] | None = None) -> Any:
    """Return ``value`` with its texts read as the types the schema asks for.

    Text that the schema takes as text stays text; text that fits no type stays too, so that
    validation reports it.

    Args:
        value: Text, a list, a dict, or a tree from `nest`.
        schema: The closed schema, or a subschema of it.
        root: The closed schema itself, when ``schema`` is a subschema.
    """
    root = schema if root is None else root
    branches = list(_branches(schema, root))
    if isinstance(value, Field):
        lists = any("array" in _types(branch) for branch in branches)
        single = any(_types(branch) - {"array", "object", "null"} for branch in branches)
        if not lists or (single and len(value) == 1):
            return _as_form(value[-1], branches)
        is_whole = len(value) == 1 and isinstance(value[0], list)
        value = value[0] if is_whole else list(value)
    if isinstance(value, list):
        items = next((b["items"] for b in branches if "items" in b), True)
        return [coerce(item, items, root) for item in value]
    if isinstance(value, dict):
        if all(key == "" or key.isdecimal() for key in value) and any(
            "array" in _types(branch) for branch in branches
        ):
            flat: list[Any] = []
            for child in value.values():
                flat.extend(child) if isinstance(child, Field) else flat.append(child)
            return coerce(flat, schema, root)
        return {key: coerce(child, _member(branches, key), root) for key, child in value.items()}
    return _as_form(value, branches)


def _as_form(value: Any, branches: Iterable[dict[str, Any]]) -> Any:
    forms = tuple(map(_form, branches))
    if not isinstance(value, str):
        return value
    kinds = kinds_of(forms)
    if value[:1] == "{" and "object" in kinds and "string" not in kinds:
        return read_json(value)
    return read_text(value, forms, kinds)


def read_json(text: str) -> Any:
    """Return the JSON value that ``text`` spells, the text itself when it spells none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def read_text(value: str, forms: Sequence[Form], known: frozenset[str]) -> Any:
    """Return a text as what one of ``forms``, whose types are ``known``, wants it to be."""
    other = _without_text(value, known)
    if other is value:
        return value
    for form in forms:
        kinds, options = form.kinds, form.options
        if not kinds and len(forms) > 1:
            continue  # a branch without types says nothing beside one with types
        is_option = options is None or value in options
        if is_option and (not kinds or "string" in kinds) and form.takes(value):
            return value
    return other


def _without_text(value: str, known: frozenset[str]) -> Any:
    """Return a text as what it spells of the types ``known``, other than text."""
    if "integer" in known and _INTEGER.fullmatch(value):
        return int(value)
    if ("number" in known or "integer" in known) and _NUMBER.fullmatch(value):
        return float(value) if not _INTEGER.fullmatch(value) else int(value)
    if "boolean" in known and value in ("true", "false"):
        return value == "true"
    if "null" in known and value in ("", "null"):
        return None
    return value


def _member(branches: list[dict[str, Any]], key: str) -> Any:
    for branch in branches:
        if key in branch.get("properties", {}):
            return branch["properties"][key]
    return next((b["additionalProperties"] for b in branches if "additionalProperties" in b), True)


def _form(branch: dict[str, Any]) -> Form:
    return Form(frozenset(_types(branch)), _options(branch), branch)


def _options(branch: dict[str, Any]) -> Any:
    return [branch["const"]] if "const" in branch else branch.get("enum")


def _types(branch: dict[str, Any]) -> set[str]:
    kinds = branch.get("type", ())
    if isinstance(kinds, str):
        return {kinds}
    if kinds:
        return set(kinds)
    if "properties" in branch or "additionalProperties" in branch:
        return {"object"}
    if "items" in branch:
        return {"array"}
    return {json_type(option) for option in _options(branch) or ()} - {"array", "object"}


def _branches(schema: Any, root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas that may judge the value itself: references, ``allOf`` and alternatives."""
    stack, seen = [schema], 0
    while stack and seen < _MAX_BRANCHES:
        seen += 1
        node = stack.pop()
        if not isinstance(node, dict):
            continue
        inner = [m for k in ("oneOf", "anyOf", "allOf") for m in reversed(node.get(k, ()))]
        if "$ref" in node:
            inner.append(pointers.follow(root, node["$ref"].removeprefix("#")))
        stack.extend(inner)
        if not inner or node.keys() & {"type", "const", "enum", "properties", "items"}:
            yield node
