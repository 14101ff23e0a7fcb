"""How the calls of one test are treated, and which mode the surroundings allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import msgspec

from mock_mcp.client.police import ContractMode, OpenApi
from mock_mcp.errors import ConfigurationError
from mock_mcp.recordings.match import DEFAULT_MATCH, BeforeMatch, RequestMatcher
from mock_mcp.recordings.store import BeforeRecord
from mock_mcp.runtime.cache import is_on

__all__ = [
    "MODES",
    "SOURCES",
    "Mode",
    "ScopeSettings",
    "Source",
    "make_settings",
    "resolve_mode",
]

Mode = Literal["none", "once", "new_episodes", "all", "rewrite"]
MODES: tuple[Mode, ...] = get_args(Mode)
Source = Literal["ai", "example", "live"]
SOURCES: tuple[Source, ...] = get_args(Source)


class ScopeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of one test are treated; `make_settings` checks the values.

    Attributes:
        mode: Whether to replay or obtain (DESIGN section 8).
        source: Where new answers come from.
        timeout_s: Seconds a call waits for the assistant; None for ever.
        instructions: What the assistant is told about the test's data.
        openapi: Documents beside the project's.
        contract: How violations are treated; the project's setting when None.
        match, ignore, before_match: When a call is a recorded one; see `Matching`.
        before_record: Hooks on what is recorded.
        redact: More names of secret fields; None switches redaction off.
        response_headers: More headers of the real API's answers to record.
        hosts, passthrough: Which hosts are mocked, and which may be reached; see `HostRules`.
    """

    mode: Mode = "none"
    source: Source = "ai"
    timeout_s: float | None = 600.0
    instructions: str | None = None
    openapi: tuple[OpenApi, ...] = ()
    contract: ContractMode | None = None
    match: tuple[str | RequestMatcher, ...] = DEFAULT_MATCH
    ignore: tuple[str, ...] = ()
    before_match: BeforeMatch | None = None
    before_record: tuple[BeforeRecord, ...] = ()
    redact: tuple[str, ...] | None = ()
    response_headers: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    passthrough: tuple[str, ...] = ()


def make_settings(values: Mapping[str, Any]) -> ScopeSettings:
    """Return settings made of fields of `ScopeSettings`; a list of one may be written without it.

    Raises:
        ConfigurationError: A name is unknown, or a value is of the wrong kind.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _CHECKS:
            raise ConfigurationError(
                f"{name!r} is no setting of mock-mcp; known are {', '.join(_CHECKS)}."
            )
        found[name] = _CHECKS[name](name, value)
    return ScopeSettings(**found)


def resolve_mode(asked: str | None, chosen: str | None = None, *, asks_nobody: bool) -> Mode:
    """Return the mode that holds.

    What was asked on the command line holds. Otherwise nothing is obtained where ``CI`` is set or
    nobody said that it may be: ``MOCK_MCP`` is not set, and ``asks_nobody`` is False.

    Args:
        asked: The command line's.
        chosen: That of the project or the test; ``once`` when None.
        asks_nobody: Whether the command line names a source that needs no assistant, or starts a
            responder.

    Raises:
        ConfigurationError: One of them is no mode.
    """
    for value in (asked, chosen):
        if value is not None:
            _one_of(MODES)("mode", value)
    if asked is not None:
        return asked  # type: ignore[return-value]
    if is_on("CI") or not (is_on("MOCK_MCP") or asks_nobody):
        return "none"
    return chosen or "once"  # type: ignore[return-value]


# -- Checks of one value ----------------------------------------------------------------------

_Check = Callable[[str, Any], Any]


def _one_of(values: tuple[str, ...]) -> _Check:
    def check(name: str, value: Any) -> Any:
        if value not in values:
            raise ConfigurationError(f"{name} must be one of {', '.join(values)}, not {value!r}.")
        return value

    return check


def _seconds(name: str, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < float("inf")):
        raise ConfigurationError(
            f"{name.removesuffix('_s')} must be a positive number of seconds, not {value!r}."
        )
    return value


def _single(what: str, accepts: Callable[[Any], bool]) -> _Check:
    def check(name: str, value: Any) -> Any:
        if value is not None and not accepts(value):
            raise ConfigurationError(f"{name} must be {what}, not {value!r}.")
        return value

    return check


def _several(what: str, accepts: Callable[[Any], bool], *, optional: bool = False) -> _Check:
    def check(name: str, value: Any) -> Any:
        if optional and (value is None or value is False):
            return None
        items = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
        for item in items:
            if not accepts(item):
                raise ConfigurationError(f"{name} must be {what}, or a list of it, not {value!r}.")
        return items

    return check


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_document(value: Any) -> bool:
    return isinstance(value, str | os.PathLike | Mapping)


_text = _several("text", _is_text)
_CHECKS: dict[str, _Check] = {
    "mode": _one_of(MODES),
    "source": _one_of(SOURCES),
    "timeout_s": _seconds,
    "instructions": _single("text", _is_text),
    "openapi": _several('a path or {"path": …, "server": …}', _is_document),
    "contract": lambda name, value: value and _one_of(get_args(ContractMode))(name, value),
    "match": _several("text or a function", lambda value: _is_text(value) or callable(value)),
    "ignore": _text,
    "before_match": _single("a function", callable),
    "before_record": _several("a function", callable),
    "redact": _several("text", _is_text, optional=True),
    "response_headers": _text,
    "hosts": _several("text", _is_text, optional=True),
    "passthrough": _text,
}
