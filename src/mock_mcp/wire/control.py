"""The control channel (DESIGN section 4): JSON-RPC 2.0 over ``POST /control``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mock_mcp.errors import InvalidMessage, InvalidParams, MethodNotFound, MockMcpError
from mock_mcp.types import Mock
from mock_mcp.wire.json import convert, decode, encode

__all__ = [
    "METHOD_OF",
    "TOKEN_HEADER",
    "BatchStatus",
    "CallRefused",
    "ClaimNextBatch",
    "GetBatch",
    "GetStatus",
    "ListBatches",
    "ListEvents",
    "ListRuns",
    "LogShown",
    "Params",
    "ProvideBatch",
    "ReleaseBatch",
    "RenewClaim",
    "Shutdown",
    "WaitForBatch",
    "decode_call",
    "encode_error",
    "encode_result",
    "http_status",
]

TOKEN_HEADER = "x-mock-mcp-token"  # noqa: S105 - the header's name, not a secret
DEFAULT_LEASE_MS = 30_000


BatchStatus = Literal["pending", "claimed", "fulfilled"]


class Params(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The parameters of one method."""


class GetStatus(Params, frozen=True):
    """No parameters."""


class ListRuns(Params, frozen=True):
    """No parameters."""


class ClaimNextBatch(Params, frozen=True):
    """Claim the oldest claimable batch, of one run or with one id if given."""

    adapter_id: str
    run_id: str | None = None
    lease_ms: float | None = None
    batch_id: str | None = None
    wait_ms: float | None = None


class GetBatch(Params, frozen=True):
    """Read one batch."""

    batch_id: str


class ProvideBatch(Params, frozen=True):
    """Answer a claimed batch with exactly one mock per request."""

    adapter_id: str
    batch_id: str
    claim_token: str
    mocks: list[Mock]


class ReleaseBatch(Params, frozen=True):
    """Give a claimed batch back."""

    adapter_id: str
    batch_id: str
    claim_token: str
    reason: str | None = None


class RenewClaim(Params, frozen=True):
    """Restart a lease."""

    adapter_id: str
    batch_id: str
    claim_token: str
    lease_ms: float | None = None


class WaitForBatch(Params, frozen=True):
    """Answer when something is claimable or ``wait_ms`` is over."""

    wait_ms: float
    run_id: str | None = None


class ListBatches(Params, frozen=True):
    """Read batches, of one run or one status if given; ``brief`` leaves metadata and bodies out."""

    run_id: str | None = None
    status: BatchStatus | None = None
    brief: bool = False


class ListEvents(Params, frozen=True):
    """Read what happened after the event ``after``, waiting for it at most ``wait_ms``."""

    after: int = 0
    wait_ms: float = 0


class LogShown(Params, frozen=True):
    """Have the batch log say what a model is about to read of these batches."""

    adapter_id: str
    batch_ids: list[str]
    tool: str
    text: str


class Shutdown(Params, frozen=True):
    """No parameters."""


_METHODS: Mapping[str, type[Params]] = {
    "getStatus": GetStatus,
    "listRuns": ListRuns,
    "claimNextBatch": ClaimNextBatch,
    "getBatch": GetBatch,
    "provideBatch": ProvideBatch,
    "releaseBatch": ReleaseBatch,
    "renewClaim": RenewClaim,
    "waitForBatch": WaitForBatch,
    "listBatches": ListBatches,
    "listEvents": ListEvents,
    "logShown": LogShown,
    "shutdown": Shutdown,
}
METHOD_OF: Mapping[type[Params], str] = {cls: name for name, cls in _METHODS.items()}

CallId = str | int | float | None


class CallRefused(Exception):
    """A call could not be decoded; ``call_id`` is what its answer must carry."""

    def __init__(self, error: MockMcpError, call_id: CallId) -> None:
        super().__init__(error.message)
        self.error = error
        self.call_id = call_id


def decode_call(text: bytes, depth: int) -> tuple[CallId, Params]:
    """Decode a request body into its id and typed parameters.

    Raises:
        CallRefused: With a `ParseError`, `InvalidMessage`, `MethodNotFound`, `InvalidParams` or
            `LimitExceeded` and the id to answer under (None when it could not be read).
    """
    call_id: CallId = None
    try:
        value = decode(text, depth)
        if not isinstance(value, dict):
            raise InvalidMessage("A call is one JSON-RPC 2.0 object; arrays are not supported.")
        found = value.get("id")
        if isinstance(found, str | int | float) and not isinstance(found, bool):
            call_id = found
        method = value.get("method")
        if value.get("jsonrpc") != "2.0" or not isinstance(method, str) or call_id is None:
            raise InvalidMessage(
                'A call needs "jsonrpc": "2.0", a string or number "id" and a string "method".'
            )
        cls = _METHODS.get(method)
        if cls is None:
            raise MethodNotFound(
                f"Unknown method {method[:80]!r}; known are {', '.join(_METHODS)}."
            )
        params = value.get("params")
        try:
            return call_id, convert({} if params is None else params, cls)
        except InvalidMessage as exc:
            raise InvalidParams(f"{method}: {exc.message}") from None
    except InvalidMessage as exc:
        raise CallRefused(exc, None) from None
    except MockMcpError as exc:
        raise CallRefused(exc, call_id) from None


def encode_result(call_id: CallId, result: Any) -> bytes:
    """Encode a successful answer."""
    return encode({"jsonrpc": "2.0", "id": call_id, "result": result})


def encode_error(call_id: CallId, error: MockMcpError) -> bytes:
    """Encode an error answer; ``error.data`` carries the stable code and what the class adds."""
    return encode(
        {
            "jsonrpc": "2.0",
            "id": call_id,
            "error": {
                "code": error.rpc_code or -32603,
                "message": error.message,
                "data": {"code": error.code, **(error.data or {})},
            },
        }
    )


def http_status(error: MockMcpError) -> int:
    """Return the HTTP status of an error answer: 400 for what is no call, 200 for the rest."""
    return 400 if isinstance(error, InvalidMessage) else 200
