"""Change one member of a JSON file and leave every other byte as it was.

The text is read by a scanner that knows where each value stands, with the comments and trailing
commas that editors allow. A change is a splice of the text, and its result is read again: it must
be the old value with that one change, or it is not made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Malformed", "Member", "Value", "parse", "remove_member", "set_member"]

_MAX_DEPTH = 200
_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_REST_OF_LINE = re.compile(r"(?:[ \t]+|/\*[^\r\n]*?\*/)*(?://[^\r\n]*)?")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")


class Malformed(ValueError):
    """The text is no JSON; ``line`` counts from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass(slots=True)
class Value:
    """A value and where it stands; ``members`` if it is an object."""

    data: Any
    start: int
    end: int = 0
    members: list[Member] | None = None

    def member(self, key: str) -> Member | None:
        """Return the member that counts: the last of its name."""
        return next((each for each in reversed(self.members or ()) if each.key == key), None)


@dataclass(slots=True)
class Member:
    """A member of an object: where its key begins, its value, and the comma after it."""

    key: str
    start: int
    value: Value
    comma: int | None = None


def parse(text: str) -> Value | None:
    """Read a text; None if there is nothing but white space and comments.

    Raises:
        Malformed: It is no JSON with comments.
    """
    scanner = _Scanner(text)
    scanner.skip()
    if scanner.at == len(text):
        return None
    root = scanner.value(0)
    scanner.skip()
    if scanner.at != len(text):
        raise scanner.wrong("something follows the end of the JSON value")
    return root


def set_member(text: str, path: Sequence[str], value: Any) -> str:
    """Return the text with the member at ``path`` set, and what it lies in made where missing.

    Raises:
        Malformed: The text is no JSON, or what the path goes through is no object.
    """
    root = parse(text)
    style = _Style.of(text, root)
    if root is None:
        whole: Any = value
        for key in reversed(path):
            whole = {key: whole}
        head = text.rstrip()
        return head + (style.newline if head else "") + style.write(whole, "") + style.newline
    holder, depth = root, 0
    while True:
        _check_object(text, holder, path[:depth])
        member = holder.member(path[depth])
        if member is None:
            break
        if depth == len(path) - 1:
            new = style.write(value, style.indent_at(text, member.start))
            result = text[: member.value.start] + new + text[member.value.end :]
            return _checked(text, result, root.data, path, value)
        holder, depth = member.value, depth + 1
    whole = value
    for key in reversed(path[depth + 1 :]):
        whole = {key: whole}
    return _checked(text, _insert(text, holder, path[depth], whole, style), root.data, path, value)


def remove_member(text: str, path: Sequence[str]) -> str:
    """Return the text without the member at ``path``; as it is if there is none.

    Raises:
        Malformed: The text is no JSON.
    """
    root = parse(text)
    holder = root
    for key in path[:-1]:
        member = holder.member(key) if holder else None
        holder = member.value if member else None
    if root is None or holder is None or (member := holder.member(path[-1])) is None:
        return text
    assert holder.members is not None
    index = holder.members.index(member)
    end = member.value.end if member.comma is None else member.comma + 1
    start = member.start
    before = text[:start].rstrip(" \t")
    rest = _REST_OF_LINE.match(text, end)
    assert rest is not None
    if before.endswith("\n") and text[rest.end() : rest.end() + 1] in ("\r", "\n", ""):
        # Lines of its own go as a whole, with the line break before them.
        start = len(before.removesuffix("\n").removesuffix("\r"))
        end = rest.end()
    head = text[:start]
    if member.comma is None and index:
        comma = holder.members[index - 1].comma
        assert comma is not None
        head = head[:comma] + head[comma + 1 :]
        if "\n" not in text[comma : member.start]:
            head = head.rstrip(" \t")
    return _checked(text, head + text[end:], root.data, path, _GONE)


