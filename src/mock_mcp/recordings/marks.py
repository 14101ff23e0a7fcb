"""What a test file says of its tests, read from its source: nothing is imported and nothing runs.

Of a marker only what is written out as a literal is seen; that is how markers are written nearly
always. The drift check needs two keywords of it, the documents and the contract mode of one test.

A test is gone only when its file certainly does not define it. Names that can come from anywhere
else (a star import, a base class in another file, ``globals()``, a decorator that makes tests) are
never held against it; parameters are not looked at.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

__all__ = ["TestSource"]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where a compound statement holds others."""

_BARREN_BASES = frozenset(
    ("object", "ABC", "Generic", "Protocol", "TestCase", "IsolatedAsyncioTestCase")
)
"""Base classes that define no test."""

_MAKERS = frozenset(("globals", "vars", "locals", "exec", "setattr", "scenarios"))
"""Functions that may define tests: Python's, and the one of pytest-bdd."""


class TestSource:
    """The source of one test file.

    Args:
        text: Its bytes; a file that is not Python says nothing.
    """

    def __init__(self, text: bytes) -> None:
        self._is_python = True
        try:
            self._tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            self._is_python = False
            self._tree = ast.Module([], [])

    def has(self, names: Sequence[str]) -> bool:
        """Return whether the file defines a test (or class) of this name.

        Args:
            names: Its classes, outermost first, and its name, with or without parameters.
        """
        return len(list(self._path(names))) == len(names)

    def lacks(self, names: Sequence[str]) -> bool:
        """Return whether the file certainly defines no test (or class) of this name.

        Args:
            names: As of `has`.
        """
        plain = [name.partition("[")[0] for name in names]
        if not self._is_python or not all(name.isidentifier() for name in plain):
            return False  # a doctest, or an item of another plugin
        return bool(plain) and not self._calls(_MAKERS) and self._lacks(self._tree.body, plain)

    def _lacks(self, body: Sequence[ast.stmt], names: Sequence[str]) -> bool:
        name, *inner = names
        found: list[_Definition] = []
        for statement in _flat(body):
            bound = _bound(statement)
            if bound is None or (name in bound and not isinstance(statement, _Definition)):
                return False
            if isinstance(statement, _Definition):
                if statement.name == name:
                    found.append(statement)
                elif statement.decorator_list and name.startswith(f"{statement.name}_"):
                    return False  # made by a decorator such as parameterized.expand
        return all(self._lacks_in(definition, inner, set()) for definition in found)

    def _lacks_in(self, definition: _Definition, names: Sequence[str], seen: set[str]) -> bool:
        if not names or isinstance(definition, _Function):
            return bool(names)
        if definition.keywords or not self._lacks(definition.body, names):
            return False
        for base in definition.bases:
            name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
            if name in _BARREN_BASES or name in seen:
                continue
            here = [
                each
                for each in _flat(self._tree.body)
                if isinstance(each, ast.ClassDef) and each.name == name
            ]
            if not here or not self._lacks_in(here[-1], names, seen | {name}):
                return False
        return True

    def uses_intercept(self) -> bool:
        """Return whether the file calls `mock_mcp.intercept`."""
        return self._calls({"intercept"})

    def _calls(self, functions: Collection[str]) -> bool:
        return any(
            isinstance(node, ast.Call) and _last_name(node.func) in functions
            for node in ast.walk(self._tree)
        )

    def marker(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the literal keywords of ``pytest.mark.mock_mcp`` of a test; the closest one wins.

        Args:
            names: As of `has`; none for what holds for the whole file.
        """
        found = _of_statements(self._tree.body)
        for definition in self._path(names):
            if isinstance(definition, ast.ClassDef):
                found |= _of_statements(definition.body)
            found |= _keywords(definition.decorator_list)
        return found

    def _path(self, names: Sequence[str]) -> Iterator[_Definition]:
        body: Sequence[ast.stmt] = self._tree.body
        for name in names:
            plain = name.partition("[")[0]
            definition = next((d for d in _definitions(body) if d.name == plain), None)
            if definition is None:
                return
            yield definition
            body = definition.body


def _definitions(body: Iterable[ast.stmt]) -> Iterator[_Definition]:
    return (statement for statement in _flat(body) if isinstance(statement, _Definition))


def _flat(body: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, those of its compound statements in their place."""
    for statement in body:
        if isinstance(statement, ast.stmt):
            yield statement
        if not isinstance(statement, _Definition):
            for block in _BLOCKS:
                yield from _flat(getattr(statement, block, ()))


def _bound(statement: ast.stmt) -> set[str] | None:
    """Return the names that a statement binds by itself; None when they cannot be known."""
    if isinstance(statement, _Definition):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
        return None if "*" in names else names
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign | ast.For):
        targets = [statement.target]
    return {
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    }


def _last_name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _of_statements(body: Iterable[ast.stmt]) -> dict[str, Any]:
    """Return what ``pytestmark = …`` says."""
    found: dict[str, Any] = {}
    for statement in body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "pytestmark"
            for target in statement.targets
        ):
            value = statement.value
            marks = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
            found |= _keywords(reversed(marks))
    return found


def _keywords(marks: Iterable[ast.expr]) -> dict[str, Any]:
    """Return the keywords of marks; the last one wins, as the lowest decorator does in pytest."""
    found: dict[str, Any] = {}
    for mark in marks:
        if not (isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("mark.mock_mcp")):
            continue
        for keyword in mark.keywords:
            try:
                if keyword.arg is not None:
                    found[keyword.arg] = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, RecursionError):
                continue
    return found
