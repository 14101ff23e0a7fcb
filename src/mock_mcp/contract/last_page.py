"""Make a sample the last page of its list.

A client that follows pages asks on until an answer says that nothing follows. A sample would name
one made-up page after another without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from mock_mcp.words import plain

__all__ = ["end_pages"]

_FOLLOWS = re.compile(
    r"(?:odata|@odata\.)?next(?:page|start|pagestart|results?)?(?:cursor|token|link|url|uri|href"
    r"|marker|key|offset|number)?|hasmore(?:items|results|pages)?|hasnext(?:page)?|more"
    r"|moreresults(?:available)?|(?:is)?truncated|continue|(?:next)?continuationtoken"
    r"|lastevaluatedkey|pagetoken|cursor"
)
_ENDS = re.compile(r"(?:is)?last(?:page)?|done|nomore")
"""What is true of the last page, where it is a boolean."""
_COUNTS = re.compile(r"(?:total|num|number(?:of)?)pages|pagecount|lastpage")


def end_pages(data: Any, is_valid: Callable[[Any], bool]) -> None:
    """Let a sample say, in place, that no page follows, as far as it stays valid.

    Only an answer with a list in it is a page. What says so stands beside the list or in an object
    beside it (``links``, ``meta``, ``page_info``).

    Args:
        data: A valid body.
        is_valid: Tells whether a body is valid.
    """
    if not isinstance(data, dict) or not any(_lists(data)):
        return
    for part in (data, *(each for each in data.values() if isinstance(each, dict))):
        for name, before in list(part.items()):
            for after in _endings(plain(name), before):
                if after is _ABSENT:
                    del part[name]
                else:
                    part[name] = after
                if is_valid(data):
                    break
                part[name] = before


_ABSENT = object()


def _endings(name: str, value: Any) -> Iterator[Any]:
    """Yield what a property may be on the last page, the likeliest first."""
    if isinstance(value, bool):
        if _FOLLOWS.fullmatch(name) or _ENDS.fullmatch(name):
            yield _ENDS.fullmatch(name) is not None
    elif _FOLLOWS.fullmatch(name) and not isinstance(value, list):
        yield from (None, _ABSENT, "")
    elif _COUNTS.fullmatch(name) and isinstance(value, int):
        yield 1


def _lists(data: dict[str, Any]) -> Iterator[bool]:
    for value in data.values():
        yield isinstance(value, list)
        if isinstance(value, dict):
            yield any(isinstance(inner, list) for inner in value.values())
