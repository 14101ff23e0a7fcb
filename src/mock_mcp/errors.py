"""The error tree and its code table.

Every error this project raises on purpose derives from `MockMcpError` and carries a stable
``code`` (a word for programs and documentation). Errors that cross the control channel also carry
``rpc_code``, the JSON-RPC number of DESIGN section 4. Programs dispatch on the class or the code,
never on the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from mock_mcp.types import Violation

__all__ = [
    "AlreadyRunning",
    "BatchExpired",
    "BatchGivenUp",
    "BatchRefused",
    "ClaimMismatch",
    "ClientClosed",
    "ConfigurationError",
    "ContractViolation",
    "ContractWarning",
    "DaemonStartFailed",
    "DaemonUnreachable",
    "DroppedValueWarning",
    "FileError",
    "ForkedClient",
    "InsecurePath",
    "InternalError",
    "InvalidMessage",
    "InvalidParams",
    "LeaseEnded",
    "LimitExceeded",
    "MethodNotFound",
    "MissingExtra",
    "MockMcpDisabled",
    "MockMcpError",
    "MocksMismatch",
    "NotClaimed",
    "ParseError",
    "RequestTimeout",
    "RunReplaced",
    "Unauthorized",
    "UnknownBatch",
    "UnknownRun",
    "UnusableContract",
    "VersionMismatch",
    "error_from_rpc",
]


class MockMcpError(Exception):
    """Base of every error of this project.

    Args:
        message: What happened, to what, and what to do next.
    """

    code: ClassVar[str] = "error"
    rpc_code: ClassVar[int | None] = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def data(self) -> Mapping[str, Any] | None:
        """What a program can read beside the message, as JSON; None when there is nothing."""
        return None


class DroppedValueWarning(UserWarning):
    """A value that is not JSON was left out of a request; the message names its path."""


class ContractWarning(UserWarning):
    """A request or an answer breaks its contract where the mode is ``warn``."""


# -- The control channel and the broker (DESIGN section 4) ------------------------------------


class InvalidMessage(MockMcpError):
    """The bytes are not a message of the protocol: malformed JSON or the wrong shape."""

    code = "invalid-message"
    rpc_code = -32600


class ParseError(InvalidMessage):
    """The bytes are not JSON."""

    code = "parse-error"
    rpc_code = -32700


class MethodNotFound(MockMcpError):
    """The control channel has no such method."""

    code = "method-not-found"
    rpc_code = -32601


class InvalidParams(MockMcpError):
    """A parameter is missing, has the wrong type or lies outside its range."""

    code = "invalid-params"
    rpc_code = -32602


class InternalError(MockMcpError):
    """The daemon failed; its log says why. Nothing was changed."""

    code = "internal-error"
    rpc_code = -32603


class UnknownBatch(MockMcpError):
    """No such batch: it was answered, cancelled, or its run ended."""

    code = "unknown-batch"
    rpc_code = -32000


class UnknownRun(MockMcpError):
    """No such run: its test process is not connected."""

    code = "unknown-run"
    rpc_code = -32000


class ClaimMismatch(MockMcpError):
    """The batch is claimed by another responder, or the claim token is not the current one."""

    code = "claim-mismatch"
    rpc_code = -32001


class NotClaimed(MockMcpError):
    """The operation needs a claim and the batch has none."""

    code = "not-claimed"
    rpc_code = -32002


class MocksMismatch(MockMcpError):
    """The mocks do not match the batch: exactly one mock per request is required."""

    code = "mocks-mismatch"
    rpc_code = -32002


class LeaseEnded(MockMcpError):
    """The claim's lease ran out before the operation."""

    code = "lease-ended"
    rpc_code = -32003