# -- Reading ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Scanner:
    text: str
    at: int = 0

    def wrong(self, reason: str) -> Malformed:
        return Malformed(reason, self.text.count("\n", 0, self.at) + 1)

    def skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def takes(self, mark: str) -> bool:
        self.skip()
        if self.text.startswith(mark, self.at):
            self.at += 1
            return True
        return False

    def value(self, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise self.wrong(f"is nested deeper than {_MAX_DEPTH} levels")
        self.skip()
        found = Value(None, self.at)
        if self.takes("{"):
            found.members = []
            while not self.takes("}"):
                found.members.append(self.member(depth))
                if not self.may_go_on(found.members[-1], "}"):
                    break
            found.data = {each.key: each.value.data for each in found.members}
        elif self.takes("["):
            found.data = []
            while not self.takes("]"):
                found.data.append(self.value(depth + 1).data)
                if not self.may_go_on(None, "]"):
                    break
        elif self.text.startswith('"', self.at):
            found.data = self.string()
        else:
            scalar = _SCALAR.match(self.text, self.at)
            if scalar is None:
                raise self.wrong("a JSON value is expected here")
            self.at = scalar.end()
            found.data = json.loads(scalar[0])
        found.end = self.at
        return found

    def member(self, depth: int) -> Member:
        self.skip()
        start = self.at
        if not self.text.startswith('"', start):
            raise self.wrong("a name in double quotes, or the end of the object, is expected here")
        key = self.string()
        if not self.takes(":"):
            raise self.wrong(f"a colon is expected after {key!r}")
        return Member(key, start, self.value(depth + 1))

    def may_go_on(self, member: Member | None, end: str) -> bool:
        """Read what follows a value: a comma, or the end, which is read too."""
        if self.takes(","):
            if member is not None:
                member.comma = self.at - 1
            return True
        if self.takes(end):
            return False
        raise self.wrong(f"a comma or {end!r} is expected here")

    def string(self) -> str:
        found = _STRING.match(self.text, self.at)
        if found is None:
            raise self.wrong("the text in double quotes does not end on its line")
        try:
            text = json.loads(found[0])
        except ValueError:
            raise self.wrong("the text in double quotes has an escape JSON does not know") from None
        assert isinstance(text, str)
        self.at = found.end()
        return text


# -- Writing ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Style:
    """How a file is laid out."""

    newline: str
    unit: str

    @classmethod
    def of(cls, text: str, root: Value | None) -> _Style:
        style = cls("\r\n" if "\r\n" in text else "\n", "  ")
        holder = root
        while holder is not None and holder.members:
            first = holder.members[0]
            if "\n" in text[holder.start : first.start]:
                outer = style.indent_at(text, holder.start)
                inner = style.indent_at(text, first.start)
                if inner.startswith(outer) and inner != outer:
                    return cls(style.newline, inner.removeprefix(outer))
            holder = first.value
        return style

    def write(self, value: Any, indent: str, *, flat: bool = False) -> str:
        """Return a value as text: an object on lines of its own, anything else on one."""
        if flat or not isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False)
        inner = indent + self.unit
        members = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {self.write(each, inner)}"
            for key, each in value.items()
        ]
        return self.newline.join(["{", *_with_commas(members), indent + "}"])

    def indent_at(self, text: str, at: int) -> str:
        """Return the white space that begins the line of a place."""
        line = text[text.rfind("\n", 0, at) + 1 : at]
        return line[: len(line) - len(line.lstrip(" \t"))]


def _with_commas(members: list[str]) -> list[str]:
    return [*(f"{each}," for each in members[:-1]), *members[-1:]]


def _insert(text: str, holder: Value, key: str, value: Any, style: _Style) -> str:
    """Return the text with a member more at the end of an object."""
    name = json.dumps(key, ensure_ascii=False) + ": "
    assert holder.members is not None
    close = holder.end - 1
    if not holder.members:
        outer = style.indent_at(text, holder.start)
        inner = outer + style.unit
        head = text[:close].rstrip()
        added = style.newline + inner + name + style.write(value, inner) + style.newline + outer
        return head + added + text[close:]
    last = holder.members[-1]
    if "\n" not in text[holder.start : last.start]:
        added = f", {name}{style.write(value, '', flat=True)}"
        return text[: last.value.end] + added + text[last.value.end :]
    indent = style.indent_at(text, last.start)
    member = style.newline + indent + name + style.write(value, indent)
    if last.comma is not None:
        rest = _REST_OF_LINE.match(text, last.comma + 1)
        assert rest is not None
        return text[: rest.end()] + member + "," + text[rest.end() :]
    rest = _REST_OF_LINE.match(text, last.value.end)
    assert rest is not None
    # A comment on the last line belongs to it: the comma goes before, the member after.
    note = rest[0].rstrip(" \t") if rest[0].strip() else ""
    after = last.value.end + len(note)
    return text[: last.value.end] + "," + note + member + text[after:]


_GONE = object()


def _checked(before: str, after: str, data: Any, path: Sequence[str], value: Any) -> str:
    """Return ``after`` if it is what was meant.

    Raises:
        Malformed: The change did something else; nobody has seen it yet.
    """
    expected = json.loads(json.dumps(data))
    holder = expected
    for key in path[:-1]:
        holder = holder.setdefault(key, {})
    if value is _GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    root = parse(after)
    if root is None or root.data != expected:
        line = before.count("\n") + 1
        raise Malformed("is laid out in a way that cannot be changed safely; edit it by hand", line)
    return after


def _check_object(text: str, value: Value, path: Sequence[str]) -> None:
    if value.members is None:
        where = f"$.{'.'.join(path)}" if path else "the file"
        kind = "an array" if isinstance(value.data, list) else "no object"
        line = text.count("\n", 0, value.start) + 1
        raise Malformed(f"{where} is {kind}, but must be an object", line)
