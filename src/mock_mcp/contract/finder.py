"""Find the operation that answers a call.

A segment trie over the path templates of one document: at each segment a static child is tried
before mixed ones (``{base}...{head}``), and those before a parameter; a dead end backtracks. The
server part of the URL is matched first: hosts with variables, the longest base path first. No
regular expression is built from a path template, so no document can make a match slow. A node
sorts its templates into children when a call first gets there: most calls need few branches.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from mock_mcp.contract.document import METHODS, Document, Place
from mock_mcp.contract.errors import NoOperation
from mock_mcp.contract.operation import Operation
from mock_mcp.words import some

__all__ = ["Finder", "Match"]

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NO_LIMITS: Mapping[str, frozenset[str]] = {}
_MAX_STEPS = 20_000
_CANDIDATES = 5


class Match(NamedTuple):
    """An operation and the values its path parameters have in the call, percent-decoded."""

    operation: Operation
    path_parameters: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Entry:
    """One path item: its template and where it stands.

    ``limits`` maps each method that has servers of its own to their URLs; the others are served by
    all servers of the document.
    """

    template: str
    place: Place
    item: Mapping[str, Any]
    limits: Mapping[str, frozenset[str]]

    @cached_property
    def segments(self) -> list[str]:
        """The parts of the path, without the query that some templates have."""
        return _path(self.template).split("/")[1:]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The path parameters, in their order."""
        return tuple(_PARAMETER.findall(_path(self.template)))

    @cached_property
    def query(self) -> frozenset[tuple[str, str]]:
        """The query pairs that the template asks for."""
        return frozenset(parse_qsl(self.template.partition("#")[0].partition("?")[2]))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The declared methods."""
        return tuple(m for m in METHODS if isinstance(self.item.get(m), dict))

    def serves(self, method: str, server: str | None, everywhere: frozenset[str]) -> bool:
        if method not in self.methods:
            return False
        return server is None or server in (self.limits.get(method) or everywhere)

    def spans(self, name: str) -> bool:
        """Say whether a path parameter may hold slashes (``x-multi-segment``)."""
        holders = (self.item, *(self.item[method] for method in self.methods))
        return any(
            parameter.get("x-multi-segment") is True and str(parameter.get("name")) == name
            for holder in holders
            if isinstance(holder.get("parameters"), list)
            for parameter in holder["parameters"]
            if isinstance(parameter, dict)
        )


class _Node:
    """The templates that share the segments before ``depth``."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.entries: list[_Entry] = []

    @cached_property
    def children(self) -> _Children:
        """The templates by how they go on."""
        children = _Children(self.depth + 1)
        for entry in self.entries:
            children.list_for(entry, self.depth).append(entry)
        children.ended.sort(key=lambda entry: -len(entry.query))
        return children


class _Children:
    """What follows a node: a segment of its own kind, or nothing."""

    def __init__(self, depth: int) -> None:
        self.static: defaultdict[str, _Node] = defaultdict(partial(_Node, depth))
        self.mixed: defaultdict[tuple[str, ...], _Node] = defaultdict(partial(_Node, depth))
        self.parameter = _Node(depth)
        self.rest = _Node(depth)  # a parameter that may span segments
        self.ended: list[_Entry] = []

    def list_for(self, entry: _Entry, depth: int) -> list[_Entry]:
        """Return the list that a template belongs to, by its segment at ``depth``."""
        if depth == len(entry.segments):
            return self.ended
        segment = entry.segments[depth]
        found = _PARAMETER.findall(segment)
        if not found:
            return self.static[unquote(segment)].entries
        if _PARAMETER.fullmatch(segment) is None:
            literals = tuple(unquote(text) for text in _PARAMETER.split(segment)[::2])
            return self.mixed[literals].entries
        if depth == len(entry.segments) - 1 and entry.spans(found[0]):
            return self.rest.entries
        return self.parameter.entries


