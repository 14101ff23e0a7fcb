"""Make a sample agree with the call it answers.

A sample is valid, but the user read at ``/users/7`` would have any id. Strategy: what a call says
(its path and query parameters, the fields of its body) is looked for by name in the answer, and is
taken where the answer stays valid. Nothing is added, and nothing is invented.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from mock_mcp.contract.finder import Match
from mock_mcp.words import plain

__all__ = ["agree"]

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_BOOLEANS = {"true": True, "false": False}
_KEYS = ("id", "uuid", "number", "key", "slug", "code")
"""How the property is called that a path ends in: ``/issues/{issue_number}`` has a ``number``."""


class _Text(str):
    """A value out of a URL or a form: it takes the type of what it replaces."""

    __slots__ = ()


def agree(
    data: Any, request: Mapping[str, Any], match: Match, is_valid: Callable[[Any], bool]
) -> None:
    """Give a sample, in place, the values that the call has for its properties.

    An object gets them all; of several values for one name that of the path counts, then that of
    the body. The items of a list get those of the path and the query.

    Args:
        data: A valid body.
        request: The wire object.
        match: The operation and its path parameters.
        is_valid: Tells whether a body is valid.
    """
    path = {plain(name): _Text(value) for name, value in match.path_parameters.items()}
    query = parse_qsl(request["endpoint"].partition("#")[0].partition("?")[2])
    shared = {**{plain(name): _Text(value) for name, value in query}, **path}
    own = {**shared, **_sent(request.get("body")), **_named(match), **path}
    for part, said in _parts(data, own, shared):
        for name, before in part.items():
            value = _like(before, said.get(plain(name), before))
            if value == before:
                continue
            part[name] = value
            if not is_valid(data):
                part[name] = before


def _named(match: Match) -> dict[str, _Text]:
    """Return the value that the path ends in, under the name that its property may have.

    ``/customers/{customer}`` ends in the id of one.
    """
    *_, collection, last = "", *match.operation.path.rstrip("/").split("/")
    value = match.path_parameters.get(last[1:-1]) if last[:1] == "{" else None
    name = plain(last[1:-1])
    plurals = (f"{name}s", f"{name}es", f"{name[:-1]}ies")
    names = [key for key in _KEYS if name.endswith(key)]
    names += ["id"] if plain(collection).endswith(plurals) else []
    return {} if value is None or not names else {names[0]: _Text(value)}


def _sent(body: Any) -> dict[str, Any]:
    """Return the fields of a JSON object or a form, by their plain names."""
    if not isinstance(body, dict):
        return {}
    form = body.get("$form")
    if isinstance(form, dict):
        return {plain(n): _Text(value) for n, value in form.items() if isinstance(value, str)}
    return {plain(name): value for name, value in body.items()}


def _parts(
    data: Any, own: dict[str, Any], shared: dict[str, _Text]
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Yield each object that is looked at, and what the call says of it."""
    if isinstance(data, dict):
        yield data, own
    for part in data.values() if isinstance(data, dict) else [data]:
        for item in part if isinstance(part, list) else ():
            if isinstance(item, dict):
                yield item, shared


def _like(before: Any, value: Any) -> Any:
    """Return a text as a value like the one before it, that one if it cannot be read so."""
    if not isinstance(value, _Text):
        return value
    if isinstance(before, bool):
        return _BOOLEANS.get(value, before)
    if isinstance(before, int) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(before, float) and _NUMBER.fullmatch(value):
        return float(value)
    return str(value) if isinstance(before, str) else before
