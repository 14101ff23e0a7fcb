"""A small, bounded judge of values against a closed schema, for choosing while a sample is made.

The generator must know locally whether a value matches exactly one branch of a ``oneOf``, escapes a
``not``, or triggers an ``if``; asking the real validator about fragments would mean compiling each.
This judge knows the assertions of JSON Schema 2020-12 except ``format`` and ``unevaluated*`` and
says yes when it cannot tell or its steps run out: the last word always has the caller's validator.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mock_mcp.contract._patterns import UnsupportedPattern, compile_pattern

__all__ = ["Judge", "json_type", "pattern_matches", "resolve", "same"]

MAX_STEPS = 20_000

Schema = Mapping[str, Any] | bool


def resolve(defs: Mapping[str, Any], ref: str) -> Any:
    """Return what ``#/$defs/NAME`` names in ``defs``; True (anything) when it names nothing."""
    name = ref.removeprefix("#/$defs/")
    return defs.get(name, defs.get(name.replace("~1", "/").replace("~0", "~"), True))


def json_type(value: Any) -> str:
    """Return the JSON Schema type name of a JSON value; ``integer`` for 1.0 too."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal as JSON: 1 is 1.0 but not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def pattern_matches(pattern: str, text: str) -> bool:
    """Return whether ``pattern`` occurs in ``text``; True when the subset cannot tell."""
    try:
        return compile_pattern(pattern).matches(text) is not False
    except UnsupportedPattern:
        return True


class Judge:
    """Judge values against schemas whose ``$ref``s name entries of ``defs``.

    ``steps`` counts the schemas visited so far, for a caller that wants to bound its own work.
    """

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self._defs = defs
        self._limit = 0
        self.steps = 0

    def accepts(self, value: Any, schema: Schema) -> bool:
        """Return whether ``value`` matches ``schema``, as far as this judge can tell."""
        self._limit = self.steps + MAX_STEPS
        return self._accepts(value, schema, 0)

    def _accepts(self, value: Any, schema: Schema, depth: int) -> bool:
        self.steps += 1
        if isinstance(schema, bool):
            return schema
        if self.steps > self._limit or depth > 60:
            return True
        return (
            self._type_and_values(value, schema)
            and self._combinations(value, schema, depth + 1)
            and self._by_type(value, schema, depth + 1)
        )

    def _type_and_values(self, value: Any, schema: Mapping[str, Any]) -> bool:
        wanted = schema.get("type")
        if wanted is not None:
            types = [wanted] if isinstance(wanted, str) else wanted
            actual = json_type(value)
            if actual not in types and not (actual == "integer" and "number" in types):
                return False
        if "const" in schema and not same(value, schema["const"]):
            return False
        enum = schema.get("enum")
        return not isinstance(enum, list) or any(same(value, option) for option in enum)

    def _combinations(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        ref = schema.get("$ref")
        if isinstance(ref, str) and not self._accepts(value, resolve(self._defs, ref), depth):
            return False
        if not all(self._accepts(value, part, depth) for part in schema.get("allOf", ())):
            return False
        if "anyOf" in schema and not any(
            self._accepts(value, part, depth) for part in schema["anyOf"]
        ):
            return False
        if "oneOf" in schema and (
            sum(self._accepts(value, part, depth) for part in schema["oneOf"]) != 1
        ):
            return False
        if "not" in schema and self._accepts(value, schema["not"], depth):
            return False
        if "if" in schema:
            holds = self._accepts(value, schema["if"], depth)
            return self._accepts(value, schema.get("then" if holds else "else", True), depth)
        return True

    def _by_type(self, value: Any, schema: Mapping[str, Any], depth: int) -> bool:
        if isinstance(value, str):
            pattern = schema.get("pattern")
            return _within(len(value), schema, "minLength", "maxLength") and (
                not isinstance(pattern, str) or pattern_matches(pattern, value)
            )
        if isinstance(value, Mapping):
            return self._object(value, schema, depth)
        if isinstance(value, list):
            return self._array(value, schema, depth)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _number(value, schema)
        return True

    def _object(self, value: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> bool:
        if not _within(len(value), schema, "minProperties", "maxProperties"):
            return False
        if any(name not in value for name in schema.get("required", ())):
            return False
        properties = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        for name, item in value.items():
            covering = [part for key, part in patterns.items() if pattern_matches(key, name)]
            if name in properties:
                covering.append(properties[name])
            if not covering:
                covering = [schema.get("additionalProperties", True)]
            if not all(self._accepts(item, part, depth) for part in covering):
                return False
            if not self._accepts(name, schema.get("propertyNames", True), depth):
                return False
        for name, needed in schema.get("dependentRequired", {}).items():
            if name in value and any(other not in value for other in needed):
                return False
        return all(
            self._accepts(value, part, depth)
            for name, part in schema.get("dependentSchemas", {}).items()
            if name in value
        )

    def _array(self, value: list[Any], schema: Mapping[str, Any], depth: int) -> bool:
        if not _within(len(value), schema, "minItems", "maxItems"):
            return False
        prefix = schema.get("prefixItems", [])
        if not all(map(self._accepts, value, prefix, [depth] * len(prefix))):
            return False
        items = schema.get("items", True)
        if not all(self._accepts(item, items, depth) for item in value[len(prefix) :]):
            return False
        if "contains" in schema:
            hits = sum(self._accepts(item, schema["contains"], depth) for item in value)
            if not schema.get("minContains", 1) <= hits <= schema.get("maxContains", hits):
                return False
        return not schema.get("uniqueItems") or not any(
            same(item, other) for at, item in enumerate(value) for other in value[:at]
        )


def _within(size: int, schema: Mapping[str, Any], low: str, high: str) -> bool:
    return bool(schema.get(low, 0) <= size <= schema.get(high, size))


def _number(value: float, schema: Mapping[str, Any]) -> bool:
    step = schema.get("multipleOf")
    return bool(
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        and (not step or Fraction(str(value)) % Fraction(str(step)) == 0)
    )