class Finder:
    """The operations of one document, by URL and method."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._root = _Node(0)
        self._entries: list[_Entry] = []
        self._operations: dict[tuple[str, str], Operation] = {}
        self._servers: dict[str, _Server] = {}
        self._everywhere = self._add_servers(document.server_nodes())
        for template, place, item in document.paths:
            self._add(template, place, item)
        self._root.entries = self._entries

    def __iter__(self) -> Iterator[Operation]:
        """Yield every operation of the document."""
        for entry in self._entries:
            for method in entry.methods:
                yield self._operation(entry, method)

    def find(self, url: str, method: str) -> Match:
        """Return the operation that answers ``method`` on ``url``.

        Args:
            url: A full URL, or a path with or without the server's base path. The query counts
                only where a path of the document has one; the fragment never does.
            method: In any case. ``HEAD`` is answered by ``GET`` where only that is declared.

        Raises:
            NoOperation: Its keyword says what did not match (``server``, ``path``, ``method``),
                its message what is nearest.
        """
        host, path, query = _split(url)
        pairs = frozenset(parse_qsl(query)) if query else frozenset()
        verb = method.lower()
        remainders = self._remainders(host, path)
        allowed: dict[str, None] = {}
        for server, below in remainders:
            for entry, values in self._walk(below):
                if not entry.query <= pairs:
                    continue
                wanted = "get" if verb == "head" and "head" not in entry.methods else verb
                if entry.serves(wanted, server, self._everywhere):
                    parameters = dict(zip(entry.names, values, strict=True))
                    return Match(self._operation(entry, wanted), parameters)
                served = (m for m in entry.methods if entry.serves(m, server, self._everywhere))
                allowed.update(dict.fromkeys(m.upper() for m in served))
        if allowed:
            raise NoOperation(
                f"{method.upper()} is not declared for {path} in {self.document.path}; "
                f"declared: {', '.join(allowed)}.",
                keyword="method",
                candidates=tuple(allowed),
            )
        if remainders:
            raise self._no_path(remainders[0][1])
        serving = tuple(url for url, server in self._servers.items() if server.serves(host))
        if serving:
            raise NoOperation(
                f"{path} is below none of the servers of {self.document.path}: {some(serving)}.",
                keyword="path",
                candidates=serving[:_CANDIDATES],
            )
        known = list(self._servers)
        raise NoOperation(
            f"{_origin(url)} is none of the servers of {self.document.path}: {some(known)}. "
            f"Register the document with server={_origin(url)!r} if it serves this API.",
            keyword="server",
            candidates=known[:_CANDIDATES],
        )

    def at(self, template: str, method: str) -> Operation | None:
        """Return the operation declared as ``method`` of ``template``, or None."""
        for entry in self._entries:
            if entry.template == template and method in entry.methods:
                return self._operation(entry, method)
        return None

    # -- Building -----------------------------------------------------------------------------

    def _add(self, template: str, place: Place, item: Mapping[str, Any]) -> None:
        if _path(template) != template:
            self.document.note(
                place, "has a query or fragment in its path", "the query must be in the URL"
            )
        limits = {
            method: self._add_servers(self.document.server_nodes(item[method], item))
            for method in METHODS
            if isinstance(item.get(method), dict)
            and ("servers" in item or "servers" in item[method])
        }
        entry = _Entry(template, place, item, limits or _NO_LIMITS)
        self._entries.append(entry)

    def _add_servers(self, nodes: list[dict[str, Any]]) -> frozenset[str]:
        for node in nodes:
            if node["url"] not in self._servers:
                self._servers[node["url"]] = _Server(node["url"], node.get("variables"))
        return frozenset(node["url"] for node in nodes)

    def _operation(self, entry: _Entry, method: str) -> Operation:
        key = (entry.template, method)
        if key not in self._operations:
            self._operations[key] = Operation(
                self.document, entry.template, method, entry.place, entry.item
            )
        return self._operations[key]

    # -- Searching ----------------------------------------------------------------------------

    def _remainders(self, host: str, path: str) -> list[tuple[str | None, str]]:
        """Return the paths below a server that a URL may mean, each with that server's URL.

        The longest base path is first. A bare path is also tried as it is, below any server.
        """
        found = []
        for url, server in self._servers.items():
            base = server.matches(host, path)
            if base is not None:
                found.append((-len(base), url, path[len(base) :] or "/"))
        found.sort()
        remainders: list[tuple[str | None, str]] = [(url, rest) for _, url, rest in found]
        if not host and not any(length == 0 for length, *_ in found):
            remainders.append((None, path))
        return remainders

    def _walk(self, path: str) -> Iterator[tuple[_Entry, tuple[str, ...]]]:
        """Yield the entries that match ``path``, best first."""
        segments = path.split("/")[1:]
        decoded = [unquote(segment) for segment in segments] if "%" in path else segments
        stack: list[tuple[_Node, int, tuple[str, ...]]] = [(self._root, 0, ())]
        for _ in range(_MAX_STEPS):
            if not stack:
                return
            node, depth, values = stack.pop()
            children = node.children
            if depth == len(decoded):
                for entry in children.ended:
                    yield entry, values
                continue
            segment = decoded[depth]
            if children.rest.entries and any(decoded[depth:]):  # pushed first: tried last
                rest = "/".join(decoded[depth:])
                stack.append((children.rest, len(decoded), (*values, rest)))
            if children.parameter.entries and segment:
                stack.append((children.parameter, depth + 1, (*values, segment)))
            if children.mixed:
                for literals in sorted(children.mixed, key=lambda texts: sum(map(len, texts))):
                    found = _match_mixed(literals, segment)
                    if found is not None:
                        stack.append((children.mixed[literals], depth + 1, (*values, *found)))
            if segment in children.static:
                stack.append((children.static[segment], depth + 1, values))

    def _no_path(self, path: str) -> NoOperation:
        nearest = self._nearest(path)
        return NoOperation(
            f"no path of {self.document.path} matches {path}; nearest: {some(nearest) or 'none'}.",
            keyword="path",
            candidates=nearest,
        )

    def _nearest(self, path: str) -> tuple[str, ...]:
        wanted = path.split("/")[1:]

        def likeness(template: str) -> float:
            have = template.split("/")[1:]
            same = sum(
                0.9 if "{" in b else difflib.SequenceMatcher(None, a, b).ratio()
                for a, b in zip(wanted, have, strict=False)
            )
            return same / max(len(wanted), len(have))

        short = [e.template for e in self._entries if abs(e.template.count("/") - len(wanted)) <= 1]
        near = sorted(((likeness(t), t) for t in set(short[:5000])), key=lambda p: (-p[0], p[1]))
        return tuple(template for score, template in near[:_CANDIDATES] if score >= 0.6)


class _Server:
    """A server URL as a pattern: its host, and the base path."""

    def __init__(self, url: str, variables: Any) -> None:
        self.url = url
        variables = variables if isinstance(variables, dict) else {}
        text = url if url.startswith("/") or "://" in url else "/" + url
        scheme, slashes, rest = text.partition("://")
        self._ports: tuple[str, ...] = ("",)
        if slashes:
            netloc, _, base = rest.partition("/")
            if ":{" in netloc:  # the port may be the default one, which calls leave out
                known = {_PORTS.get(scheme.lower(), 80), _PORTS.get(scheme.lower(), 443)}
                self._ports += tuple(f":{port}" for port in known)
            pattern = re.compile(_pattern(_host(scheme, netloc), variables), re.IGNORECASE)
            self._host: re.Pattern[str] | None = pattern
        else:
            base, self._host = text, None
        base = base.strip("/")
        self._base = re.compile(_pattern(f"/{base}" if base else "", variables))

    def serves(self, host: str) -> bool:
        """Say whether the host of a URL is this server's; without a host on either side it is."""
        if not host or self._host is None:
            return True
        ports = self._ports if ":" not in host else ("",)
        return any(self._host.fullmatch(host + port) for port in ports)

    def matches(self, host: str, path: str) -> str | None:
        """Return the part of ``path`` that is this server's base path, None when it does not match.

        The scheme never counts.
        """
        if not self.serves(host):
            return None
        found = self._base.match(path)
        if found is None or path[found.end() : found.end() + 1] not in ("", "/"):
            return None
        return found.group()


