"""The messages of the test channel (DESIGN section 3): JSON objects in WebSocket text frames.

The structs are the field lists of the protocol. What this project adds to the 0.5 protocol is
optional everywhere, so that older peers are understood; a null on input means absent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from mock_mcp.errors import InvalidMessage
from mock_mcp.limits import Limits
from mock_mcp.types import Mock, MockRequest, TestMeta
from mock_mcp.wire.json import convert, decode, encode

__all__ = [
    "CAPABILITIES",
    "PROTOCOL",
    "BatchCancel",
    "BatchMockError",
    "BatchMockRequest",
    "BatchMockResult",
    "BatchResultAck",
    "CloseReason",
    "ErrorMessage",
    "Heartbeat",
    "HeartbeatAck",
    "HelloAck",
    "HelloTest",
    "InvalidBatch",
    "SubmittedBatch",
    "decode_from_client",
    "decode_from_daemon",
    "encode_message",
]

PROTOCOL = 1
"""This project's revision of the protocol; the 0.5 npm client and daemon send none."""

CAPABILITIES = ("ack", "errors", "resume")
"""What this daemon can do and this client asks for."""


class CloseReason:
    """The close codes and reasons of DESIGN section 3."""

    HELLO_TIMEOUT: ClassVar = (1008, "HELLO timeout")
    EXPECTED_HELLO: ClassVar = (1008, "Expected HELLO_TEST")
    INVALID_TOKEN: ClassVar = (1008, "Invalid token")
    SHUTTING_DOWN: ClassVar = (1001, "Daemon shutting down")
    REPLACED: ClassVar = (4001, "Replaced")


class InvalidBatch(InvalidMessage):
    """A ``BATCH_MOCK_REQUEST`` whose content is wrong: the batch is refused, not just the frame."""

    code = "invalid-batch"

    def __init__(self, message: str, batch_id: str | None) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class _Message(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, tag_field="type"):
    """A message; its ``type`` is the struct's tag."""


class HelloTest(_Message, frozen=True, tag="HELLO_TEST"):
    """C→D, first: who the run is."""

    token: str
    run_id: str
    pid: int | float
    cwd: str
    test_meta: TestMeta | None = None
    protocol: int | None = None
    capabilities: list[str] | None = None
    session: int | None = None
    open_batches: list[str] | None = None


class HelloAck(_Message, frozen=True, tag="HELLO_ACK"):
    """D→C: the run is attached."""

    run_id: str
    protocol: int | None = None
    daemon_id: str | None = None
    version: str | None = None
    capabilities: list[str] | None = None


class BatchMockRequest(_Message, frozen=True, tag="BATCH_MOCK_REQUEST"):
    """C→D: park these requests, each an encoded JSON object."""

    run_id: str
    requests: list[msgspec.Raw]
    batch_id: str | None = None


class SubmittedBatch(msgspec.Struct, frozen=True):
    """A decoded ``BATCH_MOCK_REQUEST``; the connection's run id wins over the message's."""

    requests: list[MockRequest]
    batch_id: str | None


class BatchMockResult(_Message, frozen=True, tag="BATCH_MOCK_RESULT"):
    """D→C: exactly one mock per request.

    ``rejections``, for clients with the capability ``ack`` and when there were any, counts the
    earlier answers that broke the contract and were not sent.
    """

    batch_id: str
    mocks: list[Mock]
    rejections: int | None = None


class BatchResultAck(_Message, frozen=True, tag="BATCH_RESULT_ACK"):
    """C→D: the result has arrived and may be forgotten."""

    batch_id: str


class BatchCancel(_Message, frozen=True, tag="BATCH_CANCEL"):
    """C→D: the test stopped waiting for these requests, or for the whole batch."""

    batch_id: str
    request_ids: list[str] | None = None


class BatchMockError(_Message, frozen=True, tag="BATCH_MOCK_ERROR"):
    """D→C: the batch was refused or given up; ``code`` is an error code of `mock_mcp.errors`."""

    batch_id: str
    code: str
    message: str


class Heartbeat(_Message, frozen=True, tag="HEARTBEAT"):
    """C→D: still here."""

    run_id: str | None = None


class HeartbeatAck(_Message, frozen=True, tag="HEARTBEAT_ACK"):
    """D→C: still here too."""

    run_id: str


class ErrorMessage(_Message, frozen=True, tag="ERROR"):
    """D→C: the last frame was not understood; the connection stays open."""

    code: str
    message: str