class ContractViolation(MockMcpError):
    """A mock or a request breaks the API's contract.

    ``violations`` lists every broken rule; ``accepted`` holds the ids of the mocks that were valid.
    """

    code = "contract-violation"
    rpc_code: ClassVar[int | None] = -32004

    def __init__(
        self,
        message: str,
        violations: Sequence[Violation] = (),
        accepted: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.violations = tuple(violations)
        self.accepted = tuple(accepted)

    @property
    def data(self) -> Mapping[str, Any]:
        """The violations and the accepted request ids, as the wire carries them."""
        return {"violations": self.violations, "accepted": list(self.accepted)}


class UnusableContract(MockMcpError):
    """A registered contract cannot be used, so no answer was delivered; its test was told why."""

    code = "unusable-contract"
    rpc_code = -32000  # the batch is over, as for any client that does not know this code


class LimitExceeded(MockMcpError):
    """A named limit was reached; the message names the limit and its value."""

    code = "limit-exceeded"
    rpc_code = -32005


class Unauthorized(MockMcpError):
    """The control token is missing or wrong (HTTP 401)."""

    code = "unauthorized"
    rpc_code = -32600


# -- The test side ----------------------------------------------------------------------------


class MockMcpDisabled(MockMcpError):
    """Mocks were requested while ``MOCK_MCP`` is not set."""

    code = "disabled"


class RequestTimeout(MockMcpError):
    """Nobody answered a request within its timeout.

    It is no ``TimeoutError`` on purpose: that is an ``OSError``, which HTTP libraries take for a
    broken connection, wrap in errors of their own, and retry, each time for the whole timeout.
    """

    code = "request-timeout"


class BatchRefused(MockMcpError):
    """The daemon refused a batch; the message carries its reason."""

    code = "batch-refused"


class BatchGivenUp(MockMcpError):
    """Every responder that claimed the batch ended its claim without an answer."""

    code = "given-up"


class BatchExpired(MockMcpError):
    """A batch waited for its whole time to live and nobody answered it."""

    code = "batch-expired"


class ClientClosed(MockMcpError):
    """The client was closed while, or before, the request waited."""

    code = "client-closed"


class RunReplaced(MockMcpError):
    """A newer session took over this run; this client must not reconnect."""

    code = "run-replaced"


class ForkedClient(MockMcpError):
    """The client was used in a forked child of the process that connected it."""

    code = "forked-client"


# -- Finding and starting the daemon ----------------------------------------------------------


class DaemonUnreachable(MockMcpError):
    """No daemon answered: none is running, or it is too slow."""

    code = "daemon-unreachable"


class DaemonStartFailed(MockMcpError):
    """The daemon process could not be started; the message quotes its reason."""

    code = "daemon-start-failed"


class AlreadyRunning(MockMcpError):
    """Another daemon serves the project; nothing was started."""

    code = "already-running"


class VersionMismatch(MockMcpError):
    """The peer speaks another revision of the protocol, or is another implementation."""

    code = "version-mismatch"


class InsecurePath(MockMcpError):
    """A file or directory that must be private is not; the message says what to repair."""

    code = "insecure-path"


class ConfigurationError(MockMcpError):
    """A setting cannot be used: an environment variable, an argument or a configuration file."""

    code = "configuration"


class FileError(MockMcpError):
    """A file, or one place in it, cannot be used; the message names both.

    Args:
        file: The file, as text a person recognises.
        reason: What is wrong there and what to do.
        line: Line of the place, from 1, when the text itself is malformed.
        path: JSON path of the place (``$.interactions[0].response.status``), when it is not.
    """

    code = "file"

    def __init__(
        self, file: object, reason: str, *, line: int | None = None, path: str | None = None
    ) -> None:
        place = f"{file}:{line}" if line is not None else str(file)
        super().__init__(f"{place}: {f'{path}: ' if path else ''}{reason}")
        self.file = str(file)
        self.line = line
        self.path = path
        self.reason = reason

    @property
    def data(self) -> Mapping[str, Any]:
        """The file, the place in it and the reason."""
        return {"file": self.file, "line": self.line, "path": self.path, "reason": self.reason}


class MissingExtra(MockMcpError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""

    code = "missing-extra"


_BY_CODE: dict[str, type[MockMcpError]] = {}


def _collect(cls: type[MockMcpError]) -> None:
    for sub in cls.__subclasses__():
        _BY_CODE[sub.code] = sub
        _collect(sub)


_collect(MockMcpError)

_BY_RPC_CODE: dict[int, type[MockMcpError]] = {
    -32700: ParseError,
    -32600: InvalidMessage,
    -32601: MethodNotFound,
    -32602: InvalidParams,
    -32603: InternalError,
    -32000: UnknownBatch,
    -32001: ClaimMismatch,
    -32002: NotClaimed,
    -32003: LeaseEnded,
    -32005: LimitExceeded,
}


def error_from_rpc(rpc_code: int, message: str, code: str | None = None) -> MockMcpError:
    """Return the typed error for a JSON-RPC error object.

    Args:
        rpc_code: The JSON-RPC number (DESIGN section 4).
        message: The peer's message, kept as it is.
        code: The stable code from ``error.data.code`` when the peer sent one; it is more exact.

    Returns:
        An instance of the matching class; `InternalError` for a number nobody documents.
    """
    cls = _BY_CODE.get(code) if code is not None else None
    if cls is None or cls is ContractViolation or cls.rpc_code != rpc_code:
        cls = _BY_RPC_CODE.get(rpc_code, InternalError)
    return cls(message)
