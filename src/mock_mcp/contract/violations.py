"""Turn validation errors into violations that can be repaired in one try.

Every violation names the exact place, what is expected there, what was found, and the sentence
that says what to do: the property to add or rename, the nearest allowed value, the form of a date.
Where a schema offers alternatives, the errors of the alternative the value comes closest to are
given in place of "matches none": a wrong type or a wrong discriminator value counts most.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mock_mcp.contract import pointer as pointers
from mock_mcp.contract.schema import CompiledSchema
from mock_mcp.types import Violation
from mock_mcp.words import cut

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

__all__ = [
    "MAX_EXCERPT",
    "MAX_VIOLATIONS",
    "bounded",
    "closest",
    "excerpt",
    "explain",
    "limited",
]

MAX_VIOLATIONS = 50
"""Violations reported of one value; how many more there are is said."""

MAX_ERRORS = 2000
"""Errors of one value that are looked at."""

MAX_EXCERPT = 200
"""Characters of an ``expected`` or ``actual`` excerpt."""

MAX_COMPARED = 10_000_000
"""Pairs of characters compared in search of misspellings of one value: about a second at worst."""

_MAX_OPTIONS = 200
_MAX_UNEXPECTED = 10

_FORMATS = {
    "byte": "aGVsbG8=",
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "duration": "P3DT4H",
    "email": "ada@example.com",
    "hostname": "api.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/path",
    "uri-reference": "/path",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}

_LENGTHS: dict[str, tuple[str, str]] = {
    "minLength": ("at least", "characters"),
    "maxLength": ("at most", "characters"),
    "minItems": ("at least", "items"),
    "maxItems": ("at most", "items"),
    "minProperties": ("at least", "properties"),
    "maxProperties": ("at most", "properties"),
}

_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
}

_Path = list[str | int]
_Finding = tuple[_Path, str, str, str, str]
"""Path into the value, keyword, expected, actual, hint."""


def explain(
    compiled: CompiledSchema, value: Any, *, request_id: str, prefix: str
) -> tuple[Violation, ...]:
    """Return why ``value`` breaks the schema; empty when it does not.

    Args:
        compiled: The schema.
        value: A JSON value.
        request_id: The request that the violations belong to.
        prefix: JSON pointer of ``value`` in what is checked, such as ``/body``.

    Returns:
        One violation for each broken rule, of the first `MAX_ERRORS`; see `limited`.
    """
    try:
        errors = compiled.errors(value)
    except ValueError:
        return (
            Violation(
                request_id,
                prefix,
                "depth",
                "a value nested less deep",
                "nested too deep",
                "Flatten it.",
            ),
        )
    if not errors:
        return ()
    explainer = _Explainer(compiled.schema, value)
    findings = (finding for error in errors[:MAX_ERRORS] for finding in explainer.error(error))
    violations: dict[tuple[str, str, str], Violation] = {}
    for path, keyword, expected, actual, hint in findings:
        pointer = pointers.extend(prefix, *path)
        violations.setdefault(
            (pointer, keyword, expected),
            Violation(
                request_id, pointer, keyword, bounded(expected), bounded(actual), bounded(hint, 400)
            ),
        )
    return tuple(violations.values())


def limited(violations: Sequence[Violation], request_id: str) -> tuple[Violation, ...]:
    """Return at most `MAX_VIOLATIONS`, wrong values first, and one that counts the rest, if any."""
    if not violations:
        return ()
    more = len(violations) - MAX_VIOLATIONS
    if more <= 0:
        return tuple(violations)
    violations = tuple(sorted(violations, key=lambda v: v.keyword == "required"))
    rest = Violation(
        request_id,
        "",
        "more",
        "no violations",
        f"at least {more} more violations",
        "Repair the violations listed; most of the others probably have the same cause.",
    )
    return (*violations[:MAX_VIOLATIONS], rest)


class _Explainer:
    """The errors of one value against one closed schema."""

    def __init__(self, schema: dict[str, Any], value: Any) -> None:
        self._schema = schema
        self._value = value
        self._compared = 0

    def error(self, error: ValidationError, note: str = "") -> Iterator[_Finding]:
        """Yield the findings of one error, descending into alternatives."""
        kind = type(error.kind).__name__
        if kind.endswith(("BacktrackLimitExceeded", "RegexEngineFailure")):
            return  # a pattern that cannot be decided in bounded time decides nothing
        if kind.endswith(("AnyOf", "OneOfNotValid")):
            yield from self._alternatives(error)
            return
        for path, keyword, expected, actual, hint in self._finding(error):
            yield path, keyword, expected, actual, hint + note

    # -- Alternatives -------------------------------------------------------------------------

    def _alternatives(self, error: ValidationError) -> Iterator[_Finding]:
        here = list(error.instance_path)
        branches: list[list[ValidationError]] = [b for b in error.kind.context if b]  # type: ignore[attr-defined]
        kinds = _expected_types(branches, here)
        if not branches or kinds is not None:
            yield self._wrong_type(here, kinds or ["a value of one of the alternatives"])
            return
        wrong = self._wrong_constant(branches, here) or self._wrong_selector(branches, error)
        if wrong is not None:
            yield wrong
            return
        best = min(branches, key=lambda errors: sum(_weight(e, error) for e in errors))
        note = f" (Closest of {len(error.kind.context)} alternatives.)"  # type: ignore[attr-defined]
        for inner in best:
            yield from self.error(inner, note)

    def _wrong_constant(
        self, branches: list[list[ValidationError]], here: _Path
    ) -> _Finding | None:
        """Return the finding when each alternative wants other constants, or another type."""
        options: list[Any] = []
        for errors in branches:
            own = [e for e in errors if list(e.instance_path) == here]
            wanted = [e for e in own if e.kind.name in ("const", "enum")]
            if not wanted and all(e.kind.name != "type" for e in own):
                return None
            options += [o for e in wanted for o in _options(e) if o not in options]
        return self._not_an_option(here, "enum", options) if options else None

    def _wrong_selector(
        self, branches: list[list[ValidationError]], parent: ValidationError
    ) -> _Finding | None:
        """Return the finding when one property rules out every alternative for an object."""
        selectors = []
        for errors in branches:
            found = [e for e in errors if _weight(e, parent) >= _SELECTOR]
            if not found:
                return None
            if found[0].kind.name in ("const", "enum"):
                selectors.append(found[0])
        paths = {tuple(e.instance_path) for e in selectors}
        if len(paths) != 1:
            return None
        options: list[Any] = []
        for e in selectors:
            options += [option for option in _options(e) if option not in options]
        path = list(selectors[0].instance_path)
        return self._not_an_option(path, "enum", options)

    # -- Single errors ------------------------------------------------------------------------

    def _finding(self, error: ValidationError) -> Iterable[_Finding]:
        path = list(error.instance_path)
        keyword = error.kind.name
        kind: Any = error.kind
        node = self._node(error)
        if keyword == "type":
            return [self._wrong_type(path, kind.types)]
        if keyword in ("enum", "const"):
            return [self._not_an_option(path, keyword, _options(error))]
        if hasattr(kind, "property"):
            return [self._missing(path, kind.property, node)]
        if hasattr(kind, "unexpected") and keyword.endswith("Properties"):
            return self._unexpected(path, keyword, list(kind.unexpected), node)
        value = _at(self._value, path)
        actual = excerpt(value)
        if keyword == "format":
            example = _FORMATS.get(kind.format)
            such = f", such as {example}" if example else ""
            return [
                (
                    path,
                    keyword,
                    f"{kind.format}{such}",
                    actual,
                    f"Write a valid {kind.format}{such}.",
                )
            ]
        if keyword == "pattern":
            expected = f"text that matches {bounded(str(kind.pattern), 150)}"
            return [(path, keyword, expected, actual, f"Write {expected}.")]
        if keyword in _LENGTHS:
            words, unit = _LENGTHS[keyword]
            expected = f"{words} {kind.limit} {unit}"
            return [(path, keyword, expected, f"{len(value)} {unit}", f"Give {expected}.")]
        if keyword in _BOUNDS:
            limit = getattr(kind, "limit", None)
            expected = f"{_BOUNDS[keyword]} {kind.multiple_of if limit is None else limit}"
            return [(path, keyword, expected, actual, f"Use a number that is {expected}.")]
        if keyword == "uniqueItems":
            return [(path, keyword, "items that differ", *_duplicate(value))]
        if type(kind).__name__.endswith("OneOfMultipleValid"):
            expected = "exactly one of the alternatives"
            hint = "The value fits several alternatives: add or change what tells them apart."
            return [(path, keyword, expected, actual, hint)]
        if keyword == "propertyNames":
            rule = f"{kind.error.kind.name} {excerpt(node.get(kind.error.kind.name))}"
            name = str(kind.error.instance)
            hint = f"Rename {excerpt(name, 60)}: names here must satisfy {bounded(rule, 120)}."
            return [([*path, name], keyword, f"a name with {rule}", excerpt(name), hint)]
        if keyword == "contains":
            limit = str(error.evaluation_path[-1])
            most = "most" if limit == "maxContains" else "least"
            items = f"at {most} {node.get(limit) if limit != keyword else 1} items"
            expected = f"{items} that satisfy {bounded(excerpt(node.get(keyword)), 120)}"
            return [(path, keyword, expected, actual, f"Give {expected}.")]
        if type(kind).__name__.endswith("FalseSchema"):
            return [(path, "false", "nothing here", actual, "Remove it: it is not allowed here.")]
        expected = f"{keyword} {excerpt(node.get(keyword))}" if keyword in node else keyword
        return [
            (path, keyword, expected, actual, f"Change it to satisfy {bounded(expected, 120)}.")
        ]

    def _wrong_type(self, path: _Path, kinds: Sequence[str]) -> _Finding:
        value = _at(self._value, path)
        expected = " or ".join(kinds)
        actual = f"{_type_name(value)} {excerpt(value)}"
        if value is None:
            hint = f"null is not allowed here; give {_article(expected)}."
        elif (
            isinstance(value, str) and value[:1] in ("{", "[") and {"object", "array"} & set(kinds)
        ):
            hint = f"Send the {expected} itself, not text that contains it."
        elif isinstance(value, str) and _type_name(_decoded(value)) in kinds:
            hint = f"Write {_article(expected)} without quotes."
        elif isinstance(value, (int, float)) and "string" in kinds:
            hint = f"Put it in quotes: {json.dumps(excerpt(value, 60))}."
        else:
            hint = f"Replace it by {_article(expected)}."
        return path, "type", expected, actual, hint

    def _not_an_option(self, path: _Path, keyword: str, options: Sequence[Any]) -> _Finding:
        value = _at(self._value, path)
        shown = bounded(", ".join(excerpt(option, 60) for option in options[:_MAX_OPTIONS]))
        expected = shown if len(options) == 1 else f"one of {shown}"
        nearest = self._closest(value, options)
        if nearest is not None:
            hint = f"Did you mean {excerpt(nearest, 60)}?"
        elif len(options) == 1:
            hint = f"Use {shown}."
        else:
            hint = f"Use one of {bounded(shown, 150)}."
        return path, keyword, expected, excerpt(value), hint

    def _missing(self, path: _Path, name: str, node: dict[str, Any]) -> _Finding:
        value = _at(self._value, path)
        present = list(value) if isinstance(value, dict) else []
        expected = f"property {json.dumps(name)}"
        about = self._describe(node, name)
        known = set(self._properties(node))
        misspelt = self._closest(name, [key for key in present if known and key not in known])
        hint = f"Add the required property {json.dumps(name)}{about}."
        if misspelt is not None:
            hint = f"Rename {json.dumps(misspelt)} to {json.dumps(name)}{about}."
        actual = f"properties {', '.join(present)}" if present else "no properties"
        return [*path, name], "required", expected + about, actual, hint

    def _unexpected(
        self, path: _Path, keyword: str, names: list[str], node: dict[str, Any]
    ) -> Iterator[_Finding]:
        known = self._properties(node)
        value = _at(self._value, path)
        free = [name for name in known if not isinstance(value, dict) or name not in value]
        expected = f"only {', '.join(known)}" if known else "no such property"
        for name in names[:_MAX_UNEXPECTED]:
            nearest = self._closest(name, free)
            hint = f"Remove {json.dumps(name)}: the schema does not allow it."
            if nearest is not None:
                hint = f"Rename {json.dumps(name)} to {json.dumps(nearest)}, or remove it."
            yield [*path, name], keyword, expected, excerpt(_at(value, [name])), hint
        if len(names) > _MAX_UNEXPECTED:
            rest = ", ".join(names[_MAX_UNEXPECTED:])
            yield path, keyword, expected, f"also {rest}", "Remove these properties too."

    def _closest(self, value: Any, options: Sequence[Any]) -> Any:
        """Return the option that is meant, None once the search has cost too much."""
        if self._compared > MAX_COMPARED or isinstance(value, (dict, list)):
            return None
        length = sum(len(bounded(str(option))) for option in options[:_MAX_OPTIONS])
        self._compared += len(bounded(str(value))) * length
        return closest(value, options)

    # -- The schema around an error -----------------------------------------------------------

    def _node(self, error: ValidationError) -> dict[str, Any]:
        """Return the schema object that holds the broken keyword."""
        node: Any = self._schema
        try:
            for step in error.evaluation_path[:-1]:
                node = node[step]
                if step == "$ref" and isinstance(node, str):  # else a property of that name
                    node = self._target(node)
        except (LookupError, TypeError):
            return {}
        return node if isinstance(node, dict) else {}

    def _target(self, ref: str) -> Any:
        return pointers.follow(self._schema, ref.removeprefix("#"))

    def _properties(self, node: dict[str, Any]) -> list[str]:
        """Return the property names a schema knows, by its ``$ref`` and ``allOf`` too."""
        names: dict[str, None] = {}
        stack: list[tuple[Any, int]] = [(node, 0)]
        while stack:
            schema, depth = stack.pop()
            if isinstance(schema, dict) and depth < 8:
                names.update(dict.fromkeys(schema.get("properties", ())))
                stack += [(member, depth + 1) for member in schema.get("allOf", ())]
                if "$ref" in schema:
                    stack.append((self._target(schema["$ref"]), depth + 1))
        return list(names)

    def _describe(self, node: dict[str, Any], name: str) -> str:
        """Return `` (string, date-time)`` for a property, as far as its schema says so shortly."""
        schema = node.get("properties", {}).get(name)
        for _ in range(8):
            if isinstance(schema, dict) and "$ref" in schema and "type" not in schema:
                schema = self._target(schema["$ref"])
        if not isinstance(schema, dict):
            return ""
        kinds = schema.get("type", [])
        words = [" or ".join(kinds if isinstance(kinds, list) else [kinds])]
        words.append(str(schema.get("format", "")))
        if "enum" in schema:
            options = ", ".join(excerpt(option, 30) for option in schema["enum"][:8])
            words.append(f"one of {bounded(options, 80)}")
        text = ", ".join(word for word in words if word)
        return f" ({text})" if text else ""


_SELECTOR = 50


def _weight(error: ValidationError, parent: ValidationError) -> int:
    """Return how much an error speaks against its alternative."""
    keyword = error.kind.name
    if keyword == "type" and error.instance_path == parent.instance_path:
        return 10 * _SELECTOR
    if len(error.instance_path) == len(parent.instance_path) + 1:
        placed = error.evaluation_path[len(parent.evaluation_path) + 1 :]
        beside = len(placed) == 3 and placed[0] == "properties"  # as a discriminator puts it
        if keyword == "not" and beside:
            return _SELECTOR
        if keyword in ("const", "enum") and (beside or len(_options(error)) == 1):
            return _SELECTOR
    return 3 if keyword == "required" else 2


def _expected_types(branches: Sequence[Sequence[ValidationError]], here: _Path) -> list[str] | None:
    """Return the types of the alternatives when each of them fails by type at ``here``."""
    kinds: dict[str, None] = {}
    for errors in branches:
        found = [e for e in errors if e.kind.name == "type" and list(e.instance_path) == here]
        if not found:
            return None
        for error in found:
            kinds.update(dict.fromkeys(error.kind.types))  # type: ignore[attr-defined]
    return list(kinds)


def _options(error: ValidationError) -> list[Any]:
    kind: Any = error.kind
    return [kind.expected_value] if error.kind.name == "const" else list(kind.options)


def _at(value: Any, path: Sequence[str | int]) -> Any:
    for token in path:
        try:
            value = value[token]
        except (LookupError, TypeError):
            return None
    return value


def _duplicate(items: Any) -> tuple[str, str]:
    seen: dict[str, int] = {}
    for i, item in enumerate(items):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            return f"items {seen[text]} and {i} are equal", "Remove or change one of them."
        seen[text] = i
    return "equal items", "Remove or change one of them."


def _type_name(value: Any) -> str:
    """Return the JSON Schema type of a JSON value."""
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (dict, "object"),
        (list, "array"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _decoded(text: str) -> Any:
    """Return the JSON value that ``text`` spells, or None."""
    try:
        return json.loads(bounded(text))
    except ValueError:
        return None


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeio' else 'a'} {noun}" if noun[:1].islower() else noun


def bounded(text: str, limit: int = MAX_EXCERPT) -> str:
    """Return ``text`` cut to ``limit`` characters."""
    return cut(text, limit)


def excerpt(value: Any, limit: int = MAX_EXCERPT) -> str:
    """Return ``value`` as JSON of at most ``limit`` characters, however large it is."""
    return bounded(json.dumps(_trim(value, 3), ensure_ascii=False, default=str), limit)


def _trim(value: Any, depth: int) -> Any:
    """Return a copy of ``value`` with only what can show in an excerpt."""
    if isinstance(value, str):
        return bounded(value)
    if isinstance(value, (list, tuple)):
        return [_trim(item, depth - 1) for item in value[:8]] if depth else ["…"] * bool(value)
    if isinstance(value, dict):
        if not depth:
            return {"…": "…"} if value else {}
        return {bounded(str(k), 60): _trim(value[k], depth - 1) for k in list(value)[:12]}
    return value


def closest(value: Any, options: Sequence[Any]) -> Any:
    """Return the option that ``value`` is most likely a misspelling of, or None.

    Case, separators and quotes are ignored first; then spelling counts.
    """
    if isinstance(value, (dict, list)) or value is None:
        return None
    plain = {_plain(option): option for option in reversed(options[:_MAX_OPTIONS])}
    plain.pop("", None)
    wanted = _plain(bounded(str(value)))
    if wanted in plain:
        return plain[wanted]
    matcher: Callable[..., list[str]] = difflib.get_close_matches
    found = matcher(wanted, list(plain), n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def _plain(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    return "".join(c for c in bounded(text).lower() if c.isalnum())
