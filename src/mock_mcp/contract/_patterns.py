"""Regular expressions of a schema: parse the common subset, match and generate, in bounded time.

A pattern comes from a document somebody else wrote, so it must not be able to hang this process.
The pattern is parsed into a small tree. Matching walks the tree with the *set* of reachable
positions instead of backtracking, which is polynomial for every pattern; generating walks the same
tree and draws. What the subset lacks (back-references, Unicode categories, inline flags) raises
`UnsupportedPattern`: the caller then leaves the verdict to the real validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Pattern", "UnsupportedPattern", "compile_pattern", "portable"]

MAX_PATTERN_CHARS = 2000
MAX_REPEAT = 1000
MAX_GROUP_DEPTH = 40
MAX_STEPS = 200_000  # positions visited by one match: some 30 ms
MAX_GENERATED = 10_000  # nodes walked for one text

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_PRINTABLE = _LOWER + _DIGITS + _LOWER.upper() + " -_.,:/+=@#!?()[]{}<>*&%$;'\"|~^`\\"

_Ranges = tuple[tuple[str, str], ...]
_CLASSES: dict[str, _Ranges] = {
    "d": (("0", "9"),),
    "w": (("a", "z"), ("A", "Z"), ("0", "9"), ("_", "_")),
    "s": ((" ", " "), ("\t", "\r")),
}
_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


class UnsupportedPattern(ValueError):
    """The pattern is outside the subset, or too large; it says nothing about validity."""


@dataclass(frozen=True, slots=True)
class _Chars:
    ranges: _Ranges
    negated: bool = False

    def __contains__(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) != self.negated


@lru_cache(maxsize=512)
def _pool(chars: _Chars, *, broad: bool) -> str:
    """The characters to draw from: readable ones unless ``broad``; never empty."""
    allowed = "".join(char for char in _PRINTABLE if char in chars)
    readable = "".join(char for char in allowed if char in _LOWER or char in _DIGITS)
    if readable and not broad:
        return readable
    return allowed or (chars.ranges[0][0] if chars.ranges and not chars.negated else "\u00e9")


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Either:
    branches: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class _Assert:
    """A zero-width test: ``^``, ``$``, ``b``, ``B``, or a lookahead (``=``, ``!``) at ``part``."""

    kind: str
    part: _Node | None = None


_Node = _Chars | _Sequence | _Either | _Repeat | _Assert


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise UnsupportedPattern("unbalanced parenthesis")
        return node

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise UnsupportedPattern("the pattern ends too early")
        self._at += 1
        return char

    def _eat(self, text: str) -> bool:
        if self._peek(len(text)) != text:
            return False
        self._at += len(text)
        return True

    def _alternatives(self) -> _Node:
        branches = [self._sequence()]
        while self._eat("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else _Either(tuple(branches))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._quantified(self._atom()))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _quantified(self, node: _Node) -> _Node:
        char = self._peek()
        bounds: tuple[int, int | None] | None = None
        if char and char in "*+?":
            self._at += 1
            bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        elif char == "{":
            bounds = self._braces()
        if bounds is None:
            return node
        if not self._eat("?"):  # lazy: the same language
            self._eat("+")
        if bounds[0] > MAX_REPEAT:
            raise UnsupportedPattern(f"more than {MAX_REPEAT} repetitions")
        return _Repeat(node, *bounds)

    def _braces(self) -> tuple[int, int | None] | None:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, self._at + 1)].partition(",")
        if end < 0 or not low.isdecimal() or not (high == "" or high.isdecimal()):
            return None  # a literal brace
        self._at = end + 1
        if not comma:
            return int(low), int(low)
        return int(low), int(high) if high else None

    def _atom(self) -> _Node:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return self._set()
        if char == ".":
            return _Chars((("\n", "\n"), ("\r", "\r")), negated=True)
        if char in "^$":
            return _Assert(char)
        if char in "*+?":
            raise UnsupportedPattern("nothing to repeat")
        if char == "\\":
            if self._peek() and self._peek() in "bB":
                return _Assert(self._take())
            if self._peek() in ("A", "Z", "z"):
                return _Assert("^" if self._take() == "A" else "$")
            return self._escape()
        return _Chars(((char, char),))

    def _group(self) -> _Node:
        self._depth += 1
        if self._depth > MAX_GROUP_DEPTH:
            raise UnsupportedPattern("groups nested too deeply")
        look = ""
        if self._eat("?"):
            if self._eat("=") or self._eat("!"):
                look = self._text[self._at - 1]
            elif not self._eat(":"):
                self._eat("P")
                if not self._eat("<") or self._peek() in ("=", "!"):
                    raise UnsupportedPattern("look-behind and inline flags")
                while self._take() != ">":
                    pass
        node = self._alternatives()
        if not self._eat(")"):
            raise UnsupportedPattern("unbalanced parenthesis")
        self._depth -= 1
        return _Assert(look, node) if look else node

    def _set(self) -> _Chars:
        negated = self._eat("^")
        ranges: list[tuple[str, str]] = []
        while not self._eat("]"):
            item = self._set_item()
            if self._peek() == "-" and self._peek(2) != "-]" and self._is_char(item):
                self._at += 1
                upper = self._set_item()
                if not self._is_char(upper):
                    raise UnsupportedPattern("a range that ends in a class")
                ranges.append((item.ranges[0][0], upper.ranges[0][0]))
            elif item.negated:
                raise UnsupportedPattern("a negated class inside a set")
            else:
                ranges.extend(item.ranges)
        return _Chars(tuple(ranges), negated)

    @staticmethod
    def _is_char(item: _Chars) -> bool:
        return not item.negated and len(item.ranges) == 1 and item.ranges[0][0] == item.ranges[0][1]

    def _set_item(self) -> _Chars:
        char = self._take()
        if char != "\\":
            return _Chars(((char, char),))
        if self._eat("b"):
            return _Chars((("\b", "\b"),))
        return self._escape()

    def _escape(self) -> _Chars:
        char = self._take()
        if char.lower() in _CLASSES:
            return _Chars(_CLASSES[char.lower()], negated=char.isupper())
        if char in _CONTROL:
            char = _CONTROL[char]
        elif char in "xu":
            char = self._hex(2 if char == "x" else 4)
        elif char.isalnum():
            raise UnsupportedPattern(f"the escape \\{char}")
        return _Chars(((char, char),))

    def _hex(self, digits: int) -> str:
        text = self._peek(digits)
        if len(text) < digits or any(char not in "0123456789abcdefABCDEF" for char in text):
            raise UnsupportedPattern("a malformed hexadecimal escape")
        self._at += digits
        return chr(int(text, 16))


def _is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and text[at] in _Chars(_CLASSES["w"])


class _OutOfSteps(Exception):
    pass


class _Matcher:
    """One match of one text; ``_steps`` bounds the work of all of it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._steps = MAX_STEPS

    def ends(self, node: _Node, starts: set[int]) -> set[int]:
        """Return every position where a match of ``node`` begun at one of ``starts`` can end."""
        self._steps -= 1 + len(starts)
        if self._steps < 0:
            raise _OutOfSteps
        text = self._text
        if isinstance(node, _Chars):
            return {at + 1 for at in starts if at < len(text) and text[at] in node}
        if isinstance(node, _Assert):
            return {at for at in starts if self._holds(node, at)}
        if isinstance(node, _Either):
            return set().union(*(self.ends(branch, starts) for branch in node.branches))
        if isinstance(node, _Sequence):
            for part in node.parts:
                starts = self.ends(part, starts)
                if not starts:
                    break
            return starts
        return self._repeated(node, starts)

    def _repeated(self, node: _Repeat, starts: set[int]) -> set[int]:
        reached = starts
        for _ in range(node.low):
            after = self.ends(node.part, reached)
            if not after or after == reached:
                reached = after
                break
            reached = after
        result, fresh = set(reached), reached
        left = None if node.high is None else node.high - node.low
        while fresh and left != 0:
            fresh = self.ends(node.part, fresh) - result
            result |= fresh
            left = None if left is None else left - 1
        return result

    def _holds(self, test: _Assert, at: int) -> bool:
        if test.part is not None:
            return bool(self.ends(test.part, {at})) == (test.kind == "=")
        if test.kind == "^":
            return at == 0
        if test.kind == "$":
            return at == len(self._text)
        is_edge = _is_word(self._text, at - 1) != _is_word(self._text, at)
        return is_edge == (test.kind == "b")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern; make one with `compile_pattern`."""

    node: _Node

    def matches(self, text: str) -> bool | None:
        """Return whether the pattern occurs in ``text``; None if that takes too long to say."""
        try:
            return bool(_Matcher(text).ends(self.node, set(range(len(text) + 1))))
        except _OutOfSteps:
            return None

    def generate(self, below: Callable[[int], int], *, extra: int, broad: bool = False) -> str:
        """Return a text made by walking the pattern.

        Args:
            below: Draws an integer in ``[0, n)``.
            extra: How many repetitions an open repetition may draw beyond its minimum.
            broad: Draw from every allowed printable character, not only the readable ones.

        Returns:
            The text; it can still miss the pattern when that holds look-aheads: check `matches`.

        Raises:
            UnsupportedPattern: The text would be longer than some 10 000 characters.
        """
        pieces: list[str] = []
        walked = 0

        def walk(node: _Node) -> None:
            nonlocal walked
            walked += 1
            if walked > MAX_GENERATED:
                raise UnsupportedPattern("the pattern asks for too long a text")
            if isinstance(node, _Chars):
                pool = _pool(node, broad=broad)
                pieces.append(pool[below(len(pool))])
            elif isinstance(node, _Either):
                walk(node.branches[below(len(node.branches))])
            elif isinstance(node, _Sequence):
                for part in node.parts:
                    walk(part)
            elif isinstance(node, _Repeat):
                high = node.low + extra if node.high is None else min(node.high, node.low + extra)
                for _ in range(node.low + below(high - node.low + 1 if high > node.low else 1)):
                    walk(node.part)

        walk(self.node)
        return "".join(pieces)


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Pattern:
    """Return the parsed form of a schema's ``pattern``.

    Args:
        text: An ECMA 262 regular expression, as JSON Schema has them (unanchored).

    Raises:
        UnsupportedPattern: It is malformed, outside the subset, or longer than 2000 characters.
    """
    if len(text) > MAX_PATTERN_CHARS:
        raise UnsupportedPattern(f"longer than {MAX_PATTERN_CHARS} characters")
    return Pattern(_Parser(text).parse())


_PIECE = re.compile(r"\\.|.", re.DOTALL)
_CLASS_ESCAPES = frozenset(("\\d", "\\D", "\\s", "\\S", "\\w", "\\W"))


def portable(text: str) -> str:
    r"""Return an ECMA 262 pattern as the validator's engine reads the same.

    There ``\<`` and ``\>`` are edges of a word, and a hyphen beside a class, as in ``[\w-.]``, is
    an error.
    """
    if "\\" not in text:
        return text
    pieces = ["", *_PIECE.findall(text), ""]
    inside = False
    for at, piece in enumerate(pieces):
        if piece in ("\\<", "\\>"):
            pieces[at] = piece[1]
        elif piece in ("[", "]"):
            inside = piece == "["
        elif piece == "-" and inside and _CLASS_ESCAPES & {pieces[at - 1], pieces[at + 1]}:
            pieces[at] = "\\-"
    return "".join(pieces)
