"""One call that the code under test made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mock_mcp.recordings.format import RecordedInteraction, RecordedRequest

if TYPE_CHECKING:
    from mock_mcp.scope.ruling import Ruling

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """One call that the code under test made.

    ``body`` and ``data`` are in the forms of DESIGN section 6. ``status``, ``data`` and ``source``
    (``ai``, ``example``, ``live``, ``hand``, ``recording``) are those of its answer; None until it
    has one.
    """

    method: str
    url: str
    headers: Mapping[str, str | list[str]]
    body: Any
    number: int
    wire: dict[str, Any] = field(repr=False)
    """The request object, as the contract judges it."""
    recorded: RecordedRequest = field(repr=False)
    """The request, as the recording knows it."""
    name: str = field(repr=False)
    """Method and URL as messages show them: without secrets."""
    status: int | None = None
    data: Any = None
    source: str | None = None
    ruling: Ruling | None = field(default=None, repr=False)
    """What the contracts said of it when it was made; None when none can apply."""
    is_bodiless: bool = field(default=False, repr=False)
    """Whether the recorded answer has no body at all, which is not the same as ``null``."""
    replaces: RecordedInteraction | None = field(default=None, repr=False)
    """The recorded answer that no longer fits, when a new one is obtained for it."""