def _path(template: str) -> str:
    """Return a path template without the query or fragment that some have."""
    return template.partition("#")[0].partition("?")[0]


def _split(url: str) -> tuple[str, str, str]:
    """Return the host without credentials and default port, the path, and the query of a URL."""
    location, _, query = url.partition("#")[0].partition("?")
    scheme, slashes, rest = location.partition("://")
    if not slashes:
        return "", location if location.startswith("/") else "/" + location, query
    netloc, _, path = rest.partition("/")
    return _host(scheme, netloc), "/" + path, query


def _host(scheme: str, netloc: str) -> str:
    host = netloc.rpartition("@")[2]
    return host.removesuffix(f":{_PORTS.get(scheme.lower())}") if ":" in host else host


def _pattern(text: str, variables: Mapping[str, Any]) -> str:
    """Return ``text`` as a regular expression in which each ``{variable}`` matches its values."""
    parts = _PARAMETER.split(text)
    for i in range(1, len(parts), 2):
        node = variables.get(parts[i])
        node = node if isinstance(node, dict) else {}
        options = node.get("enum")
        default = node.get("default")
        if isinstance(options, list) and options:
            parts[i] = "(?:" + "|".join(re.escape(str(option)) for option in options) + ")"
        elif isinstance(default, str) and default:
            parts[i] = f"(?:{re.escape(default.strip('/'))}|[^/]+)"
        else:
            parts[i] = "[^/]*" if default == "" else "[^/]+"
    for i in range(0, len(parts), 2):
        parts[i] = re.escape(parts[i])
    return "".join(parts)


def _match_mixed(literals: Sequence[str], segment: str) -> tuple[str, ...] | None:
    """Return the parameters between ``literals`` in ``segment``; each at least one character.

    Each literal is looked for at its leftmost place, the last one at the end: linear time.
    """
    first, last = literals[0], literals[-1]
    if not segment.startswith(first) or not segment.endswith(last):
        return None
    values = []
    start, end = len(first), len(segment) - len(last)
    for literal in literals[1:-1]:
        found = segment.find(literal, start + 1, end)
        if found < 0:
            return None
        values.append(segment[start:found])
        start = found + len(literal)
    if start >= end:
        return None
    return (*values, segment[start:end])


def _origin(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}" if slashes else url
