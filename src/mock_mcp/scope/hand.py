"""Answers that a test writes by hand (`Scope.add_response`)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mock_mcp.client.police import ContractMode
from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.exchange import FailureKind, TransportFailure
from mock_mcp.scope.call import Call
from mock_mcp.types import Mock

__all__ = ["HandWritten", "UnusedResponse"]

_METHOD = re.compile(r"\*|[!#$%&'+.^_`|~0-9A-Za-z-]+")
_URL = re.compile(r"/|\*|[A-Za-z][A-Za-z0-9+.-]*://")


class UnusedResponse(MockMcpError):
    """A hand-written answer was never asked for."""

    code = "unused-response"


class HandWritten:
    """The hand-written answers to one kind of call; see `Scope.add_response` for the arguments."""

    def __init__(
        self,
        method: str,
        url: str | re.Pattern[str],
        data: Any,
        *,
        status: int,
        headers: Mapping[str, str | Sequence[str]] | None,
        delay_ms: float | None,
        sequence: Iterable[Any] | None,
        error: FailureKind | str | None,
        repeat: bool,
        optional: bool,
        contract: ContractMode | None,
    ) -> None:
        shown = url.pattern if isinstance(url, re.Pattern) else url
        self.name = f"add_response({method!r}, {shown!r})"
        self.contract = contract
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise ConfigurationError(f"{self.name}: a method is a word such as GET, or * for any.")
        if isinstance(url, str) and not _URL.match(url):
            raise ConfigurationError(
                f"{self.name}: no call has this URL; write a whole one "
                "(https://api.example.com/x), a path (/x), or begin with * for any characters."
            )
        if data is not None and sequence is not None:
            raise ConfigurationError(f"{self.name}: give data or a sequence, not both.")
        if error is not None and any(
            part is not None for part in (data, sequence, headers, delay_ms)
        ):
            raise ConfigurationError(
                f"{self.name}: a call that fails has no answer; leave out error or everything else."
            )
        self._method = method.upper()
        self._is_match = _pattern(url)
        is_path = isinstance(url, str) and url.startswith("/")
        self._is_end_of_path = _pattern(f"*{url}") if is_path else None
        self._error = _failure_kind(error)
        self._answers = [data] if sequence is None else list(sequence)
        if not self._answers:
            raise ConfigurationError(f"{self.name}: sequence is empty; give at least one body.")
        self._fields: dict[str, Any] = {
            "status": status,
            "headers": headers
            and {
                name: value if isinstance(value, str) else list(value)
                for name, value in headers.items()
            },
            "delay_ms": delay_ms,
        }
        self._repeat = repeat
        self._optional = optional
        self._uses = 0
        self._lock = threading.Lock()

    def take(self, call: Call) -> Callable[[], Mock] | None:
        """Return a function that answers a call, which counts as answered; None: not this one's.

        The function raises `TransportFailure` when the call shall fail.
        """
        if self._method not in (call.method.upper(), "*") or not self._is_match(call.url):
            return None
        with self._lock:
            if not self._repeat and self._uses >= len(self._answers):
                return None
            data = self._answers[min(self._uses, len(self._answers) - 1)]
            self._uses += 1
        return lambda: self._answer(call, data)

    def explain(self, call: Call) -> str | None:
        """Return why it did not answer a call that it looks written for; None when it does not."""
        if not self._is_match(call.url):
            if self._is_end_of_path is None or not self._is_end_of_path(call.url):
                return None
            return f"{self.name} is for a path that begins so; put * before it for any beginning."
        if self._method not in (call.method.upper(), "*"):
            return f"{self.name} is for another method."
        count = len(self._answers)
        often = "its answer is" if count == 1 else f"all {count} answers of its sequence are"
        return (
            f"{self.name} was for it, but {often} used up; add another, or pass repeat=True to "
            "give the last one again."
        )

    def check_used(self) -> None:
        """Check that the test asked for it.

        Raises:
            UnusedResponse: It did not, or not for the whole sequence.
        """
        wanted = 1 if self._repeat else len(self._answers)
        if self._uses >= wanted or self._optional:
            return
        often = "was never asked for"
        if self._uses:
            often = f"was asked for {self._uses} of {wanted} times"
        raise UnusedResponse(f"{self.name} {often}; remove it, or pass optional=True.")

    def _answer(self, call: Call, data: Any) -> Mock:
        if self._error is not None:
            raise TransportFailure(self._error)
        if callable(data):
            data = data(call)
        return data if isinstance(data, Mock) else Mock("", data, **self._fields)


def _pattern(url: str | re.Pattern[str]) -> Callable[[str], bool]:
    """Return what tells whether an absolute URL, or its path, is meant; queries in any order."""
    whole = url if isinstance(url, re.Pattern) else _wildcards(url)
    start, mark, query = ("", "", "") if isinstance(url, re.Pattern) else url.partition("?")
    before, pairs = _wildcards(start), [_wildcards(pair) for pair in _pairs(query)]

    def is_match(made: str) -> bool:
        path = urlsplit(made)._replace(scheme="", netloc="").geturl()
        plain = (made.partition("?")[0], path.partition("?")[0])
        if any(whole.fullmatch(text) for text in (made, path, *plain)):
            return True
        return (
            bool(mark)
            and any(before.fullmatch(text) for text in plain)
            and _fits(pairs, _pairs(urlsplit(made).query))
        )

    return is_match


def _wildcards(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def _pairs(query: str) -> list[str]:
    return [f"{name}={value}" for name, value in parse_qsl(query, keep_blank_values=True)]


def _fits(wanted: Sequence[re.Pattern[str]], made: Sequence[str]) -> bool:
    """Return whether each pattern has a text of its own, and none is left over."""
    if not wanted or len(wanted) != len(made):
        return len(wanted) == len(made)
    first, *others = wanted
    return any(
        first.fullmatch(text) and _fits(others, [*made[:index], *made[index + 1 :]])
        for index, text in enumerate(made)
    )


def _failure_kind(error: FailureKind | str | None) -> FailureKind | None:
    try:
        return None if error is None else FailureKind(error)
    except ValueError:
        known = ", ".join(FailureKind)
        raise ConfigurationError(f"error must be one of {known}, not {error!r}.") from None
