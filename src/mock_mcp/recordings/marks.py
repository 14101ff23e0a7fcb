"""What a test's marker says, read from its source: nothing is imported and nothing runs.

Only what is written out as a literal is seen; that is how markers are written nearly always. The
drift check needs two keywords of it, the documents and the contract mode of one test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = ["TestSource"]

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class TestSource:
    """The source of one test file.

    Args:
        text: Its bytes; a file that is not Python says nothing.
    """

    def __init__(self, text: bytes) -> None:
        try:
            self._tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            self._tree = ast.Module([], [])

    def has(self, names: Sequence[str]) -> bool:
        """Return whether the file defines a test (or class) of this name.

        Args:
            names: Its classes, outermost first, and its name, with or without parameters.
        """
        return len(list(self._path(names))) == len(names)

    def uses_intercept(self) -> bool:
        """Return whether the file calls `mock_mcp.intercept`."""
        return any(
            isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "intercept"
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
    for statement in body:
        if isinstance(statement, _Definition):
            yield statement
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _definitions(statement.body)


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
