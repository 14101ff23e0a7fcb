"""Add a table to a TOML file, or a key to a table, and leave every other byte as it was.

TOML can be extended by text: a table stands at the end, a key stands under its header. The result
is parsed again: it must be the old data with that one change, or it is not made.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["CannotEdit", "add_key", "add_table", "remove_table", "write_value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"[ \t]*\[")


class CannotEdit(ValueError):
    """The file is laid out in a way that text cannot extend."""


def write_value(value: Any, newline: str = "\n") -> str:
    """Return a text, a number, a boolean or a list of texts; longer lists take a line an item."""
    if isinstance(value, list) and len(value) > 1:
        items = "".join(f"    {write_value(each)},{newline}" for each in value)
        return f"[{newline}{items}]"
    if isinstance(value, list):
        return f"[{', '.join(write_value(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def add_table(text: str, path: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return the text with a table more at its end.

    Raises:
        CannotEdit: A table of that name cannot stand there.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    header = ".".join(key if _BARE.fullmatch(key) else write_value(key) for key in path)
    lines = [f"[{header}]"]
    lines += [f"{key} = {_flat(value, newline)}" for key, value in values.items()]
    block = newline.join(lines)
    if not text.strip():
        result = text + block + newline
    elif text.endswith("\n"):
        gap = "" if text.endswith(newline * 2) else newline
        result = text + gap + block + newline
    else:
        result = text + newline * 2 + block
    return _checked(result, _with(tomllib.loads(text), path, dict(values)))


def _flat(value: Any, newline: str) -> str:
    """Return a value; a command's arguments belong on one line, files below each other."""
    if isinstance(value, tuple):
        return f"[{', '.join(write_value(each) for each in value)}]"
    return write_value(value, newline)


def add_key(text: str, path: Sequence[str], key: str, value: Any) -> str:
    """Return the text with a key more, right under the header of its table.

    Raises:
        CannotEdit: The table has no header of its own.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    expected = _with(tomllib.loads(text), (*path, key), value)
    for number, line in enumerate(lines):
        if _header_of(line) == tuple(path):
            end = line if line.endswith("\n") else line + newline
            added = f"{key} = {write_value(value, newline)}"
            added += newline if number + 1 < len(lines) or line.endswith("\n") else ""
            try:
                return _checked(
                    "".join([*lines[:number], end, added, *lines[number + 1 :]]), expected
                )
            except CannotEdit:  # it stands inside a text of several lines
                continue
    raise CannotEdit("has no header of its own")


def remove_table(text: str, path: Sequence[str]) -> str:
    """Return the text without a table and those below it.

    Raises:
        CannotEdit: It is not written as tables of its own.
    """
    expected = tomllib.loads(text)
    holder = expected
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    if not holder and len(path) > 1:  # it was there only through its table
        parent: Any = expected
        for key in path[:-2]:
            parent = parent[key]
        del parent[path[-2]]
    kept: list[str] = []
    notes: list[str] = []  # comments right above a header belong to it
    inside = False
    for line in text.splitlines(keepends=True):
        if _HEADER.match(line):
            found = _header_of(line)
            was_inside, inside = inside, found is not None and found[: len(path)] == tuple(path)
            if was_inside and not inside:
                kept += notes
        notes = [*notes, line] if line.lstrip().startswith("#") else []
        if not inside:
            kept.append(line)
    return _checked("".join(kept), expected)


def _header_of(line: str) -> tuple[str, ...] | None:
    """Return the path of a table's header; None if the line is none."""
    if not _HEADER.match(line):
        return None
    try:
        data: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(data, dict) and len(data) == 1:
        key, data = next(iter(data.items()))
        path.append(key)
    return tuple(path) if data == {} else None


def _with(data: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder.setdefault(key, {})
        if not isinstance(holder, dict):
            raise CannotEdit(f"{key} is no table")
    holder[path[-1]] = value
    return changed


def _checked(text: str, expected: Mapping[str, Any]) -> str:
    try:
        same = _comparable(tomllib.loads(text)) == _comparable(expected)
    except tomllib.TOMLDecodeError as error:
        raise CannotEdit(str(error)) from None
    if not same:
        raise CannotEdit("would change something else too")
    return text


def _comparable(data: Mapping[str, Any]) -> str:
    """Return data as text: NaN is no value equal to itself."""
    return json.dumps(data, sort_keys=True, default=repr)
