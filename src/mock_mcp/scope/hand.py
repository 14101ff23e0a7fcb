"""Answers that a test writes by hand (`Scope.add_response`)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from mock_mcp.client.police import ContractMode
from mock_mcp.errors import ConfigurationError, MockMcpError
from mock_mcp.exchange import FailureKind, TransportFailure
from mock_mcp.scope.call import Call
from mock_mcp.types import Mock

__all__ = ["HandWritten", "UnusedResponse"]


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
        self.contract = contract
        self._name = f"{method!r}, {url.pattern if isinstance(url, re.Pattern) else url!r}"
        self._method = method.upper()
        if isinstance(url, str):
            url = re.compile(".*".join(re.escape(part) for part in url.split("*")))
        self._url = url
        self._error = _failure_kind(error)
        self._answers = [data] if sequence is None else list(sequence)
        if not self._answers:
            raise ConfigurationError("sequence is empty; give at least one body.")
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
        if self._method not in (call.method.upper(), "*") or not self._matches(call.url):
            return None
        with self._lock:
            if not self._repeat and self._uses >= len(self._answers):
                return None
            data = self._answers[min(self._uses, len(self._answers) - 1)]
            self._uses += 1
        return lambda: self._answer(call, data)

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
        raise UnusedResponse(
            f"add_response({self._name}) {often}; remove it, or pass optional=True."
        )

    def _matches(self, url: str) -> bool:
        path = urlsplit(url)._replace(scheme="", netloc="").geturl()
        texts = (url, url.partition("?")[0], path, path.partition("?")[0])
        return any(self._url.fullmatch(text) for text in texts)

    def _answer(self, call: Call, data: Any) -> Mock:
        if self._error is not None:
            raise TransportFailure(self._error)
        if callable(data):
            data = data(call)
        return data if isinstance(data, Mock) else Mock("", data, **self._fields)


def _failure_kind(error: FailureKind | str | None) -> FailureKind | None:
    try:
        return None if error is None else FailureKind(error)
    except ValueError:
        known = ", ".join(FailureKind)
        raise ConfigurationError(f"error must be one of {known}, not {error!r}.") from None