_FROM_CLIENT: Mapping[str, type[_Message]] = {
    "HELLO_TEST": HelloTest,
    "BATCH_RESULT_ACK": BatchResultAck,
    "BATCH_CANCEL": BatchCancel,
    "HEARTBEAT": Heartbeat,
}
_FROM_DAEMON: Mapping[str, type[_Message]] = {
    "HELLO_ACK": HelloAck,
    "BATCH_MOCK_RESULT": BatchMockResult,
    "BATCH_MOCK_ERROR": BatchMockError,
    "HEARTBEAT_ACK": HeartbeatAck,
    "ERROR": ErrorMessage,
}


class _RequestFields(msgspec.Struct, rename="camel"):
    """The typed fields of a request."""

    request_id: str
    endpoint: str
    method: str


class _BatchFields(msgspec.Struct, rename="camel"):
    """The typed fields of a batch."""

    requests: list[_RequestFields]
    batch_id: str | None = None


class _RawRequests(msgspec.Struct):
    """The same batch with its requests as the bytes that came."""

    requests: list[msgspec.Raw]


_decode_raw_requests = msgspec.json.Decoder(_RawRequests).decode
_OPTIONAL = ("body", "headers", "metadata", "contract")
_SCHEMAS = frozenset(("schema", "schemaUrl"))


def encode_message(message: _Message) -> bytes:
    """Encode a message as the UTF-8 text of one frame."""
    return encode(message)


def decode_from_client(text: bytes, limits: Limits) -> _Message | SubmittedBatch:
    """Decode a frame that a test sent.

    Raises:
        InvalidBatch: A batch whose content is wrong.
        InvalidMessage: Anything else that is not a message of this protocol.
        LimitExceeded: Nested deeper than ``limits.depth``.
    """
    value, kind = _open(text, limits.depth)
    if kind == "BATCH_MOCK_REQUEST":
        return _decode_batch(text, value, limits)
    return _convert(value, kind, _FROM_CLIENT)


def decode_from_daemon(text: bytes, limits: Limits) -> _Message | None:
    """Decode a frame that the daemon sent; None for a message this revision does not know.

    Raises:
        InvalidMessage, LimitExceeded: As `decode_from_client`.
    """
    value, kind = _open(text, limits.depth)
    return _convert(value, kind, _FROM_DAEMON) if kind in _FROM_DAEMON else None


def _open(text: bytes, depth: int) -> tuple[dict[str, Any], str]:
    value = decode(text, depth)
    if not isinstance(value, dict):
        raise InvalidMessage("A message is a JSON object with a string field 'type'.")
    kind = value.get("type")
    if not isinstance(kind, str):
        raise InvalidMessage("The message has no string field 'type'.")
    return value, kind


def _convert(value: dict[str, Any], kind: str, known: Mapping[str, type[_Message]]) -> _Message:
    cls = known.get(kind)
    if cls is None:
        raise InvalidMessage(
            f"Unknown message type {kind[:80]!r}; known are {', '.join(sorted(known))}."
        )
    return convert(value, cls)


def _decode_batch(text: bytes, value: dict[str, Any], limits: Limits) -> SubmittedBatch:
    batch_id = value.get("batchId")
    try:
        fields = convert(value, _BatchFields)
        raws = _decode_raw_requests(text).requests
    except InvalidMessage as exc:
        shown = batch_id if isinstance(batch_id, str) else None
        raise InvalidBatch(f"BATCH_MOCK_REQUEST: {exc.message}", shown) from None
    requests = []
    for index, (typed, raw) in enumerate(zip(fields.requests, raws, strict=True)):
        if not 0 < len(typed.request_id) <= limits.id_chars:
            raise InvalidBatch(
                f"requestId must have 1 to {limits.id_chars} characters - at `$.requests[{index}]`",
                fields.batch_id,
            )
        request = value["requests"][index]
        requests.append(
            MockRequest(
                typed.request_id,
                typed.endpoint,
                sys.intern(typed.method),  # very many may be parked
                _without_nulls(request, raw),
                _names_contract(request),
            )
        )
    return SubmittedBatch(requests, fields.batch_id)


def _names_contract(request: dict[str, Any]) -> bool:
    metadata, contract = request.get("metadata"), request.get("contract")
    return (isinstance(metadata, dict) and not _SCHEMAS.isdisjoint(metadata)) or (
        isinstance(contract, dict) and "documents" in contract
    )


def _without_nulls(request: dict[str, Any], raw: msgspec.Raw) -> msgspec.Raw:
    """Return the request as it came, unless a null must be dropped: it means absent."""
    if None not in request.values():
        return raw
    kept = {k: v for k, v in request.items() if v is not None or k not in _OPTIONAL}
    return raw if len(kept) == len(request) else msgspec.Raw(encode(kept))
